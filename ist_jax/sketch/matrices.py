"""Matrices and vectors of a quadratic: their types, checked as they come in, and inverse roots."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ist_jax.core.errors import InputError

Real = float | int
Integer = int | np.integer
Matrix = Float[np.ndarray, "d d"]
Vector = Float[np.ndarray, " d"]


def inverse_root(diagonals: Float[np.ndarray, "n d"], what: str = "L") -> Float[np.ndarray, "n d"]:
    """D_i^-1/2.

    Raises:
      InputError: a diagonal entry that is zero; it names the worker and the coordinate.
    """
    worker, at = np.nonzero(diagonals <= 0)
    if worker.size:
        whose = what if len(diagonals) == 1 else f"{what} of worker {worker[0]}"
        raise InputError(
            f"{whose} has {diagonals[worker[0], at[0]]:g} on its diagonal at coordinate {at[0]}, "
            "and preconditioning divides by its root"
        )
    return diagonals**-0.5


def numbers(name: str, value: Any) -> np.ndarray:
    """An array of real numbers.

    Raises:
      InputError: it is none.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an array of real numbers; found {array.dtype}")
    return array


def check(what: str, matrix: Matrix, rounding: float = 0.0) -> None:
    """Finite, symmetric, and positive semidefinite up to rounding (a share of the largest entry);
    without any, positive definite.

    Raises:
      InputError: it is not; ``what`` names it.
    """
    if not np.isfinite(matrix).all():
        raise InputError(f"{what} holds a number that is not finite")
    largest = np.abs(matrix).max()
    apart = np.abs(matrix - matrix.T)
    if apart.max() > rounding * largest:
        a, b = np.unravel_index(apart.argmax(), apart.shape)
        raise InputError(
            f"{what} is not symmetric: entry ({a}, {b}) is {matrix[a, b]:g}, ({b}, {a}) is "
            f"{matrix[b, a]:g}"
        )
    slack = (rounding or -np.finfo(np.float64).eps * len(matrix)) * largest
    try:
        np.linalg.cholesky(matrix + (slack or 1.0) * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        lowest = np.linalg.eigvalsh(matrix)[0]
        kind = "positive semidefinite" if rounding else "positive definite"
        raise InputError(f"{what} is not {kind}: its smallest eigenvalue is {lowest:.3g}") from None
