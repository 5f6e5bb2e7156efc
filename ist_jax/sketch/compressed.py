"""Gradient descent with compressed iterates: the theorem and corollary of the IST paper.

w+ = z - eta grad l_i(z) with z = mask(w) / xi, where the mask keeps every coordinate with chance xi
and i is drawn uniformly. This is *not* IST: what is masked is set to zero instead of kept, so that
the iterates may diverge where IST converges. On quadratics E grad l_i(z) = grad l(w), since the
gradient is affine and E z = w: the errors of assumptions 5 and 6 are zero, B = theta = 0, and both
sides follow from exact second moments.

Source: Yuan et al., PVLDB 15(8), 2022, appendix B; Khaled and Richtarik, arXiv:1909.04716.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.sketch.bounds import Bound, unmet
from ist_jax.sketch.matrices import Real
from ist_jax.sketch.quadratics import Quadratics, norm2


class Constants(NamedTuple):
    """L_max, the error bound's mu, and the variance's M and M_f (assumptions 1, 3 and 4)."""

    L_max: float
    mu: float
    M: float
    M_f: float


def constants(problem: Quadratics, M_f: float | None = None) -> Constants:
    """The best constants of a problem, for an M_f that is given or the smallest possible.

    M is the largest excess of E|grad l_i(w)|^2 over M_f |grad l(w)|^2. It is finite for M_f above
    the largest eigenvalue of mean(L_i^2) in the metric of Lbar^2, which is at least 1. Where all
    workers have one loss, M_f = 1 and M = 0.

    Raises:
      InputError: an M_f for which no M is finite (the smallest is named).
    """
    square, mean_square = problem.Lbar @ problem.Lbar, (problem.L @ problem.L).mean(0)
    inverse = np.linalg.inv(problem.Lbar)
    smallest = max(1.0, float(np.linalg.eigvalsh(inverse @ mean_square @ inverse)[-1]))
    residue = problem.L @ problem.solution - problem.b
    tilt = (problem.L @ residue[..., None])[..., 0].mean(0)
    tilted = bool(np.abs(tilt).max() > 1e-12 * np.abs(problem.L).max())
    if M_f is None:
        M_f = 1.01 * smallest if tilted else smallest
    if M_f < smallest * (1 - 1e-12) or (tilted and M_f <= smallest):
        raise InputError(f"M_f must be above {smallest:.6g} for this problem, found {M_f}")
    M = float(norm2(residue).mean())
    if tilted:
        M += float(tilt @ np.linalg.solve(M_f * square - mean_square, tilt))
    L_max = float(np.linalg.eigvalsh(problem.L).max())
    return Constants(L_max, float(np.linalg.eigvalsh(problem.Lbar)[0]), M, M_f)


def variance(keep: Real) -> float:
    """omega = (1 - xi) / xi, with E|z - w|^2 = omega |w|^2."""
    if not 0 < keep <= 1:
        raise InputError(f"the share of coordinates that are kept must be in (0, 1], found {keep}")
    return (1 - keep) / keep


def theorem_1(problem: Quadratics, keep: Real, w0: ArrayLike, steps: int, M_f=None) -> Bound:
    """min over t <= T of E|grad l(w_t)|^2, and the printed right side with B = 0.

    Conditions: omega < mu^2 / (10 L_max^2); and what the proof needs besides, alpha > 0, which for
    M_f > 1 is more. (Assumption 2, a bounded gradient, holds for no quadratic; it counts times B.)

    Raises:
      InputError: a ``keep`` outside (0, 1], or an M_f that is too small.
    """
    c, omega = constants(problem, M_f), variance(keep)
    alpha = _alpha(c, omega, 1 - c.M_f / 2)
    failing = unmet(
        {
            "omega < mu^2 / (10 L^2)": omega < c.mu**2 / (10 * c.L_max**2),
            "alpha > 0": alpha > 0,
        }
    )
    return _bound(problem, keep, w0, steps, c, alpha, failing)


def corollary_1(problem: Quadratics, keep: Real, w0: ArrayLike, steps: int, M_f=None) -> Bound:
    """The same with the norm condition (theta = 0 here) in place of assumptions 2 and 5.

    Its condition must read omega < mu^2 c / (5 L_max^2) with c = 1/2 - theta - M_f / 2; c stands in
    the printed denominator. As M_f is at least 1 wherever gradients are unbounded, c is never
    positive on quadratics, and the corollary says nothing about them.
    """
    c, omega = constants(problem, M_f), variance(keep)
    share = 0.5 - c.M_f / 2
    failing = unmet(
        {
            "c > 0": share > 0,
            "omega < mu^2 c / (5 L^2)": omega < c.mu**2 * share / (5 * c.L_max**2),
        }
    )
    return _bound(problem, keep, w0, steps, c, _alpha(c, omega, share), failing)


def second_moments(
    problem: Quadratics, keep: Real, w0: ArrayLike, step_size: Real, steps: int
) -> tuple[Float[np.ndarray, "T d"], Float[np.ndarray, "T d d"]]:
    """E w_t and E w_t w_t' for t = 0 .. steps, exactly."""
    omega, move = variance(keep), np.eye(problem.d) - step_size * problem.L
    kick = step_size * problem.b
    start = problem.point(w0)
    means, squares = [start], [np.outer(start, start)]
    for _ in range(steps):
        m, S = means[-1], squares[-1]
        masked = S + omega * np.diag(np.diag(S))
        drifted = move @ m
        mixed = drifted[:, :, None] * kick[:, None, :]
        all_ = move @ masked @ move + mixed + mixed.swapaxes(1, 2)
        means.append((drifted + kick).mean(0))
        squares.append((all_ + kick[:, :, None] * kick[:, None, :]).mean(0))
    return np.array(means), np.array(squares)


def _alpha(c: Constants, omega: float, share: float) -> float:
    return share / (2 * c.L_max) - 2.5 * omega * c.L_max / c.mu**2


def _bound(problem, keep, w0, steps, c, alpha, failing):
    """The step size is 1 / (2 L_max); a right side that is not positive bounds nothing."""
    means, squares = second_moments(problem, keep, w0, 1 / (2 * c.L_max), steps)
    star = problem.solution
    around = squares - means[:, :, None] * star - star[:, None] * means[:, None, :]
    around = around + np.outer(star, star)
    left = np.einsum("ab,tbc,ca->t", problem.Lbar, around, problem.Lbar).min()
    if alpha <= 0:
        return Bound(float(left), np.inf, failing)
    fall = float(problem.value(means[0]) - problem.minimum)
    error = 2.5 * c.L_max * variance(keep) * float(norm2(star)) + c.M / (4 * c.L_max)
    return Bound(float(left), fall / (alpha * (steps + 1)) + error / alpha, failing)
