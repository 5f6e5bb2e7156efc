"""Exact moments of every iterate by enumeration: any sketch, rule and number of local steps.

A step is affine in x for each outcome of the draw, x+ = A x + c + G (noise). With (x, 1) for x, the
second moment therefore follows a linear map, M+ = E[A^ M A^'], whose matrix is put together once
from all outcomes. The maps come from ``step`` itself, which is applied to the unit vectors; what it
costs grows as the number of outcomes and as d^4, so that it is for small n and d.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ist_jax.sharded.placement import each
from ist_jax.sketch import step
from ist_jax.sketch.matrices import Matrix, Real, Vector
from ist_jax.sketch.quadratics import Quadratics, settling
from ist_jax.sketch.sketch import Drawn, Sketch

AT_ONCE = 256  # outcomes


class Moves(NamedTuple):
    """What each of K outcomes does: x+ = A x + c + G e, with the noise e of all local steps."""

    chances: Float[np.ndarray, " K"]
    A: Float[np.ndarray, "K d d"]
    c: Float[np.ndarray, "K d"]
    G: Float[np.ndarray, "K d e"]


def moves(
    problem: Quadratics,
    sketch: Sketch,
    step_size: Real,
    rule: str = "step",
    local_steps: int = 1,
    noisy: bool = False,
) -> Moves:
    """The affine map of every outcome; G only if ``noisy``.

    Raises:
      InputError: there are too many outcomes.
    """
    chances, drawn = sketch.outcomes()
    with jax.enable_x64(True):
        apply = functools.partial(
            _ends, rule, local_steps, noisy, problem.L, problem.b, float(step_size)
        )
        parts = [
            Drawn(*(v[at : at + AT_ONCE] for v in drawn)) for at in range(0, len(chances), AT_ONCE)
        ]
        ends = np.concatenate([np.asarray(apply(part)) for part in parts])
    c, d = ends[:, 0], problem.d
    onward = (ends[:, 1:] - c[:, None]).swapaxes(1, 2)
    return Moves(chances, onward[:, :, :d], c, onward[:, :, d:])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _ends(rule, local_steps, noisy, L, b, step_size, drawn):
    """``[K, 1 + d + e, d]``: what becomes of 0, of the unit vectors, and of 0 with unit noises."""
    n, d = b.shape
    m = drawn.ids.shape[2]
    kicks = n * local_steps * m * noisy
    x = jnp.eye(1 + d + kicks, d, -1)
    noises = None
    if noisy:
        units = jnp.eye(1 + d + kicks, kicks, -1 - d).reshape(-1, n, local_steps, m)
        noises = jnp.moveaxis(units, 0, 2)

    def after(outcome):
        rows = Drawn(*(jnp.broadcast_to(v[:, None], (n, len(x), *v.shape[1:])) for v in outcome))
        alone = functools.partial(step.local, x=x, step_size=step_size, local_steps=local_steps)
        ends = each(alone)(L, b, rows, noises)
        return step.together(rule, jnp.asarray(rows.ids), x, *ends)

    return jax.vmap(after)(Drawn(*map(jnp.asarray, drawn)))


def trajectory(
    problem: Quadratics,
    sketch: Sketch,
    x0: ArrayLike,
    step_size: Real,
    steps: int,
    *,
    rule: str = "step",
    local_steps: int = 1,
    noise: Real = 0.0,
) -> tuple[Float[np.ndarray, "K d"], Float[np.ndarray, "K d d"]]:
    """The exact mean and covariance of x^0 .. x^steps.

    Raises:
      InputError: there are too many outcomes.
    """
    found = moves(problem, sketch, step_size, rule, local_steps, noise > 0)
    start, d = np.append(problem.point(x0), 1), problem.d
    hat = np.zeros((len(found.c), d + 1, d + 1))
    hat[:, :d, :d], hat[:, :d, d], hat[:, d, d] = found.A, found.c, 1
    onward = _squared(found.chances, hat)
    kick = np.zeros((d + 1, d + 1))
    kick[:d, :d] = noise**2 * np.einsum("k,kae,kbe->ab", found.chances, found.G, found.G)
    moments = [np.outer(start, start)]
    with settling(moments):
        for _ in range(steps):
            moments.append((onward @ moments[-1].ravel()).reshape(d + 1, d + 1) + kick)
        square = np.array(moments)
        mean = square[:, :d, d]
        return mean, square[:, :d, :d] - mean[:, :, None] * mean[:, None, :]


def mean_limit(
    problem: Quadratics, sketch: Sketch, step_size: Real, *, rule: str = "step", local_steps=1
) -> Vector:
    """Where the mean of the iterates tends to, if it does."""
    found = moves(problem, sketch, step_size, rule, local_steps)
    A, c = np.tensordot(found.chances, found.A, 1), found.chances @ found.c
    return np.linalg.solve(np.eye(problem.d) - A, c)


def growth(
    problem: Quadratics, sketch: Sketch, step_size: Real, rule: str, local_steps: int
) -> float:
    """The factor by which second moments grow in a step, in the long run: below 1 is stable."""
    found = moves(problem, sketch, step_size, rule, local_steps)
    onward: Matrix = _squared(found.chances, found.A)
    return float(np.abs(np.linalg.eigvals(onward)).max())


def _squared(chances: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The matrix of M -> E[A M A'], for M in rows."""
    size = A.shape[1] ** 2
    return np.einsum("k,kab,kcd->acbd", chances, A, A, optimize=True).reshape(size, size)
