"""The mean over the workers that hold an entry, to the last bit the same however it is computed.

Values are added up one worker after another, in their order, from negative zero, which is the
identity of addition for every float (zero is not: -0. + 0. = 0.). The sum is multiplied by 1/count
from a table: XLA turns some divisions into products with a reciprocal and leaves others, by what it
can see of the divisor; a product with a number read from memory is the same in every program.

Values that are not floating point have no mean; the first holder's is taken.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

Total = tuple[Array, Array]  # sum and count


def start(leaf: Array, counts: Sequence[int]) -> Total:
    """Nothing yet, for a leaf; counts of this shape (to broadcast with the leaf's)."""
    nothing = jnp.full_like(leaf, -0.0) if _has_mean(leaf) else leaf
    return nothing, jnp.zeros(tuple(counts), jnp.int32)


def add(so_far: Total, value: Array, held: Bool[Array, "..."]) -> Total:
    """One more worker's values, where it holds them."""
    total, count = so_far
    if _has_mean(total):
        total = jnp.where(held, total + value, total)
    else:
        total = jnp.where(held & (count == 0), value, total)
    return total, count + held.astype(jnp.int32)


def end(so_far: Total, most: int, otherwise: Array) -> Array:
    """The mean, of at most ``most`` workers; where there was none, the value of ``otherwise``."""
    total, count = so_far
    if _has_mean(total):
        one_over = jnp.asarray(1 / np.maximum(np.arange(most + 1), 1), total.dtype)
        total = total * one_over[count]
    return jnp.where(count > 0, total, otherwise)


def _has_mean(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
