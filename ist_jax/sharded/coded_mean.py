"""The mean of what all workers share, where their updates go in a code.

A leaf goes in blocks of ``BLOCK`` entries. Every device is sent the blocks of which it is in
charge, averages the updates of all workers in their order, and tells all others the mean, in the
code ``BACK``. So each way costs what the code does, however many workers there are. What is rounded
at random has the block's own key, and so the same bits on any number of devices.
"""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key, UInt8

from ist_jax.compress import Code
from ist_jax.compress.codes import BACK, BLOCK, blocks_of
from ist_jax.core import mean
from ist_jax.core.indexing import nth
from ist_jax.core.keys import fold
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import DATA, WORKER


def shared_means(
    layout: Layout,
    old: Mapping[int, Array],
    parts: Mapping[int, list[Array]],
    took_part: Bool[Array, " S"] | None,
    key: Key[Array, ""] | None,
) -> dict[int, Array]:
    """The leaves that nothing cuts, moved by the mean update of all who took part.

    Args:
      old: all leaves as they were, by number.
      parts: of all leaves that have a code; those that are cut are no matter of this function.
    """
    numbers = [n for n in sorted(parts) if layout.leaves[n].cut is None]
    if not numbers or key is None:
        return {}
    took_part = jnp.ones(layout.workers, bool) if took_part is None else took_part
    code = layout.leaves[numbers[0]].code
    assert code is not None
    sent = jnp.concatenate([_bytes(parts[n]) for n in numbers], axis=1)
    before = jnp.concatenate([blocks(old[n][None])[0] for n in numbers])
    move = functools.partial(_moved, layout, code, took_part, key)
    after = _in_messages(layout, code, move, sent, before)
    found, start = {}, 0
    for n in numbers:
        end = start + blocks_of(old[n].size)
        found[n] = after[start:end].ravel()[: old[n].size].reshape(old[n].shape)
        start = end
    return found


def messages_of(layout: Layout, code: Code, count: int, data: int = 1) -> tuple[int, int]:
    """In how many messages so many blocks go, and how many are each device's in one of them.

    Args:
      data: devices that share a worker.
    """
    if layout.devices == 1:
        return 1, count
    devices = layout.devices * data
    each = max(layout.workers_each * code.bytes(BLOCK), BACK.bytes(BLOCK))
    times = max(1, math.ceil(count * each / (devices * layout.longest)))
    return times, -(-count // (devices * times))


def _in_messages(
    layout: Layout, code: Code, move: Callable[..., Array], sent: Array, before: Array
) -> Array:
    """``move(numbers, sent, before)`` for some blocks at a time; they are padded to go up."""
    data = 1 if layout.devices == 1 else lax.axis_size(DATA)
    times, each = messages_of(layout, code, len(before), data)
    some = each * layout.devices * data
    padding = times * some - len(before)
    numbers = jnp.arange(times * some, dtype=jnp.int32)
    sent = jnp.pad(sent, ((0, 0), (0, padding), (0, 0)))
    before = jnp.pad(before, ((0, padding), (0, 0)))
    if times == 1:
        return move(numbers, sent, before)
    with jax.named_scope(f"mean in {times} messages"):
        chunks = sent.reshape(len(sent), times, some, -1).swapaxes(0, 1)
        one = lambda chunk: move(*chunk)
        after = lax.map(
            one, (numbers.reshape(times, some), chunks, before.reshape(times, some, -1))
        )
    return after.reshape(times * some, -1)


def _moved(
    layout: Layout,
    code: Code,
    took_part: Bool[Array, " S"],
    key: Key[Array, ""],
    numbers: Int[Array, " B"],
    sent: UInt8[Array, "W B n"],
    before: Array,
) -> Array:
    """Blocks ``[B, BLOCK]``, moved by the mean of the updates of all workers."""
    if layout.devices > 1:
        numbers, sent = _to_those_in_charge(numbers, sent)

    def add(worker, total):
        change = code.decode(_parts(code, nth(sent, worker)), BLOCK)
        return mean.add(total, change, nth(took_part, worker))

    change = mean.over_workers(add, layout.workers, jnp.zeros((len(numbers), BLOCK)), ())
    keys = jax.vmap(lambda number: fold(key, "mean", number))(numbers)
    told = _bytes(jax.vmap(BACK.encode)(change, keys))
    if layout.devices > 1:
        told = _to_all(told)
    after = before + BACK.decode(_parts(BACK, told), BLOCK)
    return jnp.where(took_part.any(), after, before)


def _to_those_in_charge(numbers: Array, sent: Array) -> tuple[Array, Array]:
    """Of blocks ``[S / D, B, n]`` those of which this device is in charge, of all workers.

    Devices that share a worker are in charge of a part each.
    """
    part = len(numbers) // lax.axis_size(DATA)
    place = lax.axis_index(DATA) * part
    sent = lax.dynamic_slice_in_dim(sent, place, part, axis=1)
    sent = lax.all_to_all(sent, WORKER, split_axis=1, concat_axis=0, tiled=True)
    place += lax.axis_index(WORKER) * sent.shape[1]
    return lax.dynamic_slice_in_dim(numbers, place, sent.shape[1]), sent


def _to_all(told: Array) -> Array:
    told = lax.all_gather(told, WORKER, tiled=True)
    return told if lax.axis_size(DATA) == 1 else lax.all_gather(told, DATA, tiled=True)


def _bytes(parts: list[Array]) -> UInt8[Array, "..."]:
    """The parts of a code one behind the other, so that they are one message."""

    def one(part):
        plain = lax.bitcast_convert_type(part, jnp.uint8)
        return plain.reshape(*part.shape[:-1], -1)

    return jnp.concatenate([one(part) for part in parts], axis=-1)


def _parts(code: Code, plain: UInt8[Array, "..."]) -> list[Array]:
    """The inverse of ``_bytes``, of blocks."""
    found, start = [], 0
    for count, dtype in code.parts(BLOCK):
        size = jnp.dtype(dtype).itemsize
        some = plain[..., start : start + count * size]
        shape = (*some.shape[:-1], count, *((size,) if size > 1 else ()))
        found.append(lax.bitcast_convert_type(some.reshape(shape), dtype))
        start += count * size
    return found


def blocks(leaf: Array) -> Array:
    """``[S, ...]`` in blocks ``[S, B, BLOCK]``, the last of them padded with zeros."""
    flat = leaf.reshape(len(leaf), -1)
    return jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % BLOCK))).reshape(len(leaf), -1, BLOCK)
