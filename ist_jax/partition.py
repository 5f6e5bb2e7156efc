"""Who trains which neurons this round.

An *assignment* gives, for every group that is cut, the neurons of each of S workers,
``{"hidden0": int32[S, m], ...}``. Rows are sorted, so that one worker that holds everything holds
it in its natural order; an id equal to the group's width is an *empty slot* and stands at the end.
A group that is absent from an assignment is not cut: every worker holds all of it.

A partition is a pure function ``(key, widths, workers, round, previous) -> assignment``, where
``previous`` is the assignment of the round before, if there was one; everything static about it
(shares, shards) is bound with ``functools.partial``. The widths and m never depend on the
key or the round, so that one compiled program serves all rounds. Every group draws from a key of
its own, folded with its name: adding a layer does not change the draws of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from ist_jax.core.errors import InputError
from ist_jax.core.indexing import stable_order
from ist_jax.core.keys import Number, fold

# {group: [S, m]}; S and m are checked at the door (decompose), with messages that name the group.
Assignment = Mapping[str, Int[Array | np.ndarray, "..."]]


@runtime_checkable
class Partition(Protocol):
    """What a new way to draw subnets has to be."""

    def __call__(
        self,
        key: Key[Array, ""],
        widths: Mapping[str, int],
        workers: int,
        round: Number = 0,
        previous: Assignment | None = None,
    ) -> Assignment: ...


def permutation(
    key: Key[Array, ""],
    widths: Mapping[str, int],
    workers: int,
    round: Number = 0,
    previous: Assignment | None = None,
    *,
    shares: Sequence[float | int] | None = None,
) -> Assignment:
    """Deals a fresh uniform permutation of every group out to the workers (IST, section 2.1).

    Disjoint, and every neuron is held by exactly one worker. A remainder goes to the first workers.

    Args:
      key: the run's key for draws; the round is folded in here.
      widths: neurons of each group.
      workers: S, at most the smallest width.
      round: number of the round.
      shares: relative capacity of each worker (S numbers > 0); equal if absent. Worker s gets a
        share of every group in proportion, the largest remainders rounded up.

    Raises:
      InputError: more workers than neurons, or shares that leave a worker without any.

    Example:
      >>> who = permutation(jax.random.key(0), {"hidden0": 6}, workers=3)
      >>> who["hidden0"].shape
      (3, 2)
    """
    return {
        group: _deal(jax.random.permutation(fold(key, round, group), width), counts)
        for group, width, counts in _plan(widths, workers, shares)
    }


def fixed(
    key: Key[Array, ""],
    widths: Mapping[str, int],
    workers: int,
    round: Number = 0,
    previous: Assignment | None = None,
    *,
    draw: Partition = permutation,
) -> Assignment:
    """The draw of round 0 in every round: subnets that never mix, which is an ensemble."""
    return draw(key, widths, workers, 0)


def balanced(
    key: Key[Array, ""],
    widths: Mapping[str, int],
    workers: int,
    round: Number = 0,
    previous: Assignment | None = None,
    *,
    shards: int | None = None,
) -> Assignment:
    """A permutation in which every worker draws equally many neurons from each place they lie in.

    Places are the homes, ``shards`` (default: S) runs of ``ceil(N / shards)`` consecutive neurons,
    and after round 0 the workers that held them before: what then goes from device to device is the
    same for every pair. The neurons are sorted by home, then by holder (the holders in an order
    drawn for each home, which matters where a place has fewer than S), in random order within, and
    dealt out one by one, as cards are. Where S does not divide a place, counts differ by one, and
    the odd ones go on in turn, so that all workers hold as many as under ``permutation``.

    Two neurons from one home and one holder meet again less often than there: with S^2 M neurons in
    all, with probability (M/S - 1)/(M - 1) instead of about 1/S.
    """
    homes = workers if shards is None else shards
    if homes < 1:
        raise InputError(f"balanced needs at least one home shard, found shards={homes}")
    who = {}
    for group, width, counts in _plan(widths, workers, None):
        mixed = jax.random.permutation(fold(key, round, group), width)
        place = mixed // -(-width // homes)
        if previous is not None:
            holder = jnp.zeros(width + 1, jnp.int32)
            holder = holder.at[previous[group]].set(jnp.arange(workers)[:, None])[mixed]
            keys = jax.random.split(fold(key, round, group, "holders"), homes)
            order = jax.vmap(lambda key: jax.random.permutation(key, workers))(keys)
            by_holder = stable_order(order[place, holder], workers)
            mixed, place = mixed[by_holder], place[by_holder]
        cards = mixed[stable_order(place, homes)].astype(jnp.int32)
        empty = jnp.full(max(counts) * workers - width, width, jnp.int32)
        who[group] = jnp.sort(jnp.append(cards, empty).reshape(-1, workers).T, axis=1)
    return who


def in_order(
    key: Key[Array, ""],
    widths: Mapping[str, int],
    workers: int,
    round: Number = 0,
    previous: Assignment | None = None,
    *,
    only: str | None = None,
) -> Assignment:
    """The first neurons to the first worker, the next to the next, in every round.

    Args:
      only: the one group that is cut; all of them if absent.
    """
    cut = {group: n for group, n in widths.items() if only in (None, group)}
    return {group: _deal(jnp.arange(n), counts) for group, n, counts in _plan(cut, workers, None)}


def uncut(
    key: Key[Array, ""],
    widths: Mapping[str, int],
    workers: int,
    round: Number = 0,
    previous: Assignment | None = None,
) -> Assignment:
    """Nothing is cut: every worker holds the whole net, which is local SGD."""
    return {}


def sub_widths(partition: Partition, widths: Mapping[str, int], workers: int) -> dict[str, int]:
    """The widths of one worker's net: slots per worker where a group is cut, N elsewhere."""
    who = jax.eval_shape(lambda key: partition(key, widths, workers, 0), jax.random.key(0))
    return {group: who[group].shape[1] if group in who else n for group, n in widths.items()}


