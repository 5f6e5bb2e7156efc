"""Who trains which neurons this round.

A *draw* is a pure function ``(key, context) -> assignment``. The ``Context`` is all that it may
look at: the widths of the groups, the number of workers, the round, the assignment of the round
before. The shapes it gives never depend on the key or the round, so that one compiled program
serves all rounds. Options (shares, shards) are bound with ``functools.partial``. Every group draws
from a key of its own, folded with its name: adding a layer does not change the draws of the others.

The draws here may also be called with the parts of a context::

    permutation(key, {"hidden0": 4096}, workers=8)

``core.assignment`` says what an assignment is.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ist_jax.core.assignment import Assignment, check, is_disjoint
from ist_jax.core.errors import InputError
from ist_jax.core.indexing import stable_order
from ist_jax.core.keys import Number, fold

__all__ = [
    "Assignment",
    "Context",
    "Draw",
    "balanced",
    "check",
    "contiguous",
    "fixed",
    "is_disjoint",
    "permutation",
    "replicated",
    "rotating",
    "slot_counts",
    "sub_widths",
    "takes_parts",
]


class Context(NamedTuple):
    """What a draw may look at.

    Attributes:
      widths: neurons of each group.
      workers: S.
      number: of the round, from 0; it may be traced.
      previous: the assignment of the round before, if there was one.
    """

    widths: Mapping[str, int]
    workers: int
    number: Number = 0
    previous: Assignment | None = None


Draw = Callable[[Key[Array, ""], Context], Assignment]


def takes_parts(draw: Callable[..., Assignment]) -> Callable[..., Assignment]:
    """Lets a draw be called with the parts of a context too: ``(key, widths, workers, ...)``."""

    @functools.wraps(draw)
    def call(
        key: Key[Array, ""],
        widths: Mapping[str, int] | Context,
        workers: int | None = None,
        number: Number = 0,
        previous: Assignment | None = None,
        **options: Any,
    ) -> Assignment:
        if isinstance(widths, Context):
            return draw(key, widths, **options)
        if workers is None:
            raise InputError("a draw needs the number of workers: workers=S")
        return draw(key, Context(widths, workers, number, previous), **options)

    return call


@takes_parts
def permutation(
    key: Key[Array, ""],
    context: Context,
    *,
    shares: Sequence[float | int] | None = None,
) -> Assignment:
    """Deals a fresh uniform permutation of every group out to the workers (IST, section 2.1).

    Disjoint, and every neuron is held by exactly one worker. A remainder goes to the first workers.

    Args:
      key: the run's key for draws; the round is folded in here.
      context: what may be looked at; there may be at most as many workers as the smallest width.
      shares: relative capacity of each worker (S numbers > 0); equal if absent. Worker s gets a
        share of every group in proportion, the largest remainders rounded up.

    Raises:
      InputError: more workers than neurons, or shares that leave a worker without any.

    Example:
      >>> assignment = permutation(jax.random.key(0), {"hidden0": 6}, workers=3)
      >>> assignment["hidden0"].shape
      (3, 2)
    """
    return {
        group: _deal(jax.random.permutation(fold(key, context.number, group), width), counts)
        for group, width, counts in _counts_of(context, shares)
    }


@takes_parts
def fixed(key: Key[Array, ""], context: Context, *, draw: Draw = permutation) -> Assignment:
    """The draw of round 0 in every round: subnets that never mix, which is an ensemble."""
    return draw(key, context._replace(number=0, previous=None))


@takes_parts
def rotating(key: Key[Array, ""], context: Context, *, draw: Draw = permutation) -> Assignment:
    """The subnets of round 0 in every round, each with another worker, drawn anew each time.

    Neurons that begin together stay together: what ``permutation`` adds to it is new partners.
    """
    order = jax.random.permutation(fold(key, context.number, "rotating"), context.workers)
    return {group: ids[order] for group, ids in fixed(key, context, draw=draw).items()}


@takes_parts
def balanced(key: Key[Array, ""], context: Context, *, shards: int | None = None) -> Assignment:
    """A permutation in which every worker draws equally many neurons from each place.

    Places are the homes, ``shards`` (default: S) runs of ``ceil(N / shards)`` consecutive neurons,
    and after round 0 the workers that held them before: what then goes from device to device is the
    same for every pair. The neurons are sorted by home, then by holder (the holders in an order
    drawn for each home, which matters where a place has fewer than S), in random order within, and
    dealt out one by one, as cards are. Where S does not divide a place, counts differ by one, and
    the odd ones go on in turn, so that all workers hold as many as under ``permutation``.

    Two neurons from one home and one holder meet again less often than under ``permutation``. With
    M neurons for each pair of home and holder, S^2 M in all, the probability is (M/S - 1)/(M - 1)
    instead of about 1/S.
    """
    workers, number, previous = context.workers, context.number, context.previous
    homes = workers if shards is None else shards
    if homes < 1:
        raise InputError(f"balanced needs at least one home shard, found shards={homes}")
    assignment = {}
    for group, width, counts in _counts_of(context, None):
        mixed = jax.random.permutation(fold(key, number, group), width)
        place = mixed // -(-width // homes)
        if previous is not None:
            holder = jnp.zeros(width + 1, jnp.int32)
            holder = holder.at[previous[group]].set(jnp.arange(workers)[:, None])[mixed]
            keys = jax.random.split(fold(key, number, group, "holders"), homes)
            order = jax.vmap(lambda key: jax.random.permutation(key, workers))(keys)
            by_holder = stable_order(order[place, holder], workers)
            mixed, place = mixed[by_holder], place[by_holder]
        cards = mixed[stable_order(place, homes)].astype(jnp.int32)
        empty = jnp.full(max(counts) * workers - width, width, jnp.int32)
        assignment[group] = jnp.sort(jnp.append(cards, empty).reshape(-1, workers).T, axis=1)
    return assignment


@takes_parts
def contiguous(key: Key[Array, ""], context: Context, *, only: str | None = None) -> Assignment:
    """The first neurons to the first worker, the next to the next, in every round.

    Args:
      only: the one group that is cut; all of them if absent.
    """
    cut = {group: n for group, n in context.widths.items() if only in (None, group)}
    of_groups = _counts_of(context._replace(widths=cut), None)
    return {group: _deal(jnp.arange(width), counts) for group, width, counts in of_groups}


@takes_parts
def replicated(key: Key[Array, ""], context: Context) -> Assignment:
    """Nothing is cut: every worker holds the whole net, which is local SGD."""
    return {}


def slot_counts(draw: Draw, widths: Mapping[str, int], workers: int) -> dict[str, int]:
    """How many slots a worker has of each group that a draw cuts; empty where nothing is cut."""
    context = Context(widths, workers)
    shapes = jax.eval_shape(lambda key: draw(key, context), jax.random.key(0))
    return {group: ids.shape[1] for group, ids in shapes.items()}


def sub_widths(draw: Draw, widths: Mapping[str, int], workers: int) -> dict[str, int]:
    """The widths of one worker's net: slots per worker where a group is cut, N elsewhere."""
    return {**widths, **slot_counts(draw, widths, workers)}


