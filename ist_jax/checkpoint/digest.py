"""A digest of an array that does not depend on how the array is spread.

The bits of every entry are mixed with its position, and the mixed words added up modulo 2^32, twice
with different constants. A sum has no order, so that devices can each digest their part, and a
reader its blocks. One changed entry always changes the digest (for each position the mixing is a
bijection); any other damage passes with a chance of about 2^-64. It is no protection against
someone who means to deceive.

The mixing is the finaliser of MurmurHash3 (Appleby, public domain).
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt32

LANES = (0x9E3779B9, 0x85EBCA77)


def lanes(leaf: Array, first: int | Array = 0) -> UInt32[Array, "2"]:
    """The digest of an array, or of its rows from ``first`` on; those of blocks add up."""
    words = _words(leaf)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index = index + jnp.uint32(first) if axis == 0 else index
        position = position * jnp.uint32(size) + index
    return jnp.stack([_mix(words + _mix(position + jnp.uint32(lane))).sum() for lane in LANES])


def _words(leaf: Array) -> UInt32[Array, "..."]:
    """Its bits as words of 32 bits, with at least one axis."""
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    unsigned = jnp.dtype(f"uint{8 * min(leaf.dtype.itemsize, 4)}")
    bits = lax.bitcast_convert_type(leaf, unsigned)  # 64 bits: two words more inside
    return jnp.atleast_1d(bits).astype(jnp.uint32)


def _mix(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * jnp.uint32(factor)
    return word ^ (word >> 16)


def text(digest: UInt32[np.ndarray, "2"]) -> str:
    """In 16 hexadecimal digits."""
    return "".join(f"{int(lane):08x}" for lane in np.asarray(digest))
