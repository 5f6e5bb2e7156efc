"""What adds up over the rounds of a run: bytes, workers that were missing, seconds."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.sharded.state import State
from ist_jax.trainer import Report

MOST_ROUNDS_WITHOUT_UPDATE = 10  # in a row; so many are not the fault of some worker
_STORED_AS = {"rounds_without_update": "barren"}  # in a checkpoint; the rest by their own names


class Diverged(InputError):
    """A loss that is not finite ends a run; another learning rate may do better."""


@dataclasses.dataclass
class Tally:
    """Sums since round 0; a checkpoint holds them.

    Attributes:
      sent, received: bytes of the worker that sent or received most in each round.
      missed: worker-rounds without the worker.
      rejected: worker-rounds without the worker's update, which was not finite.
      rounds_without_update: rounds in a row in which no update was left.
      seconds: of training alone.
    """

    sent: int = 0
    received: int = 0
    missed: int = 0
    rejected: int = 0
    rounds_without_update: int = 0
    seconds: float = 0.0

    def stored(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {_STORED_AS.get(name, name): n for name, n in dataclasses.asdict(self).items()}

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Tally":
        """The tally of a checkpoint."""
        names = {_STORED_AS.get(name, name): name for name in dataclasses.asdict(cls())}
        return cls(**{names[key]: value for key, value in stored.items()})


def add_up(
    reports: list[Report], tally: Tally, run: str, done: int, drop_nonfinite: bool
) -> dict[str, Any]:
    """Adds rounds to the tally; the newest one's mean loss over the workers that took part.

    Args:
      reports: of the rounds since the last call.
      run: what errors call the run.
      done: rounds that are over.
      drop_nonfinite: whether a round goes on without an update that is not finite.

    Raises:
      Diverged: a loss is not finite where that ends the run, or has been so for too long.
    """
    for number, report in enumerate(reports, start=done - len(reports)):
        tally.sent += int(report.bytes_sent.max())
        tally.received += int(report.bytes_received.max())
        loss = np.asarray(report.loss)
        finite = np.isfinite(loss)
        good = report.took_part & finite
        nothing_left = report.took_part.any() and not good.any()
        tally.rounds_without_update = tally.rounds_without_update + 1 if nothing_left else 0
        hopeless = tally.rounds_without_update >= MOST_ROUNDS_WITHOUT_UPDATE
        for worker in np.flatnonzero(report.took_part & ~finite):
            if not drop_nonfinite or hopeless:
                raise Diverged(
                    f"{run}: the loss of worker {worker} is {loss[worker]} in round {number}. A "
                    "smaller config.optimizer.lr, or config.optimizer.clip, may help."
                )
        tally.missed += int((~report.took_part).sum())
        tally.rejected += int((report.took_part & ~finite).sum())
    if not reports:
        return {}
    mean = {"loss/train": float(loss[good].mean(dtype=np.float64))} if good.any() else {}
    return {
        **mean,
        "workers/took_part": int(good.sum()),
        "workers/missed": tally.missed,
        "workers/rejected": tally.rejected,
    }


class Ledger:
    """The sums of a run, and the reports of the rounds since they were last brought up to date.

    Its clock runs while the run trains; whoever evaluates or saves starts it again afterwards.

    Args:
      run: what errors call the run.
      drop_nonfinite: whether a round goes on without an update that is not finite.
    """

    def __init__(self, tally: Tally, run: str, drop_nonfinite: bool):
        self.tally, self._run, self._drop_nonfinite = tally, run, drop_nonfinite
        self._reports: list[Report] = []
        self.start_clock()

    def start_clock(self) -> None:
        self._since = time.perf_counter()

    def add(self, report: Report) -> None:
        """A round that has begun; nothing waits for it."""
        self._reports.append(report)

    def wait_for_the_round_before(self) -> None:
        """Until all rounds but the newest are over, as far as they are still here."""
        jax.block_until_ready(self._reports[-2:][0].loss)

    def settle(self, state: State, done: int) -> dict[str, Any]:
        """Waits for the rounds, and adds them and their seconds up; what ``add_up`` returns."""
        jax.block_until_ready(state)
        self.tally.seconds = round(self.tally.seconds + time.perf_counter() - self._since, 4)
        reports, self._reports = self._reports, []
        return add_up(reports, self.tally, self._run, done, self._drop_nonfinite)
