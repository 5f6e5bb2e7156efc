"""Rows on their way: messages of one size between all devices, as many as the lists need.

A pair of devices has a list for each group of neurons. One after another they are its *stream*, of
units: a row is one, or goes as several where groups share messages. A chunk is so many units of
every pair's stream.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ist_jax.core.indexing import ceil_div, nth, take
from ist_jax.sharded.layout import Transfer
from ist_jax.sharded.leaf_layout import DATA, WORKER
from ist_jax.sharded.send_lists import SendLists

BEYOND = jnp.iinfo(jnp.int32).max


class Units(NamedTuple):
    """A chunk's part of the streams with X devices, ``int32[X, C]``.

    A stream that is shorter leaves numbers without a unit. There ``slot`` and ``home`` are beyond
    the end, so that writing drops them; ``place`` and ``worker`` are some number in bounds, and
    what is read there is not used.
    """

    slot: Int[Array, "..."]  # on its device
    place: Int[Array, "..."]  # on the other side, on its device
    worker: Int[Array, "..."]
    home: Int[Array, "..."]  # ``place``, to write to


class Lists(NamedTuple):
    """Where a group's lists with X devices begin, and how long they are, ``int32[X]``."""

    start: Int[Array, "..."]
    length: Int[Array, "..."]


class Stream(NamedTuple):
    """The lists of all groups of a transfer, in their order."""

    transfer: Transfer
    lists: list[SendLists]

    @property
    def lengths(self) -> Int[Array, "D D R"]:
        """Units between each two devices."""
        each = zip(self.transfer.groups, self.lists, strict=True)
        return sum((rows.units * lists.lengths for rows, lists in each), jnp.int32(0))

    def chunks(self) -> Int[Array, " R"]:
        """Chunks for each rank; what stays on its device does not travel, and does not count."""
        lengths = self.lengths
        away = jnp.where(jnp.eye(len(lengths), dtype=bool)[..., None], 0, lengths)
        return ceil_div(away.max(axis=(0, 1)), self.transfer.capacity)

    def part(self, lists: list[Lists], chunk: Array) -> Units:
        """A chunk of the streams with X devices, of each group's lists with them."""
        number = chunk * self.transfer.capacity + jnp.arange(self.transfer.capacity)
        number = jnp.broadcast_to(number, (len(lists[0].length), self.transfer.capacity))
        nothing = jnp.zeros_like(number)
        units, first_slot, first_place = (
            Units(nothing + BEYOND, nothing, nothing, nothing + BEYOND),
            0,
            0,
        )
        for rows, every, mine in zip(self.transfer.groups, self.lists, lists, strict=True):
            count = mine.length[:, None] * rows.units
            there = (number >= 0) & (number < count)
            row, unit = lax.div(number, rows.units), lax.rem(number, rows.units)
            at = jnp.where(there, mine.start[:, None] + row, 0)
            slot, place = take(every.slots, at), take(every.places, at)
            worker = lax.div(slot, every.slots.size // self.transfer.workers)
            slot = first_slot + lax.rem(slot, every.device_slots) * rows.units + unit
            place = first_place + place * rows.units + unit
            found = zip(Units(slot, place, worker, place), units, strict=True)
            units = Units(*(jnp.where(there, new, old) for new, old in found))
            number = number - count
            first_slot += every.device_slots * rows.units
            first_place += every.positions * rows.units
        return units


def travel(
    stream: Stream,
    carry: list[Any],
    send: Callable[[Units], list[Array]],
    receive: Callable[[list[Any], Units, list[Array]], list[Any]],
    *,
    outward: bool,
) -> tuple[list[Any], Int[Array, ""]]:
    """All chunks of all ranks, and how many those were.

    In each, ``send(at)`` reads the units ``[X, C, ...]`` of X devices' streams and ``receive(carry,
    at, units)`` puts those that came where they belong. Outward is towards the slots. What stays on
    its device goes through the same two functions, without a message.
    """
    chunks = stream.chunks()
    of_rank = functools.partial(_of_rank, stream, send, receive, outward)
    with jax.named_scope(stream.transfer.name):
        if len(chunks) == 1:
            return of_rank(0, carry), chunks.sum()
        return lax.fori_loop(0, len(chunks), of_rank, carry), chunks.sum()


def _of_rank(
    stream: Stream,
    send: Callable[[Units], list[Array]],
    receive: Callable[[list[Any], Units, list[Array]], list[Any]],
    outward: bool,
    rank: Any,
    carry: list[Any],
) -> list[Any]:
    """The chunks of one rank: first those that travel, then what stays on its device."""
    me = lax.axis_index(WORKER)
    each = [(lists.starts[..., rank], lists.lengths[..., rank]) for lists in stream.lists]
    slots_here = [_but_own(me, nth(start, me), nth(count, me)) for start, count in each]
    slots_elsewhere = [_but_own(me, nth(start.T, me), nth(count.T, me)) for start, count in each]
    own = [Lists(*(nth(nth(n, me), me)[None] for n in lists)) for lists in each]
    going, coming = (slots_elsewhere, slots_here) if outward else (slots_here, slots_elsewhere)

    def away(chunk, carry):
        pieces = _swap(send(stream.part(going, chunk)))
        return receive(carry, stream.part(coming, chunk), pieces)

    def at_home(chunk, carry):
        at = stream.part(own, chunk)
        return receive(carry, at, send(at))

    carry = lax.fori_loop(0, stream.chunks()[rank], away, carry)
    staying = ceil_div(nth(nth(stream.lengths[..., rank], me), me), stream.transfer.capacity)
    return lax.fori_loop(0, staying, at_home, carry)


def _but_own(me: Array, start: Array, count: Array) -> Lists:
    """Lists with all devices, of which that with its own is empty."""
    return Lists(start, jnp.where(jnp.arange(len(count)) == me, 0, count))


def over_slow_links(move: Callable[[Array], Array], values: Array) -> Array:
    """``move([..., L]) -> [..., L]`` between workers, where several devices share a worker.

    Each of them moves its part, and they put the parts together over the links inside.
    """
    devices = lax.axis_size(DATA)
    if devices == 1:
        return move(values)
    length = values.shape[-1]
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -length % devices)]
    parts = jnp.pad(values, padding)
    part = parts.shape[-1] // devices
    own = lax.dynamic_slice_in_dim(parts, lax.axis_index(DATA) * part, part, axis=-1)
    axis = values.ndim - 1
    return lax.all_gather(move(own), DATA, axis=axis, tiled=True)[..., :length]


def _swap(pieces: list[Array]) -> list[Array]:
    """``[D, ...]``, a part for each device, for ``[D, ...]``, a part from each.

    One message for each type of number.
    """
    swap = lambda flat: lax.all_to_all(flat, WORKER, 0, 0, tiled=True)
    done = list(pieces)
    for dtype in sorted({piece.dtype for piece in pieces}, key=str):
        some = [n for n, piece in enumerate(pieces) if piece.dtype == dtype]
        flat = [pieces[n].reshape(len(pieces[n]), -1) for n in some]
        came, start = over_slow_links(swap, jnp.concatenate(flat, axis=1)), 0
        for n in some:
            size = pieces[n][0].size
            done[n] = came[:, start : start + size].reshape(pieces[n].shape)
            start += size
    return done
