"""Index arithmetic at the speed of a copy: what ``decompose`` and ``exchange`` are made of."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def read(
    operand: Array, where: list[Array], lead: tuple[Array, ...] = ()
) -> tuple[Array, Bool[Array, "..."]]:
    """``operand[*lead, *where]``, and where it counts: an id equal to its axis's size is no entry.

    Every axis up to the last cut one has an index, also those that are not cut: the result then
    lies in memory as the leaf does, and XLA transposes nothing. Indices are clamped beforehand and
    promised to be in bounds. (A 4096 x 4096 leaf cut on its last axis, two cores: 24 ms so, as long
    as a copy; 66 ms with ``mode="fill"``, 130 with a slice for the first axis.)
    """
    sizes = operand.shape[len(lead) :]
    limits = list(zip(where, sizes, strict=False))
    inside = functools.reduce(jnp.logical_and, (ids < size for ids, size in limits))
    index = (*lead, *(jnp.minimum(ids, size - 1) for ids, size in limits))
    value = operand.at[index].get(mode="promise_in_bounds")
    return value, jnp.expand_dims(inside, range(inside.ndim, value.ndim))


def lay(index: Array, on: tuple[int, ...], ndim: int) -> Array:
    """Lays the axes of an index on the axes ``on`` of an ndim-dimensional result."""
    shape = [1] * ndim
    for axis, size in zip(on, index.shape, strict=True):
        shape[axis] = size
    return index.reshape(shape)


def slot_table(
    ids: Int[Array | np.ndarray, "S m"], width: int, took_part: Bool[Array, " S"]
) -> Int[Array, "S N"]:
    """The slot in which each worker holds each neuron; m where it does not."""
    workers, m = ids.shape
    ids = jnp.where(took_part[:, None], ids, width)
    table = jnp.full((workers, width + 1), m, jnp.int32)
    table = table.at[jnp.arange(workers)[:, None], ids].set(jnp.arange(m, dtype=jnp.int32))
    return table[:, :width]


def stable_order(keys: Int[Array, "*lead n"], below: int) -> Int[Array, "*lead n"]:
    """``argsort`` of integers in ``[0, below)`` along the last axis; equal ones keep their order.

    As one number, key and index sort five times faster on CPUs than as a pair (.16 ms and .80 ms
    for 4096).
    """
    n = keys.shape[-1]
    if below * n > jnp.iinfo(jnp.int32).max:
        return jnp.argsort(keys, stable=True)
    return jnp.sort(keys * n + jnp.arange(n, dtype=jnp.int32)) % n
