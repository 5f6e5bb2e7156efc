"""Numbers that a theorem can be about: checked at the door, by name."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from ist_jax.core.errors import InputError

_COUNTS = {"workers", "width", "local_steps", "rounds", "seeds", "examples", "dimension", "depth"}
_FRACTIONS = {"xi", "delta"}
_FROM_ZERO = {"delay"}


def check(**numbers: float | int) -> None:
    """Complains about numbers out of their range, which their names tell.

    Raises:
      InputError: a count that is no whole number >= 1, a fraction outside (0, 1], another number
        that is not positive and finite.

    Example:
      >>> check(workers=4, xi=0.5, step=0.1)
    """
    for name, value in numbers.items():
        if name in _COUNTS:
            fits, range_ = value >= 1 and value == int(value), "a whole number >= 1"
        elif name in _FRACTIONS:
            fits, range_ = 0 < value <= 1, "in (0, 1]"
        elif name in _FROM_ZERO:
            fits, range_ = 0 <= value < math.inf, "finite and >= 0"
        else:
            fits, range_ = 0 < value < math.inf, "finite and > 0"
        if not fits:
            raise InputError(f"{name} must be {range_}; found {name}={value}")


def check_unit(name: str, x: Float[np.ndarray, "n ..."]) -> None:
    """Complains about the first example whose norm is not 1 (to 1e-6, so that float32 will do).

    Raises:
      InputError: names the row and its norm.
    """
    norms = np.sqrt(np.square(x).reshape(len(x), -1).sum(axis=1))
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= 1e-6))
    if wrong.size:
        raise InputError(
            f"the theorems need examples of norm 1; row {wrong[0]} of {name} has norm "
            f"{norms[wrong[0]]:.6g}. Divide every example by its norm."
        )


def check_shapes(n: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Complains about arrays that do not start with n, the number of examples."""
    for name, shape in shapes.items():
        if shape[:1] != (n,):
            raise InputError(f"{name} must have {n} rows, one an example; found {list(shape)}")
