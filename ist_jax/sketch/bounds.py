"""The theorems of Shulgin and Richtarik as functions that return both sides, and what fails.

Both sides are exact: means and covariances of all iterates come from ``moments``. A bound whose
conditions fail may still hold; ``failing`` names them. Statements whose printed form is wrong or
loose are here in both forms (docs/statements.md has them all, each with its test).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.sketch import moments, perm_1, sketches
from ist_jax.sketch.matrices import Matrix, Real, Vector
from ist_jax.sketch.quadratics import Quadratics, norm2, positive, preconditioned
from ist_jax.sketch.sketch import Sketch

ROUNDING = 1e-10


class Bound(NamedTuple):
    """left <= right is claimed, if nothing is failing."""

    left: float
    right: float
    failing: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether left <= right, up to rounding."""
        return self.left <= self.right + ROUNDING * max(abs(self.left), abs(self.right))


def unmet(conditions: dict[str, bool]) -> tuple[str, ...]:
    """The names of the conditions that are false."""
    return tuple(name for name, met in conditions.items() if not met)


def stationary(
    problem: Quadratics, sketch: Sketch, x0: ArrayLike, step_size: Real, steps: int
) -> Bound:
    """(22) to (24): the mean of E|grad f(x^k)|^2 in the norm of Lbar^-1 W Lbar^-1.

    Conditions: no linear term; W positive definite; the step size at most 1 / theta.

    Example:
      >>> problem = Quadratics([[[2.0, 1.0], [1.0, 2.0]]] * 2, [[0.0, 0.0]] * 2)
      >>> bound = stationary(problem, sketches.perm(2, 2), np.ones(2), step_size=0.1, steps=5)
      >>> bound.holds, bound.failing
      (True, ())
    """
    theta, W = moments.theta(problem, sketch), moments.W(problem, sketch)
    inverse = np.linalg.inv(problem.Lbar)
    left, fall = _along(problem, sketch, x0, step_size, steps, inverse @ W @ inverse)
    failing = _of_descent(problem, theta, step_size)
    return Bound(left, 2 * fall / (step_size * steps), failing)


def theta_printed(problem: Quadratics) -> float:
    """The smallest theta of (28), n Dbar Lbar Dbar <= (theta / 2) (Lbar Dbar + Dbar Lbar).

    It is (23) for homogeneous Perm-1, and too small where the L_i differ: see ``moments.theta``.
    """
    D = np.diag(problem.Dbar)
    left = problem.n * D @ problem.Lbar @ D
    try:
        root = np.linalg.cholesky((problem.Lbar @ D + D @ problem.Lbar) / 2)
    except np.linalg.LinAlgError:
        return math.inf
    half = np.linalg.solve(root, left)
    return float(np.linalg.eigvalsh(np.linalg.solve(root, half.T))[-1])


def gradient_descent(problem: Quadratics, x0: ArrayLike, steps: int) -> Bound:
    """(26): the step size is 1 / lambda_max(Lbar), (25)."""
    top = float(np.linalg.eigvalsh(problem.Lbar)[-1])
    sketch = sketches.identity(problem.n, problem.d)
    left, fall = _along(problem, sketch, x0, 1 / top, steps, np.eye(problem.d))
    return Bound(left, 2 * top * fall / steps)


def homogeneous_preconditioned(problem: Quadratics, x0: ArrayLike, steps: int) -> Bound:
    """(31): Perm-1 on the preconditioned problem (29), step size 1 / n; x0 in its variables.

    Conditions: all workers have one loss, n = d, and no linear term.
    """
    scaled = preconditioned(problem)
    sketch = sketches.perm(problem.n, problem.d, 1)
    left, fall = _along(scaled, sketch, x0, 1 / problem.n, steps, np.eye(problem.d))
    failing = unmet(
        {
            "all workers have one loss": not np.ptp(problem.L, axis=0).any(),
            "no linear term": not problem.b.any(),
        }
    )
    return Bound(left, 2 * float(np.linalg.eigvalsh(scaled.Lbar)[-1]) * fall / steps, failing)


def heterogeneous_preconditioned(problem: Quadratics, x0: ArrayLike, steps: int) -> Bound:
    """(34): the preconditioned Perm-1 (32), step size 1. Conditions: n = d, no linear term."""
    sketch = sketches.preconditioned(problem, 1)
    left, fall = _along(problem, sketch, x0, 1.0, steps, np.eye(problem.d))
    right = 2 * float(np.linalg.eigvalsh(problem.Lbar)[-1]) * fall / steps
    return Bound(left, right, unmet({"no linear term": not problem.b.any()}))


