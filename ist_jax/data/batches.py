"""Which examples a worker sees at a step: a pure function of (seed, worker, step).

A worker goes through its examples in an order drawn anew for every epoch; a batch takes the next B
of that endless sequence, also across the end of an epoch, so that no tail is ever left out and a
shard may be smaller than a batch. Nothing is stored between steps: resuming needs no loader state.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import check_labels


class Batches:
    """The examples of S workers, ``batches(number) -> {"x": [S, J, B, ...], "y": [S, J, B, ...]}``.

    Args:
      x: all examples, ``[n, ...]``: an array, or what is indexed like one and gives arrays, or
        dictionaries of arrays (``sparse.Rows``).
      y: their labels, ``[n, ...]`` of any kind (the task checks what it needs), or ``sparse.Rows``.
      workers: S.
      batch: B, examples a worker sees in a local step.
      local_steps: J.
      seed: of shards and order. Runs with another seed see other shards in another order.
      split: ``"disjoint"`` (each example belongs to one worker), ``"all"`` (all belong to each,
        which has its own order) or ``"same"`` (and the same order too).
      skew: 0 for shards that are alike; otherwise the concentration of the Dirichlet law from which
        each class draws its shares of the workers, so that a small value means few classes a worker
        (Hsu et al., 2019). Shards then differ in size.
      classes: how many labels there are; 0 where integers are no classes. Without it, a label that
        is too large is not found here; ``classification.cross_entropy`` is NaN then.
      of: the workers whose batches are wanted, in place of all; of ``x``, only their examples are
        read (it may lie in a file: ``numpy.memmap``).

    Raises:
      InputError: not one label for each example, integers that are not from 0 to classes - 1,
        numbers below one, an unknown split, fewer examples than workers, a skew of labels that are
        not one integer each, or one so strong that a worker is left with nothing.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        workers: int,
        batch: int,
        local_steps: int,
        seed: int,
        split: str = "disjoint",
        skew: float = 0.0,
        classes: int | None = None,
        of: Sequence[int] | None = None,
    ):
        for name, value in (("workers", workers), ("batch", batch), ("local_steps", local_steps)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, found {value}")
        if not hasattr(y, "blank"):
            check_labels(x, y, classes)
        self._x, self._y = x, y
        self._batch, self.local_steps, self.seed = batch, local_steps, seed
        self.of = range(workers) if of is None else tuple(of)
        self._same = split == "same"
        self.shards = shards(y, workers, seed=seed, split=split, skew=skew)

    def __call__(self, number: int, lost: dict[int, str] | None = None) -> dict[str, Any]:
        """All batches of a round; S is the number of workers asked for.

        Args:
          number: of the round, from 0.
          lost: takes, by worker, why its examples could not be read (an ``OSError``); those are
            zeros then. Without it, the error is raised.
        """
        steps = range(number * self.local_steps, (number + 1) * self.local_steps)
        shape = (len(self.of), self.local_steps, self._batch)
        found = {"x": _blank(self._x, shape), "y": _blank(self._y, shape)}
        read = None
        for row, worker in enumerate(self.of):
            chosen = np.stack([self.indices(worker, step) for step in steps])
            try:
                if read is None or not self._same:
                    read = {"x": self._x[chosen], "y": self._y[chosen]}
                _put(found, row, read)
            except OSError as error:
                if lost is None:
                    raise
                lost[worker] = str(error)
        return found

    def indices(self, worker: int, step: int) -> np.ndarray:
        """Which examples ``worker`` sees at its ``step``-th local step, ``int[B]``."""
        worker = 0 if self._same else worker
        shard = self.shards[worker]
        epochs, offsets = np.divmod(
            np.arange(step * self._batch, (step + 1) * self._batch), len(shard)
        )
        chosen = np.empty(self._batch, np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            here = epochs == epoch
            chosen[here] = _order(self.seed, worker, int(epoch), len(shard))[offsets[here]]
        return shard[chosen]


def shards(
    y: Any, workers: int, *, seed: int, split: str = "disjoint", skew: float = 0.0
) -> list[np.ndarray]:
    """The examples of each worker, as sorted index arrays (see ``Batches``)."""
    if split not in ("disjoint", "all", "same"):
        raise InputError(f"data.split must be 'disjoint', 'all' or 'same', found {split!r}")
    if skew < 0:
        raise InputError(f"data.skew must be 0 (shards alike) or positive, found {skew}")
    if split != "disjoint":
        if skew:
            raise InputError(
                "data.skew needs data.split='disjoint': workers that share all are alike"
            )
        return [np.arange(len(y))] * workers
    if len(y) < workers:
        raise InputError(f"{len(y)} examples cannot be split between {workers} workers")
    if skew and not (isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "iu"):
        raise InputError("data.skew needs one label for each example, an integer. Set it to 0.")
    draw = np.random.default_rng((seed, _SHARDS))
    if not skew:
        return [np.sort(part) for part in np.array_split(draw.permutation(len(y)), workers)]
    parts: list[list[np.ndarray]] = [[] for _ in range(workers)]
    for label in np.unique(y):
        members = draw.permutation(np.flatnonzero(y == label))
        ends = np.cumsum(draw.dirichlet(np.full(workers, skew)))[:-1] * len(members)
        for part, piece in zip(parts, np.split(members, ends.astype(int)), strict=True):
            part.append(piece)
    whole = [np.sort(np.concatenate(part)) for part in parts]
    for worker, members in enumerate(whole):
        if not len(members):
            raise InputError(
                f"data.skew={skew} leaves worker {worker} of {workers} without a single example. "
                "Use a larger skew, fewer workers or another seed."
            )
    return whole


_SHARDS, _ORDER = 1, 2  # what a seed is used for


def _blank(source: Any, shape: tuple[int, ...]) -> Any:
    if hasattr(source, "blank"):
        return source.blank(shape)
    return np.zeros((*shape, *source.shape[1:]), source.dtype)


def _put(whole: Any, row: int, part: Any) -> None:
    for leaf, own in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        leaf[row] = own


@functools.lru_cache(maxsize=512)
def _order(seed: int, worker: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, worker, epoch)).permutation(n)