def _counts_of(context: Context, shares: Sequence[float | int] | None):
    """Every group with its width, and how many neurons of it each worker is dealt."""
    workers = context.workers
    if workers < 1:
        raise InputError(f"need at least one worker, found workers={workers}")
    for group, width in context.widths.items():
        if workers > width:
            raise InputError(
                f"group {group!r} has {width} neurons, too few for {workers} workers: every worker "
                f"needs at least one. Use at most {width} workers or widen the group."
            )
        yield group, width, _counts(group, width, workers, shares)


def _counts(
    group: str, width: int, workers: int, shares: Sequence[float | int] | None
) -> list[int]:
    if shares is None:
        shares = (1.0,) * workers
    numbers = [s for s in shares if isinstance(s, int | float | np.number) and 0 < s < np.inf]
    if len(shares) != workers or len(numbers) != workers:
        raise InputError(
            f"shares must be {workers} positive numbers, one for each worker; found {tuple(shares)}"
        )
    parts = np.asarray(shares, np.float64) / max(shares)  # a sum of large ones would be infinite
    exact = parts / parts.sum() * width
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: width - counts.sum()]] += 1
    if counts.min() < 1:
        raise InputError(
            f"share {shares[int(counts.argmin())]} of worker {int(counts.argmin())} leaves it no "
            f"neuron of group {group!r} (width {width}). Raise the share or widen the group."
        )
    return counts.tolist()


def _deal(ids: Int[Array, " N"], counts: list[int]) -> Int[Array, "S m"]:
    """Cuts a list of ids into one sorted row a worker, padded with empty slots."""
    width, most = len(ids), max(counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = starts[:, None] + np.arange(most)[None, :]
    held = np.arange(most)[None, :] < np.asarray(counts)[:, None]
    rows = jnp.where(held, ids[np.where(held, place, 0)], width)
    return jnp.sort(rows.astype(jnp.int32), axis=1)
