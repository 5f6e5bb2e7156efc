"""Neurons in front: the axis of a subnet's neurons as the first, and back.

Where neurons are the last axis that is a transposition. XLA's loop for CPUs reads one number of a
line of its cache and goes on to the next line. Where lines are a power of two apart, as widths
often are, they fall into the same few places of the cache and push each other out. In strips of 16
rows, which are a line wide on the other side, each line is read once (a 4096 x 1024 leaf, one core:
12 ms and 40; a copy takes 3).
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

STRIP = 16
APART = 1024  # bytes; lines that are multiples of this apart share places of a cache


def to_front(nets: Array, axis: int) -> Array:
    """``[k, ..., m, ...]``, m on that axis, as ``[k, m, ...]``."""
    if axis < nets.ndim - 1:
        return jnp.moveaxis(nets, axis, 1)
    k, *row, m = nets.shape
    return swapped(nets.reshape(k, math.prod(row), m)).reshape(k, m, *row)


def from_front(rows: Array, axis: int) -> Array:
    """The inverse of ``to_front``."""
    if axis < rows.ndim - 1:
        return jnp.moveaxis(rows, 1, axis)
    k, m, *row = rows.shape
    return swapped(rows.reshape(k, m, math.prod(row))).reshape(k, *row, m)


def swapped(matrices: Array) -> Array:
    """``[k, a, b]`` as ``[k, b, a]``."""
    _, a, b = matrices.shape
    if a < 2 * STRIP or b < STRIP or b * matrices.dtype.itemsize % APART:
        return matrices.swapaxes(1, 2)
    return lax.platform_dependent(matrices, cpu=_in_strips, default=lambda m: m.swapaxes(1, 2))


def _in_strips(matrices: Array) -> Array:
    k, a, b = matrices.shape
    each = -(-a // STRIP)

    def one(number, out):
        matrix, strip = lax.div(number, each), lax.rem(number, each)
        row = jnp.minimum(strip * STRIP, a - STRIP)  # the last two may overlap
        rows = lax.dynamic_slice(matrices, (matrix, row, 0), (1, STRIP, b))
        return lax.dynamic_update_slice(out, rows.swapaxes(1, 2), (matrix, 0, row))

    return lax.fori_loop(0, k * each, one, jnp.zeros((k, b, a), matrices.dtype))
