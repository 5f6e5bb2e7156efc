"""Leaves whose rows are at home between two rounds: to the slots, cut, and back, merged.

Each way carries all leaves that have rows of one group, in the chunks of its send lists, and gives
the leaves by their numbers and the number of chunks.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ist_jax.core import mean
from ist_jax.core.indexing import lay, nth, put, read, slot_table, take
from ist_jax.partition import Assignment
from ist_jax.sharded import send_lists
from ist_jax.sharded.chunks import Stream, Units, travel
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import TO_HOME, LeafLayout
from ist_jax.sharded.messages import Transfer

Moved = tuple[dict[int, Array], Int[Array, ""]]


def from_home(
    layout: Layout, transfer: Transfer, homes: Mapping[int, Array], assignment: Assignment
) -> Moved:
    """From the homes to the slots, cut to what each slot's worker holds; empty ones get zeros."""
    group = transfer.groups[0].group
    positions = send_lists.positions_at_home(layout.widths[group])
    lists = send_lists.lists_between(
        assignment[group], positions, layout.home(group), layout.devices
    )
    leaves = {n: layout.leaves[n] for n in transfer.leaves}

    def send(at: Units):
        return [_select(leaf, homes[n], at, assignment) for n, leaf in leaves.items()]

    empty = [
        jnp.zeros((layout.device_slots(group), *leaf.row(layout.slots)), leaf.dtype)
        for leaf in leaves.values()
    ]
    filled, chunks = travel(Stream(transfer, [lists]), empty, send, _fill, outward=True)
    return dict(zip(leaves, filled, strict=True)), chunks


def to_home(
    layout: Layout,
    transfer: Transfer,
    rows: Mapping[int, Array | list[Array]],
    homes: Mapping[int, Array],
    assignment: Assignment,
    took_part: Bool[Array, " S"] | None = None,
) -> Moved:
    """From the slots to the homes: the value of the one holder, or the mean over several.

    Rows of a leaf that goes in a code are its parts, and are added to what is at home.
    """
    took_part = jnp.ones(layout.workers, bool) if took_part is None else took_part
    group = transfer.groups[0].group
    ids = jnp.where(took_part[:, None], assignment[group], layout.widths[group])
    positions = send_lists.positions_at_home(layout.widths[group])
    ranks = 1 if layout.disjoint else layout.workers
    lists = send_lists.lists_between(ids, positions, layout.home(group), layout.devices, ranks)
    tables = {g: slot_table(ids, layout.widths[g], took_part) for g, ids in assignment.items()}
    leaves = {n: layout.leaves[n] for n in transfer.leaves}
    parts = [part for n in leaves for part in _parts(rows[n])]
    send = functools.partial(_read, parts, layout.device_slots(group))
    receive = functools.partial(_receive, layout, leaves, homes, tables)
    begin = [_nothing(layout, leaf, homes[n]) for n, leaf in leaves.items()]
    totals, chunks = travel(Stream(transfer, [lists]), begin, send, receive, outward=False)
    if layout.disjoint:
        return {n: home for n, (home,) in zip(leaves, totals, strict=True)}, chunks
    return {
        n: mean.end(total, layout.workers, homes[n])
        for n, total in zip(leaves, totals, strict=True)
    }, chunks


def _fill(slots_filled: list[Array], at: Units, pieces: list[Array]) -> list[Array]:
    return [
        put(value, piece.reshape(-1, *value.shape[1:]), at.slot.ravel())
        for value, piece in zip(slots_filled, pieces, strict=True)
    ]


