"""Typed PRNG keys, folded with what they are for, so that no two uses ever share one."""

import zlib

import jax
import numpy as np
from jaxtyping import Array, Int, Key

Number = int | np.integer | Int[Array | np.ndarray, ""]


def fold(key: Key[Array, ""], *purposes: str | Number) -> Key[Array, ""]:
    """The key for a purpose: words ("draw", a group's name) and numbers (round, worker, step).

    Example:
      >>> key = jax.random.key(0)
      >>> bool(fold(key, "draw", 3) == fold(key, "draw", 4))
      False
    """
    for purpose in purposes:
        number = zlib.crc32(purpose.encode()) if isinstance(purpose, str) else purpose
        key = jax.random.fold_in(key, number)
    return key
