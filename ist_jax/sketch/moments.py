"""Closed forms: what a step does on average, where iterates tend to, and how far they scatter.

A step of rule ``step`` is x - gamma (Bbar x - Cb), with Bbar = (1/n) sum C_i L_i C_i and
Cb = (1/n) sum C_i b_i, (10). The mean of the iterates therefore tends to
x_inf = (E Bbar)^-1 E Cb, which is not x*: that is the bias of IST. The gradient of a quadratic is
affine, so that E grad f(C x) is grad f(x), and (6) is not its cause; E C L C is. Moments up to the
second follow from ``laws`` for every sketch and any size, without drawing or enumerating anything;
only the block form's Cb is enumerated.
"""

import itertools
import math
import warnings

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.sketch import laws, sketches
from ist_jax.sketch.matrices import Integer, Matrix, Real, Vector
from ist_jax.sketch.quadratics import Quadratics, UnstableStep, positive, settling
from ist_jax.sketch.sketch import MANY, Sketch, in_words


def expected_B(problem: Quadratics, sketch: Sketch | Integer) -> Matrix:
    """E Bbar; here and below, a number q stands for Perm-q.

    For Perm-q with d = q n it is n [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar], n Dbar for q = 1, (27).

    Example:
      >>> problem = Quadratics([[[2.0, 1.0], [1.0, 2.0]]] * 2, [[1.0, 1.0]] * 2)
      >>> expected_B(problem, 1).tolist()
      [[4.0, 0.0], [0.0, 4.0]]
    """
    sketch = sketches.fitting(problem, sketch)
    if sketch.weights is None:  # the block form: Bbar = I in every draw
        return np.eye(problem.d)
    return laws.first(sketch.support, sketch.factored(problem))


def expected_Cb(problem: Quadratics, sketch: Sketch | Integer) -> Vector:
    """E Cb; for the preconditioned Perm-1, n^-1/2 (1/n) sum D_i^-1/2 b_i, (14)."""
    sketch = sketches.fitting(problem, sketch)
    if sketch.weights is None:
        chances, Cb = _enumerated_Cb(problem, sketch)
        return chances @ Cb
    return sketch.support.alone(1) * (sketch.weights * problem.b).mean(0)


def second_B(problem: Quadratics, sketch: Sketch | Integer, M: Matrix | None = None) -> Matrix:
    """E[Bbar M Bbar] for a symmetric M; Lbar, as in (23), if there is none."""
    M = problem.Lbar if M is None else M
    sketch = sketches.fitting(problem, sketch)
    if sketch.weights is None:
        return M
    X = sketch.factored(problem)
    return laws.second(sketch.support, X, M, X)


def cross(problem: Quadratics, sketch: Sketch | Integer, m: Vector) -> Matrix:
    """E[Bbar m Cb']."""
    sketch = sketches.fitting(problem, sketch)
    if sketch.weights is None:
        return np.outer(m, expected_Cb(problem, sketch))
    ones = np.ones(problem.d)
    X, V = sketch.factored(problem), _diagonal(sketch.weights * problem.b)
    return laws.second(sketch.support, X, np.outer(m, ones), V)


def covariance_Cb(problem: Quadratics, sketch: Sketch | Integer) -> Matrix:
    """Cov Cb."""
    sketch = sketches.fitting(problem, sketch)
    mean = expected_Cb(problem, sketch)
    if sketch.weights is None:
        chances, Cb = _enumerated_Cb(problem, sketch)
        return (Cb - mean).T @ (chances[:, None] * (Cb - mean))
    V = _diagonal(sketch.weights * problem.b)
    ones = np.ones((problem.d, problem.d))
    return laws.second(sketch.support, V, ones, V) - np.outer(mean, mean)


def W(problem: Quadratics, sketch: Sketch | Integer) -> Matrix:
    """E[Lbar Bbar + Bbar Lbar] / 2, (22). It may be indefinite."""
    product = problem.Lbar @ expected_B(problem, sketch)
    return (product + product.T) / 2


def theta(problem: Quadratics, sketch: Sketch | Integer) -> float:
    """The smallest theta with E[Bbar Lbar Bbar] <= theta W, (23); infinite if W is not positive.

    The largest eigenvalue of the exact moment in the metric of W: for heterogeneous Perm-1 that
    moment is n^2 F o Lbar, and (28), which has n^2 Dbar Lbar Dbar, is too small.
    """
    try:
        root = np.linalg.cholesky(W(problem, sketch))
    except np.linalg.LinAlgError:
        return math.inf
    half = np.linalg.solve(root, second_B(problem, sketch))
    return float(np.linalg.eigvalsh(np.linalg.solve(root, half.T))[-1])


def mean_limit(problem: Quadratics, sketch: Sketch | Integer) -> Vector:
    """x_inf = (E Bbar)^-1 E Cb, where the mean of the iterates tends to under rule ``step``."""
    return np.linalg.solve(expected_B(problem, sketch), expected_Cb(problem, sketch))