def _select(leaf: LeafLayout, rows: Array, at: Units, assignment: Assignment) -> Array:
    """Rows ``[X, C, ...]`` of those that are here, cut to what each slot's worker holds."""
    if not leaf.others:
        return take(rows, at.place)
    ndim = max(leaf.others) + 2
    where = [lay(at.place, (0, 1), ndim)]
    for axis in range(1, ndim - 1):
        if axis in leaf.others:
            where.append(
                lay(take(assignment[leaf.others[axis]], at.worker), (0, 1, axis + 1), ndim)
            )
        else:
            where.append(lay(jnp.arange(rows.shape[axis]), (axis + 1,), ndim))
    value, held = read(rows, where)
    return jnp.where(held, value, jnp.zeros((), rows.dtype))


def _parts(rows: Array | list[Array]) -> list[Array]:
    return rows if isinstance(rows, list) else [rows]


def _decoded(
    layout: Layout, leaf: LeafLayout, parts: list[Array], device: Array, home: Array
) -> tuple[Array, Array | None]:
    """Rows ``[C, ...]`` that came from a device, and the leaf at home that they are added to."""
    mine = [nth(part, device) for part in parts]
    if leaf.code is None:
        return mine[0], None
    row = leaf.row(layout.slots)
    return leaf.code.decode(mine, math.prod(row)).reshape(-1, *row), home


def _read(parts: list[Array], held: int, at: Units) -> list[Array]:
    """What goes home in a chunk: of every part the rows of its slots; a device has ``held``."""
    near = jnp.minimum(at.slot, held - 1)
    return [take(part, near) for part in parts]


def _nothing(layout: Layout, leaf: LeafLayout, home: Array) -> tuple[Array] | mean.Total:
    """What has been put into a leaf before the first row comes home."""
    if layout.disjoint:
        return (home,)
    ndim = max(leaf.others, default=0) + 1
    return mean.start(home, [size if axis < ndim else 1 for axis, size in enumerate(home.shape)])


def _receive(
    layout: Layout,
    leaves: Mapping[int, LeafLayout],
    homes: Mapping[int, Array],
    tables: Mapping[str, Int[Array, "S N"]],
    totals: list[Any],
    at: Units,
    pieces: list[Array],
) -> list[Any]:
    """Puts the rows ``[X, C, ...]`` of X devices into the leaves at home, one device at a time:
    rows as wide as at home are then few."""
    parts = iter(pieces)
    counts = [len(leaf.parts(layout.slots, TO_HOME)) for leaf in leaves.values()]
    of_leaves = [[next(parts) for _ in range(count)] for count in counts]

    def from_device(d, totals):
        one = Units(*(nth(value, d) for value in at))
        return [
            _settle(layout, leaf, total, one, *_decoded(layout, leaf, mine, d, homes[n]), tables)
            for (n, leaf), total, mine in zip(leaves.items(), totals, of_leaves, strict=True)
        ]

    return lax.fori_loop(0, len(at.slot), from_device, totals)


def _settle(
    layout: Layout,
    leaf: LeafLayout,
    total: tuple[Array] | mean.Total,
    at: Units,
    piece: Array,
    home: Array | None,
    tables: Mapping[str, Int[Array, "S N"]],
) -> tuple[Array] | mean.Total:
    """Puts rows ``[C, ...]`` from one device into those at home, or adds them to it."""
    old = 0 if home is None else take(home, at.place)
    if layout.disjoint and not leaf.others:
        value = piece if home is None else old + piece
        return (put(total[0], value, at.home),)
    ndim = max(leaf.others, default=0) + 1
    where = [lay(jnp.arange(len(piece)), (0,), ndim)]
    for axis in range(1, ndim):
        if axis in leaf.others:
            where.append(lay(take(tables[leaf.others[axis]], at.worker), (0, axis), ndim))
        else:
            where.append(lay(jnp.arange(piece.shape[axis]), (axis,), ndim))
    value, held = read(piece, where)
    value = value if home is None else old + value
    near: Any = jax.tree.map(lambda t: take(t, at.place), total)
    rows = (jnp.where(held, value, near[0]),) if layout.disjoint else mean.add(near, value, held)
    return jax.tree.map(lambda t, r: put(t, r, at.home), total, rows)
