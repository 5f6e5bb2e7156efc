"""Quadratic losses of n workers: f_i(x) = x'L_i x / 2 - b_i'x, and f their mean, (9).

f has one minimum x* = Lbar^-1 bbar if Lbar, the mean of the L_i, is positive definite. The single
L_i need only be positive semidefinite: a worker's data may leave coordinates undetermined.
"""

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sketch import matrices
from ist_jax.sketch.matrices import Matrix, Real, Vector


class UnstableStep(UserWarning):
    """A step size at which the iterates do not settle, or are not known to."""


@dataclasses.dataclass(frozen=True, eq=False)
class Quadratics:
    """A problem; arrays are copied, in float64.

    Args:
      L: ``[n, d, d]``, symmetric and positive semidefinite, up to 1,000 times the precision of the
        type that is given (2e-13 of the largest entry, or 1e-4 for float32; the two halves are
        then averaged); their mean positive definite.
      b: ``[n, d]``; zeros are the interpolation case.

    Raises:
      InputError: shapes that do not fit, numbers that are not finite, a matrix that is not
        symmetric or not definite; it names the worker.

    Example:
      >>> problem = Quadratics(L=[[[2.0, 0.0], [0.0, 1.0]]], b=[[2.0, 3.0]])
      >>> problem.solution.tolist(), problem.minimum
      ([1.0, 3.0], -5.5)
    """

    L: Any
    b: Any

    def __post_init__(self):
        given = matrices.numbers("L", self.L)
        rounding = 1000 * float(np.finfo(np.result_type(given, np.float32)).eps)
        L, b = np.array(given, np.float64), np.array(matrices.numbers("b", self.b), np.float64)
        if L.ndim != 3 or L.shape[1] != L.shape[2] or 0 in L.shape:
            raise InputError(f"L must be [n, d, d], a square matrix a worker; found {L.shape}")
        if b.shape != L.shape[:2]:
            raise InputError(f"b must be [n, d] = {L.shape[:2]} for this L; found {b.shape}")
        object.__setattr__(self, "L", L)
        object.__setattr__(self, "b", b)
        for worker, matrix in enumerate(L):
            matrices.check(f"L of worker {worker}", matrix, rounding)
            if not np.isfinite(b[worker]).all():
                raise InputError(f"b of worker {worker} holds a number that is not finite")
            matrix[:] = (matrix + matrix.T) / 2
        matrices.check("the mean of the L_i", self.Lbar)

    def point(self, x: ArrayLike) -> Vector:
        """x in float64, if it is a point of this problem.

        Raises:
          InputError: it is not ``[d]``.
        """
        point = np.asarray(x, np.float64)
        if point.shape != (self.d,):
            raise InputError(f"a point must be [{self.d}] for this problem; found {point.shape}")
        return point

    @property
    def n(self) -> int:
        """Workers."""
        return self.L.shape[0]

    @property
    def d(self) -> int:
        """Coordinates."""
        return self.L.shape[1]

    @functools.cached_property
    def Lbar(self) -> Matrix:
        return self.L.mean(0)

    @functools.cached_property
    def bbar(self) -> Vector:
        return self.b.mean(0)

    @property
    def D(self) -> Float[np.ndarray, "n d"]:
        """The diagonals of the L_i."""
        return np.diagonal(self.L, axis1=1, axis2=2)

    @property
    def Dbar(self) -> Vector:
        return self.D.mean(0)

    @functools.cached_property
    def solution(self) -> Vector:
        """x*."""
        return np.linalg.solve(self.Lbar, self.bbar)

    @property
    def minimum(self) -> float:
        """f(x*)."""
        return float(-self.bbar @ self.solution / 2)

    def value(self, x: ArrayLike) -> Any:
        """f(x), ``[*runs, d] -> [*runs]``."""
        x = np.asarray(x, np.float64)
        return (x * (x @ self.Lbar)).sum(-1) / 2 - x @ self.bbar

    def gradient(self, x: ArrayLike) -> Float[np.ndarray, "*runs d"]:
        """The gradient of f at x, ``[*runs, d]``."""
        return np.asarray(x, np.float64) @ self.Lbar - self.bbar


