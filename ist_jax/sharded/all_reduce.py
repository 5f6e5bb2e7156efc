"""The mean over all workers of what they all hold: shared leaves, gradients.

Leaves of one type go as one long vector, so that there is one message and not many.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ist_jax.core import mean
from ist_jax.core.indexing import nth, take
from ist_jax.sharded.chunks import over_slow_links
from ist_jax.sharded.leaf_layout import DATA, WORKER


def in_order(
    otherwise: list[Array],
    pieces: list[Array],
    took_part: Bool[Array, " S"],
    longest: float,
) -> list[Array]:
    """Means over all workers of leaves ``[S / D, ...]``, added up in the order of the workers.

    Every device adds up a D-th of the entries, for which it is sent the values of all workers, and
    sends the means to all: as many bytes as a ring's all-reduce, for one worker a device.
    """

    def one(flat: Array, old: Array) -> Array:
        times = messages_of(flat.shape[1], flat.dtype, math.prod(sizes), longest)
        merge = functools.partial(_in_order, took_part, times)
        return over_slow_links(merge, _padded(flat, math.prod(sizes) * times))[0]

    sizes = lax.axis_size(WORKER), lax.axis_size(DATA)
    return _fused(one, otherwise, pieces, took_part)


def messages_of(length: int, dtype: Any, parts: int, longest: float) -> int:
    """In how many messages of at most ``longest`` bytes each part of some values goes."""
    return max(1, math.ceil(length * jnp.dtype(dtype).itemsize / (parts * longest)))


def summed(
    otherwise: list[Array], pieces: list[Array], took_part: Bool[Array, " S"]
) -> list[Array]:
    """Means over all workers by one all-reduce; the order of the sum is the transport's.

    What is added up is how far each worker moved from ``otherwise``: entries that nobody moved stay
    as they were, bit for bit. The mean of values that moved alike may be off by rounding.
    """

    return _fused(functools.partial(_summed, took_part), otherwise, pieces, took_part)


def _summed(took_part: Bool[Array, " S"], flat: Array, old: Array) -> Array:
    """The means ``[L]`` of values ``[S / D, L]``, by how far each is from ``old``."""
    number = lax.axis_index(WORKER) * len(flat) + jnp.arange(len(flat))
    floats = jnp.issubdtype(flat.dtype, jnp.inexact)
    counts = take(took_part, number) if floats else number == jnp.argmax(took_part)
    values = flat - old if floats else flat.astype(_summable(flat.dtype))
    mine = jnp.where(counts[:, None], values, jnp.zeros((), values.dtype))
    total = over_slow_links(
        lambda part: lax.psum(part, WORKER), mine.sum(axis=0, dtype=values.dtype)
    )
    if not floats:
        return total.astype(flat.dtype)
    moved = total * mean.one_over(took_part.sum(), took_part.size, total.dtype)
    return jnp.where(total == 0, old, old + moved)


def _summable(dtype: jnp.dtype) -> jnp.dtype:
    return jnp.dtype(jnp.int32) if dtype == jnp.bool_ else dtype


def _in_order(took_part: Bool[Array, " S"], times: int, flat: Array) -> Array:
    """Means ``[1, L]`` over all workers of values ``[S / D, L]``, in so many messages."""

    def merged(values: Array) -> Array:
        parts = lax.all_to_all(values, WORKER, split_axis=1, concat_axis=0, tiled=True)
        add = lambda worker, total: mean.add(total, nth(parts, worker), nth(took_part, worker))
        part = mean.over_workers(add, len(parts), parts[0], ())
        return lax.all_gather(part, WORKER, tiled=True)

    if times == 1:
        return merged(flat)[None]
    with jax.named_scope(f"mean in {times} messages"):
        chunks = flat.reshape(len(flat), times, -1).swapaxes(0, 1)
        return lax.map(merged, chunks).reshape(1, -1)


def _padded(flat: Array, to: int) -> Array:
    return jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % to)))


def _fused(
    merge: Callable[[Array, Array], Array],
    otherwise: list[Array],
    pieces: list[Array],
    took_part: Bool[Array, " S"],
) -> list[Array]:
    """Merges leaves of one type as one long vector; ``otherwise`` where nobody took part."""
    done, anyone = list(otherwise), took_part.any()
    for dtype in sorted({leaf.dtype for leaf in otherwise}, key=str):
        numbers = [n for n, leaf in enumerate(otherwise) if leaf.dtype == dtype]
        flat = jnp.concatenate([pieces[n].reshape(len(pieces[n]), -1) for n in numbers], axis=1)
        old = jnp.concatenate([otherwise[n].ravel() for n in numbers])
        merged, start = merge(flat, old), 0
        for n in numbers:
            shape, end = otherwise[n].shape, start + otherwise[n].size
            done[n] = jnp.where(anyone, merged[start:end].reshape(shape), otherwise[n])
            start = end
    return done
