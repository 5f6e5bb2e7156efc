"""Heterogeneous Perm-1, preconditioned: its bias, its scatter and the law of its iterates.

Bbar = I in every draw, so that a step is x+ = (1 - gamma) x + gamma Cb with independent Cb, and all
of it has a closed form, (12) to (18).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.sketch import moments, sketches
from ist_jax.sketch.matrices import Matrix, Real, Vector, inverse_root
from ist_jax.sketch.quadratics import Quadratics, norm2
from ist_jax.sketch.sketch import Sketch


def bias(problem: Quadratics) -> Vector:
    """h = x* - x_inf of the heterogeneous preconditioned Perm-1, (17)."""
    _perm_1(problem)
    mean = (inverse_root(problem.D) * problem.b).mean(0)
    return problem.solution - mean / math.sqrt(problem.n)


def sigma2(problem: Quadratics) -> float:
    """tr(Lbar Cov Cb) of the same sketch: (18) with equality, at every x.

    With v_i = D_i^-1/2 b_i and S their population covariance over the workers, Cov Cb has S_aa / n
    on its diagonal and -S_ab / (n (n - 1)) off it.
    """
    n = _perm_1(problem).n
    v = inverse_root(problem.D) * problem.b
    if n == 1:
        return 0.0
    S = np.cov(v.T, bias=True).reshape(problem.d, problem.d)
    return float((problem.Lbar * (np.diag(np.diag(S)) * n - S)).sum() / (n * (n - 1)))


def neighbourhood(problem: Quadratics, step_size: Real) -> float:
    """The limit of E|grad f(x^k)|^2 in the norm of Lbar^-1, for the same sketch.

    It is |h|^2_Lbar + gamma/(2 - gamma) sigma^2, exactly.

    Raises:
      InputError: q = 1 needs d = n; a step size outside (0, 2), where there is no limit.
    """
    _perm_1(problem)
    if not 0 < step_size < 2:
        raise InputError(f"the iterates have a limit for step sizes in (0, 2), found {step_size}")
    scatter = step_size / (2 - step_size) * sigma2(problem)
    return float(norm2(bias(problem), problem.Lbar) + scatter)


def law(problem: Quadratics, x0: ArrayLike, step_size: Real, step: int) -> tuple[Vector, Matrix]:
    """Mean and covariance of x^k for the heterogeneous preconditioned Perm-1, in closed form.

    Its step is x+ = (1 - gamma) x + gamma Cb with independent Cb, so that the covariance is
    gamma^2 sum_(j < k) (1 - gamma)^2j Cov Cb, or gamma/(2 - gamma) [1 - (1 - gamma)^2k] Cov Cb.
    """
    sketch = _perm_1(problem)
    stays = (1 - float(step_size)) ** np.arange(step + 1)
    mean = stays[-1] * problem.point(x0) + (1 - stays[-1]) * moments.expected_Cb(problem, sketch)
    return mean, step_size**2 * (stays[:-1] ** 2).sum() * moments.covariance_Cb(problem, sketch)


def _perm_1(problem: Quadratics) -> Sketch:
    if problem.n != problem.d:
        raise InputError(f"Perm-1 needs n = d; found n={problem.n}, d={problem.d}")
    return sketches.preconditioned(problem, 1)
