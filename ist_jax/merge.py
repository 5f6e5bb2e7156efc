"""The mean over all workers of what they all hold: shared leaves, gradients.

Leaves of one type go as one long vector, so that there is one message and not many.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ist_jax import mean
from ist_jax.passes import DATA, WORKER, over_slow_links


def in_order(
    otherwise: list[Array], pieces: list[Array], took_part: Bool[Array, " S"], workers: int
) -> list[Array]:
    """Means over all workers of leaves ``[S / D, ...]``, added up in the order of the workers.

    Every device adds up a D-th of the entries, for which it is sent the values of all workers, and
    sends the means to all: as many bytes as a ring's all-reduce, for one worker a device.
    """

    def one(before: Array, flat: Array) -> Array:
        whole = over_slow_links(lambda part: _in_order(part, took_part), flat)[0, : before.size]
        return jnp.where(took_part.any(), whole, before)

    return _fused(one, otherwise, pieces, pad_to=lax.axis_size(WORKER) * lax.axis_size(DATA))


def summed(
    otherwise: list[Array], pieces: list[Array], took_part: Bool[Array, " S"], workers: int
) -> list[Array]:
    """Means over all workers by one all-reduce; the order of the sum is the transport's."""
    first = jnp.argmax(took_part)

    def one(before: Array, flat: Array) -> Array:
        number = lax.axis_index(WORKER) * len(flat) + jnp.arange(len(flat))
        floats = jnp.issubdtype(flat.dtype, jnp.inexact)
        counts = took_part[number] if floats else (number == first) & took_part.any()
        local = jnp.where(counts[:, None], flat, jnp.zeros((), flat.dtype)).sum(axis=0)
        most = workers if floats else 1
        total = over_slow_links(lambda part: lax.psum(part, WORKER), local)
        count = took_part.sum() if floats else took_part.any().astype(jnp.int32)
        return mean.end((total, count), most, before)

    return _fused(one, otherwise, pieces)


def _in_order(flat: Array, took_part: Bool[Array, " S"]) -> Array:
    """Means ``[1, L]`` over all workers of values ``[S / D, L]``."""
    parts = lax.all_to_all(flat, WORKER, split_axis=1, concat_axis=0, tiled=True)
    total = lax.fori_loop(
        0,
        len(parts),
        lambda s, total: mean.add(total, parts[s], took_part[s]),
        mean.start(parts[0], ()),
    )
    part = mean.end(total, len(parts), parts[0])
    return lax.all_gather(part, WORKER, tiled=True)[None]


def _fused(
    merge: Callable[[Array, Array], Array],
    otherwise: list[Array],
    pieces: list[Array],
    pad_to: int = 1,
) -> list[Array]:
    """Merges leaves of one type as one long vector, so that there is one message and not many."""
    done = list(otherwise)
    for dtype in sorted({leaf.dtype for leaf in otherwise}, key=str):
        numbers = [n for n, leaf in enumerate(otherwise) if leaf.dtype == dtype]
        before = jnp.concatenate([otherwise[n].ravel() for n in numbers])
        flat = jnp.concatenate([pieces[n].reshape(len(pieces[n]), -1) for n in numbers], axis=1)
        flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % pad_to)))
        merged, start = merge(before, flat), 0
        for n in numbers:
            size = otherwise[n].size
            done[n] = merged[start : start + size].reshape(otherwise[n].shape)
            start += size
    return done
