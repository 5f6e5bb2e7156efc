"""Algorithm 1, distributed submodel gradient descent, on quadratics: many runs in one program.

``step`` is one iteration; here thousands of them run in one scan, for thousands of runs at once,
each with draws of its own. Workers may be spread over devices: each multiplies with its own L_i,
and what workers hold in the end is gathered and added up in their order, so that the results are
the same bits.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sharded import placement
from ist_jax.sharded.leaf_layout import WORKER
from ist_jax.sketch import stability, step
from ist_jax.sketch.matrices import Real
from ist_jax.sketch.quadratics import Quadratics, UnstableStep
from ist_jax.sketch.sketch import Drawn, Sketch
from ist_jax.sketch.sketches import fitting

FAR = 1e8  # times the start's and the solution's size: a run that is there has diverged


class Runs(NamedTuple):
    """What a call returns, in NumPy.

    Attributes:
      x: the last iterates, ``[runs, d]``.
      steps: the numbers of steps after which was measured, ``[T]``; the first is 0.
      measured: what ``measure`` returned, leaves ``[T, runs, ...]``.
    """

    x: Float[np.ndarray, "runs d"]
    steps: Int[np.ndarray, " T"]
    measured: Any


class Setting(NamedTuple):
    """What is static in a run's program."""

    sketch: Sketch
    rule: str
    local_steps: int
    noisy: bool
    mesh: Mesh | None


def run(
    problem: Quadratics,
    sketch: Sketch,
    x0: ArrayLike,
    key: Key[Array, ""],
    *,
    steps: int,
    step_size: Real,
    runs: int = 1,
    rule: str = "step",
    local_steps: int = 1,
    noise: Real = 0.0,
    every: int | None = None,
    measure: Callable[[Float[Array, " d"]], Any] = lambda x: x,
    mesh: Mesh | None = None,
) -> Runs:
    """Many runs with draws of their own, in one program.

    Args:
      problem: the quadratics.
      sketch: what each worker sees in a step.
      x0: where all runs start, ``[d]``, or each, ``[runs, d]``.
      key: run r draws with ``fold(key, r, "draw", k)`` in step k, as a trainer of the library with
        key ``fold(key, r)`` does in round k.
      steps: K, how many steps.
      step_size: gamma.
      runs: how many.
      rule: ``"step"``, ``"merge"`` or ``"copy"``.
      local_steps: tau.
      noise: local gradients get Gaussian noise of this standard deviation in each coordinate.
      every: how many steps lie between two measurements; it divides K. By default, K.
      measure: what is wanted of an iterate; compiled, and mapped over the runs.
      mesh: devices to spread the workers over (``workers.mesh(n, D)``): the same results.

    Raises:
      InputError: shapes or numbers that do not fit, an unknown rule.

    Warns:
      UnstableStep: the step size is not below the largest stable one, which is named; or it is not
        known whether it is; or runs have diverged.

    Example:
      >>> from ist_jax.sketch import quadratics, sketches
      >>> problem = quadratics.random(jax.random.key(0), n=2, d=4)
      >>> sketch = sketches.preconditioned(problem, q=2)
      >>> run(problem, sketch, np.ones(4), jax.random.key(1), steps=10, step_size=0.1).x.shape
      (1, 4)
    """
    every, first = steps if every is None else every, np.asarray(x0, np.float64)
    _check(problem, sketch, first, steps, step_size, runs, rule, local_steps, noise, every)
    _warn(problem, sketch, step_size, rule, local_steps)
    setting = Setting(sketch, rule, local_steps, noise > 0, mesh)
    with jax.enable_x64(True):
        keys = jax.vmap(lambda r: fold(key, r))(jnp.arange(runs, dtype=jnp.int32))
        start = jnp.broadcast_to(jnp.asarray(first), (runs, problem.d))
        arguments = problem.L, problem.b, start, keys, float(step_size), float(noise)
        out = _run(setting, measure, steps // every, every, *arguments)
        x, measured = jax.tree.map(np.asarray, out)
    _warn_of_divergence(problem, first, x)
    return Runs(x, np.arange(0, steps + 1, every), measured)


def _warn_of_divergence(problem: Quadratics, first: np.ndarray, x: np.ndarray) -> None:
    far = FAR * max(1.0, np.abs(first).max(), np.abs(problem.solution).max())
    if wrong := int((~(np.abs(x) < far)).any(1).sum()):
        warnings.warn(f"{wrong} of {len(x)} runs diverged", UnstableStep, stacklevel=3)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(setting, measure, times, every, L, b, x, keys, step_size, noise):
    whole: Callable[..., Any] = functools.partial(_all_steps, setting, measure, times, every)
    if setting.mesh is not None:
        one, split = placement.EVERYWHERE, placement.SPLIT
        inputs = (split, split, one, one, one, one)
        whole = placement.shard_map(whole, mesh=setting.mesh, in_specs=inputs, out_specs=(one, one))
    return whole(L, b, x, keys, step_size, noise)


def _all_steps(setting, measure, times, every, L, b, x, keys, step_size, noise):
    """The last iterates, and what was measured of the first and of every ``every``-th."""
    take = functools.partial(_one_step, setting, L, b, keys, step_size, noise)
    look = jax.vmap(measure)

    def stretch(x, number):
        x = lax.fori_loop(0, every, lambda i, x: take(x, number * every + i), x)
        return x, look(x)

    first = look(x)
    x, rest = lax.scan(stretch, x, jnp.arange(times, dtype=jnp.int32))
    return x, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)


