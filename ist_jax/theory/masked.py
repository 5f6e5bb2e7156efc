"""The masked shallow ReLU network: f(x, W) = (xi / sqrt m) sum_r a_r relu(<w_r, x>).

|x| = 1, a_r = +-1 fixed, w_r ~ N(0, kappa^2 I), loss 1/2 |y - f|^2. A worker's surrogate is
(1 / sqrt m) sum_r mask_r a_r relu(<w_r, x>): without xi, the mean of the mask. Bernoulli masks give
every worker each neuron with probability xi; categorical masks give each neuron to exactly one of
p workers (xi = 1/p), which is IST: a round is then gather, train, scatter of this library on
``additive.assignment(masks)``. One worker and one step under Bernoulli masks is dropout.

With xi = 1, or one worker under categorical masks, every surrogate is the whole network, and the
error goes to exactly zero. Otherwise a surrogate differs from the network, and what is left after
many rounds is what ``rates`` bounds.

Source: Liao & Kyrillidis, "On the Convergence of Shallow Neural Network Training with Randomly
Masked Neurons", TMLR 2022 (the round: algorithm 1). Its m, p, tau, eta are ``width``,
``workers``, ``local_steps``, ``step`` here.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, ranges
from ist_jax.theory.additive import Draw, Problem


def shallow(
    weights: Float[Array, "N d"],
    signs: Float[Array, " N"],
    x: Float[Array | np.ndarray, "n d"],
) -> Float[Array, "n N"]:
    """What each neuron contributes: a_r relu(<w_r, x>)."""
    return jax.nn.relu(x @ weights.T) * signs


def sample(
    key: Key[Array, ""], examples: int, dimension: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """A problem to try: x uniform on the unit sphere, y standard normal, independent of x.

    Example:
      >>> x, y = sample(jax.random.key(0), examples=10, dimension=8)
      >>> x.shape, y.shape, x.dtype
      ((10, 8), (10,), dtype('float64'))
    """
    ranges.check(examples=examples, dimension=dimension)
    with jax.enable_x64(True):
        x = np.asarray(jax.random.normal(fold(key, "x"), (examples, dimension)))
        y = np.asarray(jax.random.normal(fold(key, "y"), (examples,)))
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def surrogate_gradient(
    weights: Float[Array, "N d"],
    signs: Float[Array, " N"],
    mask: Bool[Array, " N"],
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, " n"],
) -> Float[Array, "N d"]:
    """(mask_r a_r / sqrt m) sum_i (f_mask(x_i) - y_i) 1{<w_r, x_i> > 0} x_i for neuron r.

    In the types given: no float64 unless its caller turns it on. It is what the rounds'
    differentiated loss amounts to, written out.
    """
    held = signs * mask.astype(signs.dtype) / np.sqrt(len(signs))
    before = x @ weights.T
    residual = jax.nn.relu(before) @ held - y
    return held[:, None] * (((before > 0).astype(x.dtype) * residual[:, None]).T @ x)


def train(
    key: Key[Array, ""],
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, " targets"],
    *,
    draw: Draw = additive.categorical,
    workers: int,
    xi: float | None = None,
    width: int = 512,
    kappa: float = 1.0,
    local_steps: int = 1,
    rounds: int = 200,
    step: float = 0.5,
    seeds: int = 8,
    observe: Callable[..., Any] = additive.error,
) -> Any:
    """The error |y - u_k|^2 of the whole network after k = 0, ..., ``rounds`` rounds.

    Computed in float64 on a program of its own; the caller's types are left alone. A seed's start
    is the same for every xi, ``workers`` and ``local_steps``.

    Args:
      key: of starts and masks; seed s folds its own out of it.
      x: examples of norm 1.
      y: their targets.
      draw: ``additive.bernoulli`` or ``additive.categorical``.
      workers: p.
      xi: mean of a Bernoulli mask; 1/p under categorical masks, where it may be left out.
      width: m, neurons of the hidden layer.
      kappa: standard deviation of the weights at the start.
      local_steps: tau, gradient steps of a worker in a round.
      step: eta, the step size of those.
      seeds: how many runs, at once.
      observe: what else to look at, ``(contributions, net, masks, problem, xi) -> tree``.

    Returns:
      float64[seeds, rounds + 1], or a tree of arrays that begin so.

    Raises:
      InputError: numbers out of range, examples that are not of norm 1.

    Example:
      >>> x, y = sample(jax.random.key(0), examples=4, dimension=3)
      >>> error = train(jax.random.key(1), x, y, workers=2, width=64, rounds=20, seeds=3)
      >>> error.shape, bool((error[:, -1] < error[:, 0]).all())
      ((3, 21), True)
    """
    xi = mean_of(draw, workers, xi)
    ranges.check(width=width, kappa=kappa, local_steps=local_steps, rounds=rounds)
    ranges.check(step=step, seeds=seeds)
    problem = unit_problem(x, y)
    with jax.enable_x64(True):
        shape = width, problem.inputs.shape[1]
        sizes = {"local_steps": local_steps, "rounds": rounds, "seeds": seeds, "shape": shape}
        net = {"contributions": shallow, "draw": draw, "workers": workers, "observe": observe}
        seen = additive.run(key, problem, xi, kappa, step, **net, **sizes)
        return jax.tree.map(np.asarray, seen)


def mean_of(draw: Draw, workers: int, xi: float | None) -> float:
    """The mean of a mask, checked: 1/p under categorical masks, as given otherwise."""
    ranges.check(workers=workers)
    if draw is additive.categorical:
        if xi is not None and not np.isclose(xi, 1 / workers, rtol=1e-9):
            raise InputError(
                f"categorical masks of {workers} workers have xi = {1 / workers:g}; found xi={xi}. "
                f"Leave xi out, or draw Bernoulli masks."
            )
        return 1 / workers
    if xi is None:
        raise InputError("xi is missing: the mean of a Bernoulli mask, in (0, 1]")
    ranges.check(xi=xi)
    return float(xi)


def unit_problem(
    x: Float[Array | np.ndarray, "n ..."], y: Float[Array | np.ndarray, " targets"]
) -> Problem:
    """The data in float64, checked: as many targets as examples, and those of norm 1."""
    inputs, targets = np.asarray(x, np.float64), np.asarray(y, np.float64)
    ranges.check_shapes(len(inputs), {"y": targets.shape})
    ranges.check_unit("x", inputs)
    return Problem(inputs, targets)
