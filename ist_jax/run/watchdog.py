"""A round that takes too long ends the process, and says who is behind.

A process whose peer is stuck waits for ever inside a collective, where no exception reaches it. So
a thread looks at the clock, and every process says how far it is.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ist_jax.run.team import Team

STUCK = 1  # the exit code
BEAT = 0.5  # seconds between two messages of a process that lives


class Watchdog:
    """``at(what)`` says what begins; it must be over, and ``at`` called again, in time.

    A context manager: what follows it is not watched.

    Args:
      limit: seconds, or 0 for as long as it likes.
      team: the processes.
    """

    def __init__(self, limit: float | int, team: Team):
        self._limit, self._team = limit, team
        self._what, self._since = "", float("inf")
        self._over = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._limit:
            _in_thread(self._look)
            if self._team.size > 1:
                _in_thread(self._report_often)
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def at(self, what: str) -> None:
        self._what, self._since = what, time.monotonic()

    def _look(self) -> None:
        while time.monotonic() - self._since < self._limit:
            if self._over.wait(min(BEAT, self._limit / 4)):
                return
        print(
            f"error: process {self._team.number}: {self._what} was not over after "
            f"{self._limit:g} s (config.round_timeout_s).{self._others()}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(STUCK)

    def _report_often(self) -> None:
        beats = 0
        while not self._over.wait(BEAT):
            beats += 1
            self._team.publish("at", [beats, self._what])

    def _others(self) -> str:
        if self._team.size == 1:
            return ""
        before = _within(4 * BEAT, lambda: self._team.published("at"))
        time.sleep(4 * BEAT)
        after = _within(4 * BEAT, lambda: self._team.published("at"))
        if before is None or after is None:
            return " Process 0 does not answer."
        lines = [
            f"process {number} is at {now[1]}" if now != then else f"process {number} is silent"
            for number, (then, now) in enumerate(zip(before, after, strict=True))
        ]
        return f" {'; '.join(lines)}."


def _in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _within(seconds: float | int, work: Callable[[], Any]) -> Any:
    """Its result, or None if there is none in time."""
    results: list[Any] = []
    _in_thread(lambda: results.append(work())).join(seconds)
    return results[0] if results else None
