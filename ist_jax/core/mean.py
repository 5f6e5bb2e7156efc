"""The mean over the workers that hold an entry, to the last bit the same however it is computed.

Values are added up one worker after another, in their order, from negative zero, which is the
identity of addition for every float (zero is not: -0. + 0. = 0.). The sum is multiplied by 1/count
from a table: XLA turns some divisions into products with a reciprocal and leaves others, by what it
can see of the divisor; a product with a number read from memory is the same in every program.
Floats of 16 bits are added up in 32.

The mean of equal values is that value, bit for bit, which a sum of three times a third is not: a
flag remembers whether all values were the first one. (First value plus mean difference would do
without the flag, but a product that is added to something becomes one rounding or two, as a
compiler fuses it: a quarter of the entries then differ between programs.)

Values that are not floating point have no mean; the first holder's is taken.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ist_jax.core.indexing import take

AT_ONCE = 8  # workers whose values are added in one loop


class Total(NamedTuple):
    """What has been added up so far.

    Attributes:
      holders: their number.
      first: the value of the first of them.
      total: of all values; None if they are not floating point.
      same: whether all values are the first one; None likewise.
    """

    holders: Int[Array, "..."]
    first: Array
    total: Array | None
    same: Bool[Array, "..."] | None


def start(leaf: Array, counts: Sequence[int]) -> Total:
    """Nothing yet, for a leaf; counts of this shape (to broadcast with the leaf's)."""
    holders = jnp.zeros(tuple(counts), jnp.int32)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return Total(holders, leaf, None, None)
    nothing = jnp.full_like(leaf, -0.0, dtype=_wide(leaf.dtype))
    return Total(holders, leaf, nothing, jnp.ones(leaf.shape, bool))


def add(so_far: Total, value: Array, held: Bool[Array, "..."]) -> Total:
    """One more worker's values, where it holds them."""
    holders, first, total, same = so_far
    first = jnp.where(held & (holders == 0), value, first)
    if total is not None and same is not None:
        same = same & (~held | (value == first))
        total = jnp.where(held, total + value.astype(total.dtype), total)
    return Total(holders + held.astype(jnp.int32), first, total, same)


def over_workers(
    step: Callable[[Any, Total], Total], workers: int, leaf: Array, counts: Sequence[int]
) -> Array:
    """The mean of a leaf, for which ``step(worker, so_far)`` adds each worker's values in turn.

    Some workers at a time are one loop over the entries, which then go through memory once.
    """
    begin = start(leaf, counts)
    total = lax.fori_loop(0, workers, step, begin, unroll=min(workers, AT_ONCE) or None)
    return end(total, workers, leaf)


def end(so_far: Total, most: int, otherwise: Array) -> Array:
    """The mean, of at most ``most`` workers; where there was none, the value of ``otherwise``."""
    holders, first, total, same = so_far
    value = first
    if total is not None and same is not None:
        mean = (total * one_over(holders, most, total.dtype)).astype(first.dtype)
        value = _one_if_same(mean, first, same)
    return jnp.where(holders > 0, value, otherwise)


def one_over(count: Int[Array, "..."], most: int, dtype: jnp.dtype) -> Array:
    """1 / count out of a table of all counts up to ``most``; 1 for none."""
    return take(jnp.asarray(1 / np.maximum(np.arange(most + 1), 1), dtype), count)


@jax.custom_jvp
def _one_if_same(mean: Array, first: Array, same: Bool[Array, "..."]) -> Array:
    """The mean, without its rounding where all values are one; its derivative is the mean's."""
    return jnp.where(same, first, mean)


@_one_if_same.defjvp
def _slope_of_the_mean(values: tuple, slopes: tuple) -> tuple[Array, Array]:
    return _one_if_same(*values), slopes[0]


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    return jnp.promote_types(dtype, jnp.float32)