def contraction(
    problem: Quadratics, sketch: Sketch, x0: ArrayLike, step_size: Real, steps: int
) -> Bound:
    """E|x^k - x*|^2_Lbar <= (1 - gamma lambda_min(Lbar^-1/2 W Lbar^-1/2))^k |x^0 - x*|^2_Lbar.

    Conditions: those of ``stationary``. It follows from the same descent inequality.
    """
    positive(step_size=step_size, steps=steps)
    W, theta = moments.W(problem, sketch), moments.theta(problem, sketch)
    root = np.linalg.cholesky(problem.Lbar)  # similar to the symmetric root: same eigenvalues
    lowest = np.linalg.eigvalsh(np.linalg.solve(root, np.linalg.solve(root, W).T))[0]
    means, covariances = moments.trajectory(problem, sketch, x0, step_size, steps)
    left = _mean_norm2(means[-1] - problem.solution, covariances[-1], problem.Lbar)
    start = norm2(np.subtract(x0, problem.solution), problem.Lbar)
    failing = _of_descent(problem, theta, step_size)
    rate = max(1 - step_size * lowest, ROUNDING)  # it is not known better than that
    return Bound(left, float(rate**steps * start), failing)


def neighbourhood(
    problem: Quadratics, x0: ArrayLike, step_size: Real, steps: int, beta: Real
) -> Bound:
    """(19) as printed, for the heterogeneous preconditioned Perm-1.

    Conditions: beta in (0, 1/2); gamma at most (1/2 - beta) / (1/2 + beta).

    Raises:
      InputError: n is not d, or a beta that is not positive.
    """
    if not beta > 0:
        raise InputError(f"beta must lie in (0, 1/2), found {beta}")
    h = float(norm2(perm_1.bias(problem), problem.Lbar))
    left, fall = _to_neighbourhood(problem, x0, step_size, steps)
    right = 2 * fall / (step_size * steps)
    right += (2 / beta * (1 - step_size) + step_size) * h + step_size * perm_1.sigma2(problem)
    largest = (0.5 - beta) / (0.5 + beta)
    failing = unmet(
        {
            "beta below 1/2": beta < 0.5,
            "step size at most (1/2 - beta) / (1/2 + beta)": step_size <= largest,
        }
    )
    return Bound(left, right, failing)


def neighbourhood_tight(problem: Quadratics, x0: ArrayLike, step_size: Real, steps: int) -> Bound:
    """(19) without beta: |h|^2_Lbar + gamma sigma^2 beside the falling term, for 0 < gamma <= 1.

    An equality at gamma = 1, and false above.
    """
    h = float(norm2(perm_1.bias(problem), problem.Lbar))
    left, fall = _to_neighbourhood(problem, x0, step_size, steps)
    right = 2 * fall / (step_size * steps) + h + step_size * perm_1.sigma2(problem)
    return Bound(left, right, unmet({"step size at most 1": step_size <= 1}))


def _of_descent(problem: Quadratics, theta: float, step_size: Real) -> tuple[str, ...]:
    """What (22) to (24) and the contraction ask for."""
    return unmet(
        {
            "no linear term": not problem.b.any(),
            "W positive definite": math.isfinite(theta),
            "step size at most 1/theta": step_size * theta <= 1 + ROUNDING,
        }
    )


def _to_neighbourhood(problem, x0, step_size, steps):
    sketch = sketches.preconditioned(problem, 1)
    return _along(problem, sketch, x0, step_size, steps, np.linalg.inv(problem.Lbar))


def _along(
    problem: Quadratics, sketch: Sketch, x0: ArrayLike, step_size: Real, steps: int, norm: Matrix
) -> tuple[float, float]:
    """The mean over k < steps of E|grad f(x^k)|^2_norm, and f(x^0) - E f(x^steps)."""
    positive(step_size=step_size, steps=steps)
    means, covariances = moments.trajectory(problem, sketch, x0, step_size, steps)
    around = problem.Lbar @ norm @ problem.Lbar
    each = [
        _mean_norm2(mean - problem.solution, covariance, around)
        for mean, covariance in zip(means[:-1], covariances[:-1], strict=True)
    ]
    ends = problem.value(means[-1]) + np.trace(problem.Lbar @ covariances[-1]) / 2
    return float(np.mean(each)), float(problem.value(means[0]) - ends)


def _mean_norm2(mean: Vector, covariance: Matrix, matrix: Matrix) -> float:
    return float(norm2(mean, matrix) + np.trace(matrix @ covariance))
