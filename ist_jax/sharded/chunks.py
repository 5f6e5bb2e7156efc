"""Neurons on their way: messages of one size between all devices, as many as the lists need."""

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


class Rows(NamedTuple):
    """A chunk's part of the lists with X devices, ``int32[X, C]``.

    A list that is shorter leaves numbers without a neuron. There ``slot`` and ``home`` are beyond
    the end, so that writing drops them; ``place`` and ``worker`` are some number in bounds, and
    what is read there is not used.
    """

    slot: Int[Array, "..."]  # on its device
    place: Int[Array, "..."]  # on the other side, on its device
    worker: Int[Array, "..."]
    home: Int[Array, "..."]  # ``place``, to write to


def travel(
    transfer: Transfer,
    lists: SendLists,
    carry: list[Any],
    send: Callable[[Rows], list[Array]],
    receive: Callable[[list[Any], Rows, list[Array]], list[Any]],
    *,
    outward: bool,
) -> tuple[list[Any], Int[Array, ""]]:
    """All chunks of all ranks, and how many those were.

    In each, ``send(at)`` reads the rows ``[X, C, ...]`` of X devices' lists and ``receive(carry,
    at, rows)`` puts those that came where they belong. Outward is towards the slots. What stays on
    its device goes through the same two functions, without a message.
    """
    chunks = lists.chunks(transfer.capacity)
    of_rank = functools.partial(_of_rank, transfer, lists, send, receive, outward)
    with jax.named_scope(transfer.name):
        if len(chunks) == 1:
            return of_rank(0, carry), chunks.sum()
        return lax.fori_loop(0, len(chunks), of_rank, carry), chunks.sum()


def _of_rank(
    transfer: Transfer,
    lists: SendLists,
    send: Callable[[Rows], list[Array]],
    receive: Callable[[list[Any], Rows, list[Array]], list[Any]],
    outward: bool,
    rank: Any,
    carry: list[Any],
) -> list[Any]:
    """The chunks of one rank: first those that travel, then what stays on its device."""
    me, capacity = lax.axis_index(WORKER), transfer.capacity
    rows = functools.partial(_rows, lists, lists.slots.size // transfer.workers, capacity)
    start, count = lists.starts[..., rank], lists.lengths[..., rank]
    elsewhere = jnp.arange(len(count)) != me
    near_start, near_count = nth(start, me), nth(count, me)  # of slots on this device
    far_start, far_count = nth(start.T, me), nth(count.T, me)  # of slots elsewhere
    near_away, far_away = (jnp.where(elsewhere, n, 0) for n in (near_count, far_count))
    own_start, own_count = nth(near_start, me), nth(near_count, me)

    def away(number, carry):
        near = rows(near_start, near_away, number * capacity)
        far = rows(far_start, far_away, number * capacity)
        here, there = (far, near) if outward else (near, far)
        return receive(carry, there, _swap(transfer, send(here)))

    def at_home(number, carry):
        own = rows(own_start[None], own_count[None], number * capacity)
        return receive(carry, own, send(own))

    carry = lax.fori_loop(0, lists.chunks(capacity)[rank], away, carry)
    return lax.fori_loop(0, ceil_div(own_count, capacity), at_home, carry)


def _rows(
    lists: SendLists, slots_each: int, capacity: int, start: Array, count: Array, first: Array
) -> Rows:
    """Rows from number ``first`` on, of X lists that begin at ``start`` and are ``count`` long."""
    number = first + jnp.arange(capacity)
    there = number < count[:, None]
    at = jnp.where(there, start[:, None] + number, 0)
    slot, place = take(lists.slots, at), take(lists.places, at)
    beyond = jnp.iinfo(jnp.int32).max
    return Rows(
        slot=jnp.where(there, lax.rem(slot, lists.device_slots), beyond),
        place=place,
        worker=lax.div(slot, slots_each),
        home=jnp.where(there, place, beyond),
    )


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


def _swap(transfer: Transfer, pieces: list[Array]) -> list[Array]:
    """``[D, ...]``, a part for each device, for ``[D, ...]``, a part from each."""
    swap = lambda flat: lax.all_to_all(flat, WORKER, 0, 0, tiled=True)
    done = list(pieces)
    for message in transfer.messages:
        flat = [pieces[part].reshape(len(pieces[part]), -1) for part in message.parts]
        came, start = over_slow_links(swap, jnp.concatenate(flat, axis=1)), 0
        for part in message.parts:
            size = pieces[part][0].size
            done[part] = came[:, start : start + size].reshape(pieces[part].shape)
            start += size
    return done
