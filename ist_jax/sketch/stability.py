"""How large a step may be: the step size from which on second moments grow without bound.

Under rule ``step`` with one local step, second moments follow M -> M - gamma (E Bbar M + M E Bbar)
+ gamma^2 E[Bbar M Bbar]. Both maps keep positive semidefinite matrices so, and the whole is stable
just if gamma times the spectral radius of (E Bbar . + . E Bbar)^-1 E[Bbar . Bbar] is below 1:
``largest_step`` is the inverse of that radius, found from the closed forms of ``moments``, for any
size. Other rules that come to the same step with another factor are reduced to it. For more
local steps the growth is computed at single step sizes, in closed form where a worker holds one
coordinate, else by enumeration, and bisected.
"""

from collections.abc import Callable

import numpy as np
from scipy.sparse import linalg

from ist_jax.sketch import moments, recursion
from ist_jax.sketch.matrices import Real
from ist_jax.sketch.quadratics import Quadratics
from ist_jax.sketch.sketch import Sketch

EXACT = 1e-10  # relative, of the steps that are found


def largest_step(
    problem: Quadratics, sketch: Sketch, *, rule: str = "step", local_steps: int = 1
) -> float:
    """The step size up to which all are stable: below it, second moments have a limit.

    With one local step none above it is stable. With more, single ones may be; the first that is
    not is looked for in steps of 5 %, and bisected.

    For d = 1000 and n = 10 it takes a minute, for d = 100 a moment.

    It is 0 where the merge by itself makes the iterates grow, as it does where (1/n) sum C_i has a
    variance.

    Raises:
      InputError: it can only be found by enumeration, and there are too many outcomes.

    Example:
      >>> from ist_jax.sketch import sketches
      >>> problem = Quadratics([[[2.0, 1.0], [1.0, 2.0]]] * 2, [[1.0, 1.0]] * 2)
      >>> round(largest_step(problem, sketches.preconditioned(problem)), 9)
      2.0
    """
    same = _as_step(sketch, rule)
    if local_steps == 1 and same is not None:
        return _of_steps(problem, sketch) / same
    return _first_unstable(lambda size: growth(problem, sketch, size, rule, local_steps))


def in_closed_form(sketch: Sketch, rule: str, local_steps: int) -> bool:
    """Whether one number decides, at any size: one local step, and a rule that is ``step``."""
    return local_steps == 1 and _as_step(sketch, rule) is not None


def growth(
    problem: Quadratics, sketch: Sketch, step_size: Real, rule: str = "step", local_steps: int = 1
) -> float:
    """The factor by which second moments grow in a step, in the long run; below 1 is stable.

    Raises:
      InputError: it can only be found by enumeration, and there are too many outcomes.
    """
    same = _as_step(sketch, rule)
    if same is not None and _one_coordinate(sketch):
        return _of_one_coordinate(problem, sketch, step_size, same, local_steps)
    return recursion.growth(problem, sketch, step_size, rule, local_steps)


def sure_step(
    problem: Quadratics, sketch: Sketch, *, rule: str = "step", local_steps: int = 1
) -> float:
    """A step size below which no draw expands, from eigenvalues of the L_i alone; 0 if none is
    known. It is a lower bound of ``largest_step``, for problems of any size."""
    weights, same = sketch.weights, _as_step(sketch, rule)
    if weights is None:
        return 2.0 if rule == "step" and local_steps == 1 else 0.0
    if local_steps == 1 and same is not None:
        X = sketch.factored(problem)
        holders = sketch.support.holders or problem.n
        if sketch.support.alone(2) == 0:  # one coordinate each: Bbar is diagonal
            top = np.diagonal(X, axis1=1, axis2=2).max() * holders / problem.n
        else:
            each = np.linalg.eigvalsh(X)[:, -1]
            top = each.max() / problem.n if holders == 1 else each.mean()
        return 2 / same / float(top)
    scale, limit = weights.flat[0], 1.0 if rule == "copy" else float(problem.n)
    if np.ptp(weights) or sketch.support.holders != 1 or scale > limit:
        return 0.0
    return 2 / (scale * float(np.linalg.eigvalsh(problem.L)[:, -1].max()))


def _as_step(sketch: Sketch, rule: str) -> float | None:
    """The factor of the changes with which a rule is ``step``; None if it is not."""
    holders = sketch.support.holders
    if rule == "step":
        return 1.0
    if holders is None:
        return None
    if rule == "copy":
        return sketch.n / holders
    unit = sketch.weights is not None and np.allclose(sketch.weights * holders, sketch.n)
    return 1.0 if unit else None


def _one_coordinate(sketch: Sketch) -> bool:
    return sketch.weights is not None and sketch.support.holders == 1 and sketch.n == sketch.d


def _of_steps(problem: Quadratics, sketch: Sketch) -> float:
    """1 / spectral radius, by Lanczos iteration.

    In the eigenvectors of E Bbar the first map multiplies entry (a, b) by the sum of two of its
    eigenvalues, so that dividing by its root on both sides makes the product symmetric.
    """
    d = problem.d
    values, vectors = np.linalg.eigh(moments.expected_B(problem, sketch))
    root = (values[:, None] + values) ** -0.5

    def product(flat):
        M = vectors @ (root * flat.reshape(d, d)) @ vectors.T
        image = vectors.T @ moments.second_B(problem, sketch, (M + M.T) / 2) @ vectors
        return (root * image).ravel()

    start = (np.eye(d) / root).ravel()
    if d == 1:
        return float(start[0] / product(start)[0])
    whole = linalg.LinearOperator((d * d, d * d), matvec=product, dtype=np.float64)
    top = linalg.eigsh(whole, k=1, which="LA", v0=start, tol=EXACT, return_eigenvectors=False)
    return float(1 / top[0])


def _of_one_coordinate(problem, sketch, step_size, factor, local_steps):
    """Of second moments, where a worker holds one coordinate: its square grows fastest."""
    C, D = sketch.weights, problem.D
    shrink = (1 - step_size * C * D) ** local_steps
    return float(((1 - factor / problem.n * C * (1 - shrink)) ** 2).mean(0).max())


def _first_unstable(growth: Callable[[float], float]) -> float:
    high = 1.0
    while growth(high) >= 1:
        high /= 2
        if high < 1e-12:
            return 0.0
    low, high = 0.0, high / 8  # a stable size may lie beyond unstable ones
    while growth(high) < 1:
        low, high = high, 1.05 * high
        if high > 1e6:
            return np.inf
    while high - low > EXACT * high:
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle) < 1 else (low, middle)
    return low
