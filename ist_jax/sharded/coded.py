"""Updates on their way in a code: encoded where they were trained, decoded where they are merged.

Rows of a cut leaf (``ist_jax.compress``) go home, and are decoded there: ``transfers.to_home``, and
``decode`` where there is one device. A leaf that all workers share goes in blocks of ``BLOCK``
entries. Every device is sent the blocks of which it is in charge, averages the updates of all
workers in their order, and tells all others the mean, in the code ``BACK``. So each way costs what
the code does, however many workers there are. Keys are of the worker and the leaf, or of the block:
what is rounded at random is rounded alike on any number of devices.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key, UInt8

from ist_jax.compress import Code
from ist_jax.compress.codes import BACK, BLOCK, blocks_of
from ist_jax.core import mean
from ist_jax.core.indexing import nth, take
from ist_jax.core.keys import fold
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import DATA, WORKER, LeafLayout

PyTree = Any
Parts = dict[int, list[Array]]  # of each coded leaf, by its number: ``[S / D, rows, n]``
Errors = dict[str, Array]  # ``[S / D, ...]`` of each leaf whose code has feedback, by its name


def encode(
    layout: Layout,
    before: PyTree,
    nets: PyTree,
    key: Key[Array, ""],
    errors: Errors,
    took_part: Bool[Array, " S"] | None,
) -> tuple[Parts, Errors]:
    """What workers send of the leaves that have a code, and what they then remember.

    Args:
      before: the subnets as they were gathered.
      errors: what they remember of earlier rounds (``Layout.errors``); it is sent too, and what the
        code leaves out this time takes its place. Who did not take part has sent nothing.
    """
    parts, remembered = {}, dict(errors)
    for n, (leaf, old, new) in enumerate(_leaves(layout, before, nets)):
        if leaf.code is None:
            continue
        rows = _rows(leaf, new - old)
        if leaf.error:
            error = _rows(leaf, errors[leaf.error])
            rows = rows + error
        parts[n] = _encoded(layout, leaf, n, rows, key)
        if leaf.error:
            left = rows - leaf.code.decode(parts[n], rows.shape[-1])
            if took_part is not None:
                left = jnp.where(take(took_part, layout.device_workers)[:, None, None], left, error)
            remembered[leaf.error] = _unrows(leaf, left, new)
    return parts, remembered


def gradients(layout: Layout, trees: PyTree, key: Key[Array, ""]) -> Parts:
    """What workers send of their gradients of the whole net, which nothing cuts."""
    leaves = zip(layout.leaves, jax.tree.leaves(trees), strict=False)
    return {
        n: _encoded(layout, leaf, n, _blocks(value), key)
        for n, (leaf, value) in enumerate(leaves)
        if leaf.code is not None
    }


def decode(layout: Layout, before: PyTree, nets: PyTree, parts: Parts) -> PyTree:
    """The subnets, with cut leaves as they come out of their codes."""
    found = []
    for n, (leaf, old, new) in enumerate(_leaves(layout, before, nets)):
        if n in parts and leaf.cut is not None:
            rows, code = _rows(leaf, old), _code(leaf)
            new = _unrows(leaf, rows + code.decode(parts[n], rows.shape[-1]), old)
        found.append(new)
    return layout.tree.unflatten(found)


def shared_means(
    layout: Layout,
    old: Mapping[int, Array],
    parts: Parts,
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
    code = _code(layout.leaves[numbers[0]])
    some = [[_bytes(parts[n]) for n in numbers], [_blocks(old[n][None])[0] for n in numbers]]
    sent, before = jnp.concatenate(some[0], axis=1), jnp.concatenate(some[1])
    move = functools.partial(_moved, layout, code, took_part, key)
    after = _in_messages(layout, code, move, sent, before)
    found, start = {}, 0
    for n in numbers:
        end = start + blocks_of(old[n].size)
        found[n] = after[start:end].ravel()[: old[n].size].reshape(old[n].shape)
        start = end
    return found


def messages_of(layout: Layout, code: Code, blocks: int, data: int = 1) -> tuple[int, int]:
    """In how many messages so many blocks go, and how many are each device's in one of them.

    Args:
      data: devices that share a worker.
    """
    if layout.devices == 1:
        return 1, blocks
    devices = layout.devices * data
    each = max(layout.workers_each * code.bytes(BLOCK), BACK.bytes(BLOCK))
    times = max(1, math.ceil(blocks * each / (devices * layout.longest)))
    return times, -(-blocks // (devices * times))


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
    own, data = layout.devices > 1, 1
    if own:
        data = lax.axis_size(DATA)
        if data > 1:  # each device of a group moves its part
            place = lax.axis_index(DATA) * (len(numbers) // data)
            part = lambda blocks, axis: lax.dynamic_slice_in_dim(
                blocks, place, len(numbers) // data, axis
            )
            numbers, sent = part(numbers, 0), part(sent, 1)
        sent = lax.all_to_all(sent, WORKER, split_axis=1, concat_axis=0, tiled=True)
        count = sent.shape[1]
        numbers = lax.dynamic_slice_in_dim(numbers, lax.axis_index(WORKER) * count, count)

    def add(worker, total):
        change = code.decode(_parts(code, nth(sent, worker)), BLOCK)
        return mean.add(total, change, nth(took_part, worker))

    change = mean.over_workers(add, layout.workers, jnp.zeros((len(numbers), BLOCK)), ())
    keys = jax.vmap(lambda number: fold(key, "mean", number))(numbers)
    told = _bytes(jax.vmap(BACK.encode)(change, keys))
    if own:
        told = lax.all_gather(told, WORKER, tiled=True)
        told = lax.all_gather(told, DATA, tiled=True) if data > 1 else told
    after = before + BACK.decode(_parts(BACK, told), BLOCK)
    return jnp.where(took_part.any(), after, before)


def _encoded(
    layout: Layout, leaf: LeafLayout, number: int, rows: Array, key: Key[Array, ""]
) -> list[Array]:
    workers = layout.device_workers
    keys = jax.vmap(lambda worker: fold(key, "code", number, worker))(workers)
    return jax.vmap(_code(leaf).encode)(rows, keys)


def _code(leaf: LeafLayout) -> Code:
    assert leaf.code is not None
    return leaf.code


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


def _leaves(layout: Layout, before: PyTree, nets: PyTree) -> list[tuple[LeafLayout, Any, Array]]:
    """Each leaf's layout, the leaf as it was (None where there is no code), and as it is."""
    news = layout.tree.flatten_up_to(nets)
    olds = [None] * len(news) if before is None else layout.tree.flatten_up_to(before)
    return list(zip(layout.leaves, olds, news, strict=True))


def _rows(leaf: LeafLayout, net: Array) -> Array:
    """A leaf of the subnets ``[S, ...]`` as rows ``[S, m, L]``; in blocks if nothing cuts it."""
    if leaf.cut is None:
        return _blocks(net)
    return jnp.moveaxis(net, leaf.cut + 1, 1).reshape(len(net), net.shape[leaf.cut + 1], -1)


def _unrows(leaf: LeafLayout, rows: Array, like: Array) -> Array:
    """The inverse of ``_rows``."""
    if leaf.cut is None:
        return rows.reshape(len(rows), -1)[:, : like[0].size].reshape(like.shape)
    front = jnp.moveaxis(like, leaf.cut + 1, 1).shape
    return jnp.moveaxis(rows.reshape(front), 1, leaf.cut + 1)


def _blocks(leaf: Array) -> Array:
    """``[S, ...]`` in blocks ``[S, B, BLOCK]``, the last of them padded with zeros."""
    flat = leaf.reshape(len(leaf), -1)
    return jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % BLOCK))).reshape(len(leaf), -1, BLOCK)