@contextlib.contextmanager
def settling(moments: list) -> Iterator[None]:
    """Around a loop that appends to ``moments``: one warning of what overflows, and not NumPy's."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield
    if not np.isfinite(moments[-1]).all():
        warnings.warn(
            "moments of the iterates overflowed: the step size is not stable",
            UnstableStep,
            stacklevel=4,
        )


def positive(**numbers: Real) -> None:
    """Complains about numbers that are not positive and finite, by their names.

    Raises:
      InputError: the first of them.
    """
    for name, value in numbers.items():
        if not 0 < value < np.inf:
            raise InputError(f"{name} must be positive and finite, found {value}")


def norm2(x: ArrayLike, matrix: Matrix | None = None) -> Any:
    """|x|^2 in the norm of a matrix, x'Ax, or of the identity: ``[*runs, d] -> [*runs]``."""
    x = np.asarray(x, np.float64)
    return (x * (x if matrix is None else x @ matrix)).sum(-1)


def homogeneous(L: ArrayLike, b: ArrayLike, n: int) -> Quadratics:
    """All n workers have the same loss."""
    return Quadratics(np.broadcast_to(L, (n, *np.shape(L))), np.broadcast_to(b, (n, *np.shape(b))))


def random(
    key: Key[Array, ""],
    n: int,
    d: int,
    *,
    condition: Real = 10.0,
    spectrum: ArrayLike | None = None,
    heterogeneity: Real = 1.0,
    interpolation: bool = False,
) -> Quadratics:
    """A problem of random eigenvectors and, if not given, random eigenvalues.

    Args:
      key: what is drawn depends on it alone.
      n: workers.
      d: coordinates.
      condition: largest over smallest eigenvalue of each drawn matrix; the largest is 1, and
        logarithms of the others are uniform between the two.
      spectrum: eigenvalues instead, ``[d]`` for all workers or ``[n, d]``.
      heterogeneity: 0: all workers have the same L and b; 1: each has its own; between, the mixture
        (whose eigenvalues are then others than those drawn).
      interpolation: b = 0, and x* = 0.

    Raises:
      InputError: a condition below 1, a heterogeneity outside [0, 1], a spectrum that does not fit.

    Example:
      >>> problem = random(jax.random.key(0), n=4, d=8, condition=100.0, heterogeneity=0.0)
      >>> round(np.linalg.cond(problem.Lbar))
      100
    """
    if not condition >= 1:
        raise InputError(f"condition must be at least 1, found {condition}")
    if not 0 <= heterogeneity <= 1:
        raise InputError(f"heterogeneity must lie between 0 and 1, found {heterogeneity}")
    with jax.enable_x64(True):
        normal = jax.random.normal(fold(key, "vectors"), (n + 1, d, d), np.float64)
        uniform = jax.random.uniform(fold(key, "values"), (n + 1, d), np.float64)
        own_b = jax.random.normal(fold(key, "linear"), (n + 1, d), np.float64)
    vectors = np.linalg.qr(np.asarray(normal))[0]
    if spectrum is None:
        levels = np.sort(np.asarray(uniform), axis=1)
        spread = np.maximum(levels[:, -1:] - levels[:, :1], 1e-300)
        values = float(condition) ** ((levels - levels[:, -1:]) / spread)
    else:
        values = np.asarray(spectrum, np.float64)
        if values.shape not in ((d,), (n, d)):
            raise InputError(f"a spectrum must be [{d}] or [{n}, {d}], found {values.shape}")
        rows = np.broadcast_to(values, (n, d))
        values = np.concatenate([rows, rows[:1]])
    drawn = (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)
    b = np.zeros((n + 1, d)) if interpolation else np.asarray(own_b)
    own, common = heterogeneity, 1 - heterogeneity
    return Quadratics(own * drawn[:n] + common * drawn[n], own * b[:n] + common * b[n])


def preconditioned(problem: Quadratics) -> Quadratics:
    """The same losses in the variable y = Dbar^1/2 x, (29): L~_i = Dbar^-1/2 L_i Dbar^-1/2.

    What is found for y is x = Dbar^-1/2 y in the variable of the problem.

    In the homogeneous case the diagonal of L~ is 1. Values are kept: f~(y) = f(x).
    """
    unit = matrices.inverse_root(problem.Dbar[None], "the mean of the L_i")[0]
    return Quadratics(problem.L * unit[:, None] * unit, problem.b * unit)
