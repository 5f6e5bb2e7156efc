"""Sparse examples: a few numbers out of very many, in rows of one length.

A matrix lies in three arrays, as everywhere (compressed rows): where each row begins, the columns
of its entries, their values. Compiled programs want one shape, so that rows are given out padded
to the same number of entries. The entries of a row are stored with the largest first: where a row
has more of them than are wanted, its smallest are left out.

A round touches few of the columns. ``Touched`` finds those, and numbers them from 0: with them as
the neurons that a worker holds of the group of all columns, it reads, computes and sends the rows
of the first layer that its examples need, and no others.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ist_jax.core.errors import InputError
from ist_jax.data.batches import Batches


class Rows:
    """``n`` rows; ``rows[chosen]`` has a row for each number in ``chosen``, padded to ``most``.

    Args:
      starts: where each row begins, ``int64[n + 1]``.
      ids: columns of the entries, below ``width``, the largest entry of a row first.
      values: of the entries; None where only columns count (labels).
      width: number of columns; it is also the number that pads.
      most: entries that a row may have; the longest row's if None.
    """

    def __init__(
        self,
        starts: Int[np.ndarray, " n1"],
        ids: Int[np.ndarray, " entries"],
        values: Float[np.ndarray, " entries"] | None,
        width: int,
        most: int | None = None,
    ):
        self._begins, self._ends = starts[:-1], starts[1:]
        self._ids, self._values, self.width = ids, values, width
        counts = np.diff(starts)
        longest = int(counts.max(initial=1))
        self.most = longest if most is None else min(most, longest)
        self.shortened = int((counts > self.most).sum())
        if type(self.most) is not int or self.most < 1:
            raise InputError(f"a row must be allowed at least one entry, found most={most!r}")

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, chosen: np.ndarray | slice) -> Any:
        """``{"ids": int32[..., most], "values": float32[..., most]}``, or the ids alone."""
        if isinstance(chosen, slice):
            chosen = np.arange(len(self))[chosen]
        ids, at, there = self._find(chosen)
        if self._values is None:
            return ids
        values = self._values[at] if len(self._values) else np.float32(0)
        return {"ids": ids, "values": np.where(there, values, np.float32(0))}

    def blank(self, shape: tuple[int, ...]) -> Any:
        """Rows without an entry."""
        ids = np.full((*shape, self.most), self.width, np.int32)
        if self._values is None:
            return ids
        return {"ids": ids, "values": np.zeros(ids.shape, np.float32)}

    def columns(self, chosen: np.ndarray) -> np.ndarray:
        """Which columns these rows have, in order."""
        return columns(self._find(chosen)[0], self.width)

    def counts(self) -> np.ndarray:
        """Rows that have each column, ``int64[width]``."""
        sizes = np.subtract(self._ends, self._begins)
        shift = self._begins - np.cumsum(sizes) + sizes
        entries = np.repeat(shift, sizes) + np.arange(sizes.sum())
        return np.bincount(self._ids[entries], minlength=self.width)

    @property
    def a_row(self) -> float:
        """Entries of a row, on average."""
        return float(np.sum(self._ends) - np.sum(self._begins)) / max(len(self), 1)

    def only(self, numbers: Int[np.ndarray, " some"]) -> "Rows":
        """Some of the rows, padded as all of them are; entries are not copied."""
        some = copy.copy(self)
        some._begins, some._ends = self._begins[numbers], self._ends[numbers]
        some.shortened = int((some._ends - some._begins > self.most).sum())
        return some

    def _find(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        begin = np.asarray(self._begins[chosen])[..., None]
        number = np.arange(self.most)
        there = number < np.asarray(self._ends[chosen])[..., None] - begin
        at = np.where(there, begin + number, 0)
        ids = self._ids[at] if len(self._ids) else np.int32(0)
        return np.where(there, ids, np.int32(self.width)), at, there


class Touched:
    """Batches that tell which columns each worker's examples have in a round.

    ``touched(number)`` is ``batches(number)`` with ids numbered by ``["external"]``, the columns
    that a worker holds (``ist_jax.build``). With labels among those, a worker holds the labels of
    its examples and a sample of ``sampled`` others (``tasks.many_labels`` says what becomes of
    them).

    Args:
      batches: of the workers wanted.
      features, labels: how many there are.
      external: slots of a worker, ``{"features": ...}``, and ``"labels"`` if those are sampled.
      sampled: labels to draw.
    """

    def __init__(
        self,
        batches: Batches,
        features: int,
        labels: int,
        external: Mapping[str, int],
        sampled: int,
    ):
        self._batches, self._external, self._sampled = batches, external, sampled
        self._features, self._labels = features, labels
        self.local_steps, self.shards = batches.local_steps, batches.shards

    def __call__(self, number: int, lost: dict[int, str] | None = None) -> dict[str, Any]:
        """As ``Batches``; ``["external"]`` is ``{group: int32[S, slots]}``."""
        own = self._batches(number, lost)
        found = [columns(ids, self._features) for ids in own["x"]["ids"]]
        held, own["x"]["ids"] = renumber(
            own["x"]["ids"], found, self._features, self._external["features"]
        )
        own["external"] = {"features": held}
        if "labels" in self._external:
            sure = [columns(ids, self._labels) for ids in own["y"]]
            drawn = [
                self._others(number, worker, labels)
                for worker, labels in zip(self._batches.of, sure, strict=True)
            ]
            both = [np.concatenate(pair) for pair in zip(sure, drawn, strict=True)]
            held, labels = renumber(own["y"], both, self._labels, self._external["labels"])
            own["external"]["labels"] = held

            def count(lists: list[np.ndarray]) -> np.ndarray:
                counts = np.array([len(one) for one in lists], np.int32)[:, None, None]
                return np.broadcast_to(counts, labels.shape[:3]).copy()

            own |= {"y": labels, "sure": count(sure), "drawn": count(drawn)}
        return own

    def _others(self, number: int, worker: int, labels: np.ndarray) -> np.ndarray:
        draw = np.random.default_rng((self._batches.seed, _SAMPLE, worker, number))
        size = min(self._sampled, self._labels)
        others = draw.choice(self._labels, size, replace=False, shuffle=False).astype(np.int32)
        return np.setdiff1d(others, labels)


def slots(
    batches: Batches, x: Rows, y: Rows, rounds: int, sampled: int | None = None
) -> dict[str, int]:
    """The slots that ``Touched`` needs for all rounds, of ``batches`` of all workers."""
    most = {"features": 1, "labels": 0}
    for number in range(rounds):
        steps = range(number * batches.local_steps, (number + 1) * batches.local_steps)
        for worker in batches.of:
            chosen = np.concatenate([batches.indices(worker, step) for step in steps])
            most["features"] = max(most["features"], len(x.columns(chosen)))
            if sampled:
                most["labels"] = max(most["labels"], len(y.columns(chosen)))
    if not sampled:
        return {"features": most["features"]}
    return most | {"labels": min(most["labels"] + sampled, y.width)}


def columns(ids: Int[np.ndarray, "..."], width: int) -> Int[np.ndarray, " found"]:
    """The different ids below ``width``, in order."""
    found = np.zeros(width + 1, bool)
    found[ids] = True
    return np.flatnonzero(found[:-1]).astype(np.int32)


def renumber(
    ids: Int[np.ndarray, "S *any"], found: Sequence[np.ndarray], width: int, slots: int
) -> tuple[Int[np.ndarray, "S slots"], Int[np.ndarray, "S *any"]]:
    """The columns that each of S workers holds, and its ids as places in them.

    Args:
      ids: columns of the entries of each worker's examples, ``width`` for padding.
      found: the columns each is to hold, all of its ids among them.
      width: how many columns there are.
      slots: columns that a worker has room for.

    Returns:
      The columns, padded with ``width``, and the places (padding: ``slots``).

    Raises:
      InputError: there is no room for all of them.
    """
    held = np.full((len(ids), slots), width, np.int32)
    places = np.empty_like(ids)
    for row, (own, members) in enumerate(zip(ids, found, strict=True)):
        if len(members) > slots:
            raise InputError(
                f"worker {row} needs {len(members)} columns in a round, and there is room for "
                f"{slots}"
            )
        held[row, : len(members)] = members
        table = np.full(width + 1, slots, np.int32)
        table[members] = np.arange(len(members), dtype=np.int32)
        places[row] = table[own]
    return held, places


_SAMPLE = 3  # what a seed is used for (batches has the others)
