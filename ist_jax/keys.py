"""Typed PRNG keys, folded with what they are for, so that no two uses ever share one."""

import zlib

import jax
from jaxtyping import Array, Int, Key


def fold(key: Key[Array, ""], *purposes: str | int | Int[Array, ""]) -> Key[Array, ""]:
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
