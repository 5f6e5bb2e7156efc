"""Stopping at the end of a round, when a signal asks for it.

SIGTERM or SIGINT (Ctrl-C) asks; a second Ctrl-C does not wait. Several processes stop at the same
round, whichever of them got the signal: JAX's preemption service has them agree on it.
"""

import os
import signal
import sys
import threading
from typing import Any

from jax.experimental import multihost_utils

SAVED = os.EX_TEMPFAIL  # 75, the exit code: saved, and stopped by a signal; run me again


class Stopped(Exception):
    """A run that a signal stopped, and that is saved."""


class Stop:
    """``asked()`` at the end of every round tells whether to stop there; a context manager."""

    def __init__(self, several: bool = False):
        self._several, self._rounds, self._asked = several, 0, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # only that one hears signals
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
            if not self._several:  # of several processes, JAX listens for SIGTERM itself
                self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        self._rounds += 1
        if self._several:
            return multihost_utils.reached_preemption_sync_point(self._rounds)
        return self._asked

    def _interrupt(self, *_) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        text = "stopping at the end of the round; Ctrl-C again to stop at once"
        print(f"\n{text}", file=sys.stderr, flush=True)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        self._asked = True

    def _ask(self, *_) -> None:
        self._asked = True
