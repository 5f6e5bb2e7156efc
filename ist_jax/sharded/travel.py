"""Leaves with one cut axis, whose rows stay with their holders between two rounds.

All of them go to the next holders together. They leave home when a run begins, and come home when
the whole net is asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ist_jax.core.indexing import lay, put, take
from ist_jax.partition import Assignment
from ist_jax.sharded import chunks, send_lists
from ist_jax.sharded.chunks import Stream, Units
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.messages import Rows, Transfer
from ist_jax.sharded.send_lists import SendLists

Moved = tuple[dict[int, Array], Int[Array, ""]]


def to_next(
    layout: Layout,
    transfer: Transfer,
    rows: Mapping[int, Array],
    before: Mapping[int, Array],
    assignment: Assignment,
    next_assignment: Assignment,
) -> Moved:
    """From the slots of one assignment to those of the next; each neuron has one in both.

    They arrive where the rows from before were: all of those are overwritten, but in empty slots.
    """

    def lists(group: str) -> SendLists:
        positions = send_lists.positions_of_holders(assignment[group], layout.widths[group])
        ids, here = next_assignment[group], layout.device_slots(group)
        return send_lists.lists_between(ids, positions, here, layout.devices)

    filled = {}
    for group, leaves, _ in transfer.groups:
        full = take(next_assignment[group], layout.device_workers).ravel() < layout.widths[group]
        uneven = layout.workers * layout.slots[group] > layout.widths[group]
        for n in leaves:
            filled[n] = _where(full, before[n], jnp.zeros_like(before[n])) if uneven else before[n]
    return _moved(transfer, lists, rows, filled, outward=True)


def of_present(
    layout: Layout, group: str, rows: Array, before: Array, took_part: Bool[Array, " S"] | None
) -> Array:
    """Rows in the slots of a group; as they were before, of workers that did not take part."""
    if took_part is None:
        return rows
    trained = take(took_part, layout.device_workers).repeat(layout.slots[group])
    # A barrier: selecting and transposing in one loop takes four times as long.
    return _where(trained, lax.optimization_barrier(rows), before)


def leave_home(
    layout: Layout, transfer: Transfer, homes: Mapping[int, Array], assignment: Assignment
) -> Moved:
    """From the homes to the slots; empty ones get zeros."""
    return _with_home(layout, transfer, homes, assignment, outward=True)


def come_home(
    layout: Layout, transfer: Transfer, rows: Mapping[int, Array], assignment: Assignment
) -> Moved:
    """The inverse of ``leave_home``."""
    return _with_home(layout, transfer, rows, assignment, outward=False)


def _with_home(
    layout: Layout,
    transfer: Transfer,
    rows: Mapping[int, Array],
    assignment: Assignment,
    *,
    outward: bool,
) -> Moved:
    def lists(group: str) -> SendLists:
        positions = send_lists.positions_at_home(layout.widths[group])
        here = layout.home(group)
        return send_lists.lists_between(assignment[group], positions, here, layout.devices)

    length = layout.device_slots if outward else layout.home
    empty = {
        n: jnp.zeros((length(group), *rows[n].shape[1:]), rows[n].dtype)
        for group, leaves, _ in transfer.groups
        for n in leaves
    }
    return _moved(transfer, lists, rows, empty, outward=outward)


def _where(which: Bool[Array, " n"], rows: Array, otherwise: Array) -> Array:
    return jnp.where(lay(which, (0,), rows.ndim), rows, otherwise)


def _moved(
    transfer: Transfer,
    lists: Callable[[str], SendLists],
    going: Mapping[int, Array],
    filled: Mapping[int, Array],
    *,
    outward: bool,
) -> Moved:
    """Rows from one side of the lists to the other, into those that are there."""
    source = _packed(transfer, going)

    def send(at: Units) -> list[Array]:
        if outward:
            return [take(units, at.place) for units in source]
        return [take(units, jnp.minimum(at.slot, len(units) - 1)) for units in source]

    def receive(carry: list[Array], at: Units, pieces: list[Array]) -> list[Array]:
        where = (at.slot if outward else at.home).ravel()
        flat = [piece.reshape(-1, *piece.shape[2:]) for piece in pieces]
        return [put(units, piece, where) for units, piece in zip(carry, flat, strict=True)]

    stream = Stream(transfer, [lists(rows.group) for rows in transfer.groups])
    packed, count = chunks.travel(stream, _packed(transfer, filled), send, receive, outward=outward)
    return _unpacked(transfer, packed, filled), count


def _packed(transfer: Transfer, rows: Mapping[int, Array]) -> list[Array]:
    """All rows as units; as they are where a row is one, of the only group."""
    if len(transfer.groups) == 1:
        return [rows[n] for n in transfer.leaves]
    return [
        jnp.concatenate([_units(of, dtype, length, rows) for of in transfer.groups])
        for dtype, length in transfer.unit.items()
    ]


def _units(of: Rows, dtype: Any, length: int, rows: Mapping[int, Array]) -> Array:
    """The rows of a group as units ``[rows x units, length]``, of one type of number."""
    count = len(rows[of.leaves[0]])
    some = [rows[n].reshape(count, -1) for n in of.leaves if rows[n].dtype == dtype]
    flat = jnp.concatenate([*some, jnp.zeros((count, 0), dtype)], axis=1)
    padding = of.units * length - flat.shape[1]
    return jnp.pad(flat, ((0, 0), (0, padding))).reshape(-1, length)


def _unpacked(
    transfer: Transfer, packed: list[Array], like: Mapping[int, Array]
) -> dict[int, Array]:
    """The inverse of ``_packed``."""
    if len(transfer.groups) == 1:
        return dict(zip(transfer.leaves, packed, strict=True))
    found, first = {}, 0
    for _, leaves, units in transfer.groups:
        count = len(like[leaves[0]])
        rest = {
            dtype: every[first : first + count * units].reshape(count, -1)
            for dtype, every in zip(transfer.unit, packed, strict=True)
        }
        first += count * units
        for n in leaves:
            size = like[n][0].size
            mine, rest[like[n].dtype] = jnp.split(rest[like[n].dtype], [size], axis=1)
            found[n] = mine.reshape(like[n].shape)
    return found
