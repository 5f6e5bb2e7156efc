"""Neurons on their way: messages of one size between all devices, as many as the lists need."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ist_jax.routes import Route

WORKER, DATA = "worker", "data"  # the axes of a mesh


class Rows(NamedTuple):
    """A pass's part of the lists with X devices, ``int32[X, C]``.

    A list that is shorter leaves numbers without a neuron. There ``seat`` and ``home`` are beyond
    the end, so that writing drops them; ``place`` and ``worker`` are some number in bounds, and
    what is read there is not used.
    """

    seat: Int[Array, "..."]  # of the slot, on its device
    place: Int[Array, "..."]  # on the other side, on its device
    worker: Int[Array, "..."]
    home: Int[Array, "..."]  # ``place``, to write to


def travel(
    lists: Route,
    m: int,
    capacity: int,
    carry: list[Any],
    send: Callable[[Rows], list[Array]],
    receive: Callable[[list[Any], Rows, list[Array]], list[Any]],
    *,
    outward: bool,
) -> list[Any]:
    """All passes of all ranks; outward is towards the slots."""
    me, devices = lax.axis_index(WORKER), len(lists.count)

    def rows(start, count, first, whose=None):
        number = first + jnp.arange(capacity)
        there = number < count[:, None]
        if whose is not None:
            there &= whose[:, None] != me
        at = jnp.where(there, start[:, None] + number, 0)
        seat, place = lists.seats[at], lists.places[at]
        beyond = jnp.iinfo(jnp.int32).max
        return Rows(
            seat=jnp.where(there, seat % lists.held, beyond),
            place=place,
            worker=seat // m,
            home=jnp.where(there, place, beyond),
        )

    def of_rank(rank, carry):
        def away(number, carry):
            everyone, first = jnp.arange(devices), number * capacity
            start, count = lists.start[..., rank], lists.count[..., rank]
            slots_here = rows(start[me], count[me], first, everyone)
            slots_there = rows(start[:, me], count[:, me], first, everyone)
            here, there = (slots_there, slots_here) if outward else (slots_here, slots_there)
            return receive(carry, there, _swap(send(here)))

        def at_home(number, carry):
            start, count = lists.start[me, me, rank, None], lists.count[me, me, rank, None]
            own = rows(start, count, number * capacity)
            return receive(carry, own, send(own))

        carry = lax.fori_loop(0, lists.passes(capacity)[rank], away, carry)
        return lax.fori_loop(0, -(-lists.count[me, me, rank] // capacity), at_home, carry)

    ranks = lists.count.shape[-1]
    return of_rank(0, carry) if ranks == 1 else lax.fori_loop(0, ranks, of_rank, carry)


def _swap(pieces: list[Array]) -> list[Array]:
    """``[D, ...]``, a part for each device, for ``[D, ...]``, a part from each: one message."""
    done = list(pieces)
    for dtype in sorted({piece.dtype for piece in pieces}, key=str):
        numbers = [n for n, piece in enumerate(pieces) if piece.dtype == dtype]
        flat = jnp.concatenate([pieces[n].reshape(len(pieces[n]), -1) for n in numbers], axis=1)
        flat, start = lax.all_to_all(flat, WORKER, 0, 0, tiled=True), 0
        for n in numbers:
            size = pieces[n][0].size
            done[n] = flat[:, start : start + size].reshape(pieces[n].shape)
            start += size
    return done
