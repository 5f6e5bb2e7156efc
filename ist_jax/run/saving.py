"""A run's checkpoints: written every few rounds, and found again."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ist_jax import checkpoint
from ist_jax.checkpoint import Checkpoints, reading
from ist_jax.core import paths
from ist_jax.core.errors import CheckpointError, InputError, NotBegun
from ist_jax.run import compare
from ist_jax.run.job import Job
from ist_jax.run.team import Team
from ist_jax.sharded.state import State
from ist_jax.trainer import Trainer

FOLDER = "checkpoints"
DONE = "done"


@dataclasses.dataclass
class Effort:
    """What saving takes: checkpoints begun and skipped, and how long training stood still."""

    begun: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def in_words(self, total: float | int) -> str:
        """A sentence; ``total`` is how many seconds there were in all."""
        skipped = f", {self.skipped} skipped because the one before was still being written"
        some = f"{self.begun} checkpoint{'s' * (self.begun != 1)}"
        took = f"{self.seconds:.2f} s ({self.seconds / total:.1%} of {total:.0f} s)"
        return f"{some} held training up for {took}{skipped * bool(self.skipped)}"


def folder(config: ConfigDict, workdir: pathlib.Path) -> str:
    """Where the checkpoints of all its methods and seeds are, each in a folder of its own: a path
    or an address (gs://...)."""
    wanted = config.checkpoint.folder
    if not wanted or "://" in wanted:
        return wanted or str(workdir / FOLDER)
    return str(paths.expanded(wanted, "config.checkpoint.folder"))


class RunCheckpoints:
    """The checkpoints of one method with one seed.

    Args:
      config: the experiment's.
      workdir: its folder.
      name, seed: of the run.
      rounds: after which it is over.
      effort: what saving takes is added to it.
      team: the processes; all must have one.
      data: the digest of what is trained on.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        name: str,
        seed: int,
        rounds: int,
        effort: Effort,
        team: Team,
        data: str,
    ):
        self._config, self._run, self._rounds = config, f"{name}, seed {seed}", rounds
        self._team, self._data = team, data
        wanted = config.checkpoint
        keep = checkpoint.Keep(wanted.last, wanted.permanent, wanted.best)
        self._checkpoints = Checkpoints(f"{folder(config, workdir)}/{name}_{seed}", keep)
        self._effort = effort

    def begin(self, overwrite: bool) -> None:
        """Makes sure that a run that begins finds no checkpoints.

        Raises:
          InputError: there are some, and they are not to be overwritten.
        """
        if self._checkpoints.rounds() and not overwrite:
            raise InputError(
                f"{self._checkpoints.folder} holds checkpoints. Go on from them with --resume, or "
                "replace them with --overwrite."
            )
        self._checkpoints.delete()

    def find(self, measured: list[int]) -> dict[str, Any] | str | None:
        """What the newest good checkpoint says of itself; newer ones that are bad are set aside.

        Args:
          measured: the rounds of which there are metrics; a checkpoint must not be ahead of them.

        Returns:
          None if there is no checkpoint, so that the run has to begin; ``DONE`` if it is over.

        Raises:
          InputError: there are checkpoints and none is good, or it is of another config.
        """
        there = self._checkpoints.rounds()
        if self._rounds in measured and self._rounds in there:
            return DONE
        if self._rounds in measured and not self._config.checkpoint.every:
            print(f"{self._run} is over, and its net was not saved", file=sys.stderr)
            return DONE
        if there and there[0] > self._rounds:
            raise InputError(
                f"{self._run} is past config.rounds={self._rounds}: {self._checkpoints.folder} "
                f"holds round {there[0]}"
            )
        bad = []
        for number in there:
            try:
                if set(range(0, number + 1, self._config.eval_every)) - set(measured):
                    raise CheckpointError(f"metrics up to round {number} are missing")
                found = self._checkpoints.check(number)
            except CheckpointError as error:
                print(f"{self._run}: {error}", file=sys.stderr)
                bad.append(number)
                continue
            compare.same(self._config, found["about"]["config"], self._run)
            for number in bad:
                self._checkpoints.set_aside(number)
            return found
        if bad:
            raise InputError(
                f"{self._run}: no checkpoint is good. Start again with --overwrite, or delete "
                f"{self._checkpoints.folder} to start this run again."
            )
        return None

    def restore(self, found: dict[str, Any], trainer: Trainer) -> State:
        """The state of what ``find`` found, by all processes together.

        Raises:
          InputError: one of them could not read it.
        """
        with self._team.together(f"{self._run}, restored"):
            try:
                state = self._checkpoints.restore(found, trainer.shapes)
            except CheckpointError as error:
                raise InputError(f"{self._run}: {error}") from None
        reading.confirm(found, state)
        return trainer.resume(state)

    def due(self, done: int) -> bool:
        every = self._config.checkpoint.every
        between = every > 0 and (done % every == 0 or self._stays(done))
        return done > 0 and (between or done == self._rounds)

    def save(
        self,
        job: Job,
        state: State,
        tally: dict[str, Any],
        accuracy: float | None,
        *,
        last: bool = False,
    ) -> None:
        """Begins to save, or says that it could not (``checkpoint.on_error``).

        One that is due while the last is still being written is skipped, unless it is to stay. What
        stays holds the whole net's statistics; so does what may turn out to be one of the best.

        Args:
          last: before the process ends; waits until it is written.

        Raises:
          CheckpointError: it could not, and training is not to go on.
        """
        started, done = time.perf_counter(), int(state.round)
        obstacle = self._team.decided(
            f"{self._run}, saved after round {done}",
            lambda: self._checkpoints.obstacle(job.trainer.shapes),
        )
        if obstacle is not None:
            where = self._checkpoints.folder
            error = NotBegun(f"round {done} cannot be saved in {where}: {obstacle}")
            self._stop_or_print(error, not last)
        else:
            with self.stop_or_go_on(not last and self._alone):
                if last or self._stays(done) or self._checkpoints.free(done):
                    best = self._config.checkpoint.best > 0 and accuracy is not None
                    self._checkpoints.save(
                        job.trainer.unsharded(state),
                        {
                            "config": compare.as_json(self._config),
                            "tally": tally,
                            "data": self._data,
                            "gains": job.gains,
                        },
                        job.statistics(state) if best or self._stays(done) else None,
                        score=accuracy,
                        wait=last,
                    )
                    self._effort.begun += 1
                else:
                    self._effort.skipped += 1
        self._effort.seconds += time.perf_counter() - started

    @property
    def _alone(self) -> bool:
        return self._team.size == 1

    def _stays(self, done: int) -> bool:
        permanent = self._config.checkpoint.permanent
        return done == self._rounds or (permanent > 0 and done % permanent == 0)

    def close(self) -> None:
        """Waits for the last one to be written; raises as ``save``."""
        with self.stop_or_go_on(self._alone):
            self._checkpoints.close()

    @contextlib.contextmanager
    def stop_or_go_on(self, may_go_on: bool = True) -> Iterator[None]:
        """What cannot be written ends the run, or is printed and training goes on (``on_error``).

        Args:
          may_go_on: whether training can go on without it. Of several processes, one that failed to
            write what all were writing is out of step with the others.
        """
        try:
            yield
        except CheckpointError as error:
            self._stop_or_print(error, may_go_on)
        except OSError as error:
            self._stop_or_print(CheckpointError(str(error)), may_go_on)

    def _stop_or_print(self, error: CheckpointError, may_go_on: bool) -> None:
        if self._config.checkpoint.on_error == "stop" or not may_go_on:
            raise type(error)(f"{self._run}: {error}") from error
        if self._team.first:
            print(f"{self._run}: {error}. Training goes on.", file=sys.stderr)