def fixed_point(
    problem: Quadratics,
    q: Integer = 1,
    scale: Real = 1.0,
    local_steps: Integer = 1,
    step_size: Real | None = None,
) -> Vector:
    """Where the mean tends to with Perm-q of any scale s, and tau local steps (rule ``copy``).

    One local step: (1/s) [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar]^-1 bbar, for every step size. More:
    the mean over workers and blocks I of G (L_I s x_I - b_I) is zero, with
    G = sum_t (1 - gamma s L_I)^t; for q = 1 and s = 1 that is, in each coordinate,
    sum_i (1 - r_i^tau) b_i / L_i over sum_i (1 - r_i^tau), with r_i = 1 - gamma L_i.

    Raises:
      InputError: q n is neither d nor is n = q d; local steps without a step size; too many blocks
        of q coordinates to average over.

    Warns:
      UnstableStep: local steps diverge in some worker, which is named.
    """
    if local_steps < 1:
        raise InputError(f"local_steps must be at least 1, found {local_steps}")
    sketch = _perm(problem, q, scale)
    if local_steps == 1:
        return mean_limit(problem, sketch)
    if step_size is None:
        raise InputError(f"with local_steps={local_steps} the fixed point depends on step_size")
    positive(step_size=step_size)
    top = np.linalg.eigvalsh(problem.L)[:, -1]
    if step_size * scale * top.max() >= 2:
        warnings.warn(
            f"local steps of {step_size:g} diverge in worker {top.argmax()}: they are stable below "
            f"{2 / (scale * top.max()):.4g}, and this fixed point is not where runs tend to",
            UnstableStep,
            stacklevel=2,
        )
    size = 1 if problem.n > problem.d else int(q)
    count = math.comb(problem.d, size)
    if count > MANY:
        raise InputError(
            f"{local_steps} local steps on blocks of {size} out of {problem.d} coordinates: the "
            f"fixed point averages over {in_words(count)} blocks, at most {MANY}"
        )
    blocks = np.array(list(itertools.combinations(range(problem.d), size)))
    pairs = blocks[:, :, None], blocks[:, None, :]
    A = np.zeros((problem.d, problem.d))
    c = np.zeros(problem.d)
    for L, b in zip(problem.L, problem.b, strict=True):
        own = L[pairs]
        power = total = np.broadcast_to(np.eye(size), own.shape)
        for _ in range(local_steps - 1):
            power = power - step_size * scale * own @ power
            total = total + power
        np.add.at(A, pairs, total @ own)
        np.add.at(c, blocks, (total @ b[blocks][..., None])[..., 0])
    return np.linalg.solve(scale * A, c)


def trajectory(
    problem: Quadratics,
    sketch: Sketch,
    x0: ArrayLike,
    step_size: Real,
    steps: int,
    noise: Real = 0.0,
) -> tuple[Float[np.ndarray, "K d"], Float[np.ndarray, "K d d"]]:
    """The exact mean and covariance of x^0 .. x^steps under rule ``step`` with one local step.

    Rule ``copy``, with one local step and c holders of every coordinate, is this with n/c times the
    step size; all else is ``recursion.trajectory``.

    Args:
      noise: standard deviation of the noise in each coordinate of a local gradient.
    """
    B, Cb = expected_B(problem, sketch), expected_Cb(problem, sketch)
    CbCb = covariance_Cb(problem, sketch) + np.outer(Cb, Cb)
    start = problem.point(x0)
    means, squares = [start], [np.outer(start, start)]
    if noise:
        CbCb = CbCb + noise**2 * _expected_C2(problem, sketch) / problem.n
    with settling(squares):
        for _ in range(steps):
            m, S = means[-1], squares[-1]
            drift = B @ S - np.outer(Cb, m)
            mixed = cross(problem, sketch, m)
            spread = second_B(problem, sketch, S) - mixed - mixed.T + CbCb
            means.append(m - step_size * (B @ m - Cb))
            onward = S - step_size * (drift + drift.T) + step_size**2 * spread
            squares.append((onward + onward.T) / 2)  # rounding that is not symmetric would grow
        mean, square = np.array(means), np.array(squares)
        return mean, square - mean[:, :, None] * mean[:, None, :]


def _expected_C2(problem, sketch):
    """E (1/n) sum C_i^2."""
    if sketch.weights is None:
        chances, drawn = sketch.outcomes()
        C = sketches.dense(drawn, problem.d)
        return np.tensordot(chances, (C @ C).mean(1), 1)
    return sketch.support.alone(1) * np.diag((sketch.weights**2).mean(0))


def _diagonal(v):
    return v[..., :, None] * np.eye(v.shape[-1])


def _enumerated_Cb(problem, sketch):
    chances, drawn = sketch.outcomes()
    return chances, (sketches.dense(drawn, problem.d) @ problem.b[..., None])[..., 0].mean(1)


def _perm(problem, q, scale=None):
    return sketches.perm(problem.n, problem.d, q, scale)