def _one_step(setting, L, b, keys, step_size, noise, x, number):
    """x after one step; on a mesh, L and b are those of the device's own workers."""
    sketch, mesh = setting.sketch, setting.mesh
    draws = jax.vmap(lambda key: sketch.draw(fold(key, "draw", number)))(keys)
    drawn = Drawn(*(leaf.swapaxes(0, 1) for leaf in draws))  # [n, runs, m]
    noises = None
    if setting.noisy:
        shape = (sketch.n, setting.local_steps, drawn.ids.shape[2])
        white = lambda key: jax.random.normal(fold(key, "noise", number), shape, x.dtype)
        noises = noise * jnp.moveaxis(jax.vmap(white)(keys), 0, 2)  # [n, tau, runs, m]
    alone = functools.partial(step.local, x=x, step_size=step_size, local_steps=setting.local_steps)
    mine = drawn, noises
    if mesh is not None:
        own = sketch.n // placement.groups(mesh)
        at = lax.axis_index(WORKER) * own
        mine = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, at, own), mine)
    begun, ended = placement.each(alone)(L, b, *mine)
    if mesh is not None:
        begun, ended = (lax.all_gather(part, WORKER, tiled=True) for part in (begun, ended))
    return step.together(setting.rule, jnp.asarray(drawn.ids), x, begun, ended)


def _warn(problem, sketch, step_size, rule, local_steps):
    """Tells of a step size that is not stable, or not known to be, before anything runs."""
    how = {"rule": rule, "local_steps": local_steps}
    sure = stability.sure_step(problem, sketch, **how)
    if step_size < sure:
        return
    what = f"{sketch.name}, rule {rule!r}: step size {step_size:g} is not "
    try:
        simple = stability.in_closed_form(sketch, rule, local_steps)
        if not simple and stability.growth(problem, sketch, step_size, **how) < 1:
            return
        largest = stability.largest_step(problem, sketch, **how)
    except InputError:  # too many outcomes
        if sure:
            what += f"known to be stable; below {sure:.6g} none expands"
            warnings.warn(what, UnstableStep, stacklevel=3)
        return
    if not simple or step_size >= largest:
        what += f"below {largest:.6g}, from which on second moments of the iterates grow"
        warnings.warn(what, UnstableStep, stacklevel=3)


def _check(problem, sketch, x0, steps, step_size, runs, rule, local_steps, noise, every):
    fitting(problem, sketch)
    if x0.shape not in ((problem.d,), (runs, problem.d)):
        raise InputError(f"x0 must be [{problem.d}] or [{runs}, {problem.d}], found {x0.shape}")
    if not np.isfinite(x0).all():
        raise InputError("x0 holds a number that is not finite")
    if rule not in step.RULES:
        raise InputError(f"unknown rule {rule!r}; known: {', '.join(step.RULES)}")
    if not (np.isfinite(step_size) and step_size > 0):
        raise InputError(f"the step size must be a positive number, found {step_size}")
    if not (np.isfinite(noise) and noise >= 0):
        raise InputError(f"noise is a standard deviation, at least 0; found {noise}")
    for name, value in (("steps", steps), ("runs", runs), ("local_steps", local_steps)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, found {value}")
    if every < 1 or steps % every:
        raise InputError(f"every must divide the number of steps, {steps}; found {every}")