def check(who: Assignment, widths: Mapping[str, int]) -> None:
    """Complains about what is no assignment; under ``jit``, where ids are unknown, about shapes.

    Raises:
      InputError: a group that has no width, arrays that are not int[S, m], groups of different S,
        an id out of range, a neuron twice in one worker.
    """
    for group, ids in who.items():
        if group not in widths:
            raise InputError(
                f"the assignment cuts a group {group!r} that no parameter names; the groups are "
                f"{sorted(widths)}"
            )
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise InputError(
                f"the assignment of group {group!r} must be int32[S, m] (a row of neurons for each "
                f"worker); found {ids.dtype}{list(ids.shape)}"
            )
        if not isinstance(ids, jax.core.Tracer):
            _check_ids(group, np.asarray(ids), widths[group])
    sizes = {group: len(ids) for group, ids in who.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"the groups are dealt out to different numbers of workers: {sizes}")


def is_disjoint(who: Assignment, widths: Mapping[str, int]) -> bool:
    """Whether no neuron is known to have two holders; false for an assignment under ``jit``."""

    def alone(ids, width):
        return np.bincount(ids.ravel(), minlength=width)[:width].max(initial=0) <= 1

    known = not any(isinstance(ids, jax.core.Tracer) for ids in who.values())
    return known and all(alone(np.asarray(ids), widths[group]) for group, ids in who.items())


def _plan(widths: Mapping[str, int], workers: int, shares: Sequence[float | int] | None):
    if workers < 1:
        raise InputError(f"need at least one worker, found workers={workers}")
    for group, width in widths.items():
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
    width, slots = len(ids), max(counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = starts[:, None] + np.arange(slots)[None, :]
    held = np.arange(slots)[None, :] < np.asarray(counts)[:, None]
    rows = jnp.where(held, ids[np.where(held, place, 0)], width)
    return jnp.sort(rows.astype(jnp.int32), axis=1)


def _check_ids(group: str, ids: np.ndarray, width: int) -> None:
    wrong = ids[(ids < 0) | (ids > width)]
    if wrong.size:
        raise InputError(
            f"the assignment of group {group!r} holds neuron {wrong[0]}, but ids run from 0 to "
            f"{width - 1} ({width} marks an empty slot)"
        )
    rows = np.sort(ids, axis=1)
    worker, at = np.nonzero((rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] < width))
    if worker.size:
        raise InputError(
            f"the assignment of group {group!r} gives worker {worker[0]} neuron "
            f"{rows[worker[0], at[0]]} twice"
        )
