"""Checkpoints that are whole or not there, and checked before they are used.

A folder holds one folder for each round saved: ``7/state`` with every leaf of a natural state
(``Trainer.unsharded``), ``7/statistics`` with those of the whole net, if it needs any to be asked,
and ``7/about`` with what the caller wants to know of it, a digest of every leaf, and a seal on
itself. Orbax writes them in one atomic commit. ``docs/checkpoints.md`` says how to read one without
this library. This is the only file that imports Orbax.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as keeping
from orbax.checkpoint.checkpoint_managers import save_decision_policy as deciding

from ist_jax.checkpoint import about as descriptions
from ist_jax.checkpoint import reading, remains
from ist_jax.core.errors import CheckpointError
from ist_jax.sharded.state import State

PyTree = Any
SCORE = "score"
ROOM = 1 << 16  # bytes on a disk besides the arrays
LATE = "the checkpoint of round {}, or the one before it, could not be written"


class Keep(NamedTuple):
    """Which checkpoints stay: the newest, those of every so many rounds, those that score best.

    One without a score is none of the best.
    """

    last: int = 2
    every: int = 0
    best: int = 0


def within(folder: Any) -> list["Checkpoints"]:
    """The checkpoints of every run that has a folder of its own in this one."""
    place = Checkpoints(folder).folder
    if not place.is_dir():
        return []
    return [Checkpoints(path) for path in sorted(place.iterdir()) if path.is_dir()]


class _Manager(ocp.CheckpointManager):
    """Leaves JAX's preemption service alone: the caller asks it, with numbers of its own."""

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: a path, local or remote as far as Orbax goes (``gs://...``).
      keep: which of them stay.

    Of several processes all must make one, and call ``free``, ``save`` and ``close`` together.
    """

    def __init__(self, folder: Any, keep: Keep | None = None):
        path = epath.Path(folder)  # Orbax takes absolute ones alone, and says so only when it saves
        self.folder = path if "://" in str(folder) else path.absolute()
        self._keep = keep or Keep()
        self._manager: _Manager | None = None

    def rounds(self) -> list[int]:
        """The rounds of which there is a checkpoint, the newest first."""
        if not self.folder.exists():
            return []
        names = [path.name for path in self.folder.iterdir()]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def obstacle(self, shapes: State) -> str | None:
        """What would keep one from being written, as far as that can be known; makes the folder.

        Args:
          shapes: of the state, ``Trainer.shapes``.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if "://" in str(self.folder):
                return None
            if not os.access(self.folder, os.W_OK):
                return "it may not be written"
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            return str(error)
        leaves = reading.leaves(shapes).values()
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) + ROOM
        scarce = f"it takes {needed / 1e6:.2f} MB, and {free / 1e6:.2f} MB are free"
        return scarce if free < needed else None

    def free(self, number: int) -> bool:
        """Whether the last one begun is written, so that ``save`` would not wait for it.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._as_checkpoint_error(LATE.format(number)):
            return self._open().should_save(number)

    def save(
        self,
        state: State,
        about: Mapping[str, Any],
        statistics: PyTree | None = None,
        *,
        score: float | None = None,
        wait: bool = False,
    ) -> None:
        """Begins to write a natural state; once it is copied the rest goes on beside training.

        Args:
          state: of ``Trainer.unsharded``. Never donate it.
          about: anything that JSON can say.
          statistics: of the whole net (``normalise.statistics``), for ``net`` to give back.
          score: the higher, the better (``Keep.best``).
          wait: until it is written, and not only until the last one begun is.

        Raises:
          CheckpointError: this one, or the last one begun, could not be written.
        """
        number = int(state.round)
        statistics = statistics or {}
        description = reading.describe(state, about, statistics)
        trees: dict[str, Any] = {descriptions.STATE: state}
        if statistics:
            trees[descriptions.STATISTICS] = statistics
        items = {
            item: ocp.args.PyTreeSave(jax.tree.map(_local, reading.leaves(tree)))
            for item, tree in trees.items()
        }
        with self._as_checkpoint_error(LATE.format(number)):
            manager = self._open()
            remains.clear(self.folder)
            manager.save(
                number,
                args=ocp.args.Composite(about=ocp.args.JsonSave(description), **items),
                metrics=None if score is None else {SCORE: score},
                force=True,
            )
            if wait:
                manager.wait_until_finished()

    def check(self, number: int) -> dict[str, Any]:
        """What a round's checkpoint says of itself, if every byte is as written (``reading``)."""
        return reading.check(self.folder, number)

    def about(self, number: int) -> dict[str, Any]:
        """As ``check``, but its leaves are not read."""
        return descriptions.read(self.folder, number)

    def net(self, number: int) -> tuple[PyTree, PyTree]:
        """Parameters and statistics of a round, to ask the net without training.

        Example::

            params, statistics = kept.net(kept.rounds()[0])
            logits = model.apply({**params, **statistics}, x, train=False)
        """
        return reading.net(self.folder, number)

    def restore(self, about: Mapping[str, Any], shapes: State) -> State:
        """The state of a checkpoint that was checked: ``about`` is what ``check`` returned."""
        return reading.restore(self.folder, about, shapes)

    def delete(self) -> None:
        """All of them, and their folder."""
        if self.folder.exists():
            self.folder.rmtree()

    def set_aside(self, number: int) -> None:
        """Renames a checkpoint, so that it is no longer one and its round can be saved again."""
        (self.folder / str(number)).rename(self.folder / f"{number}.damaged")

    def close(self) -> None:
        """Waits for what is being written.

        Raises:
          CheckpointError: it could not be.
        """
        if self._manager is not None:
            with self._as_checkpoint_error("the last checkpoint could not be written"):
                self._manager.wait_until_finished()
                self._manager.close()
                self._manager = None
            remains.remove(self.folder)

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            remains.remove(self.folder)
            policies: list[Any] = [keeping.LatestN(self._keep.last)]
            if self._keep.every:
                policies.append(keeping.EveryNSteps(self._keep.every))
            if self._keep.best:
                score = lambda metrics: metrics[SCORE]
                policies.append(
                    keeping.BestN(
                        get_metric_fn=score,
                        n=self._keep.best,
                        keep_checkpoints_without_metrics=False,
                    )
                )
            self._manager = _Manager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=keeping.AnyPreservationPolicy(policies),
                    save_decision_policy=deciding.ContinuousCheckpointingPolicy(),
                    cleanup_tmp_directories="://" in str(self.folder),
                    todelete_subdir=None if "://" in str(self.folder) else remains.GOING,
                ),
            )
        return self._manager

    @contextlib.contextmanager
    def _as_checkpoint_error(self, what: str) -> Iterator[None]:
        """Whatever Orbax, TensorStore and the file system raise, as one kind of error."""
        try:
            yield
        except Exception as error:
            manager, self._manager = self._manager, None  # it would fail for the same reason again
            if manager is not None:
                with contextlib.suppress(Exception):
                    manager.close()
            reason = (str(error).strip().splitlines() or [repr(error)])[0]
            reason = reason.partition(" [tensorstore_spec=")[0]
            raise CheckpointError(f"{what} in {self.folder}: {reason}") from error


def _local(leaf: Any) -> Any:
    """Of several processes, an array on one's own devices is the same in all."""
    if jax.process_count() > 1 and leaf.is_fully_addressable:
        return np.asarray(leaf)
    return leaf
