"""How far a run is: a line on the terminal."""

import sys
import time

from ist_jax.run import measure
from ist_jax.run.saving import Effort

MEASURED = [one.key(part) for one in measure.MEASURES for part in ("validation", "test")]


class Progress:
    """One line that says how far, how long still, and the newest accuracy, or bits for a byte.

    Runs count by the FLOPs they take, so that the time left is right when methods differ.
    """

    def __init__(self, costs: list[int], quiet: bool = False):
        self._costs, self._started = costs, time.monotonic()
        self._live, self._quiet = sys.stderr.isatty(), quiet

    def show(self, number: int, part: float | int, line: dict) -> None:
        if self._quiet:
            return
        share = (sum(self._costs[:number]) + part * self._costs[number]) / sum(self._costs)
        gone = time.monotonic() - self._started
        left = f"{gone * (1 - share) / share:4.0f} s left" if share > 0.01 else "   ? s left"
        text = (
            f"{share:4.0%} {left}  {line['method']:<14} seed {line['seed']}  "
            f"round {line['round']:>4}  {_measured(line)}"
        )
        if self._live:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
        elif part == 1:
            print(text, file=sys.stderr, flush=True)

    def end(self, effort: Effort) -> None:
        if self._quiet:
            return
        if self._live:
            print(file=sys.stderr)
        if effort.begun:
            print(effort.in_words(time.monotonic() - self._started), file=sys.stderr)


def _measured(line: dict) -> str:
    """The first of these that there is."""
    for key in (*MEASURED, "loss/test", "loss/train"):
        if key in line:
            return f"{' '.join(reversed(key.split('/')))} {line[key]:.4f}"
    return ""
