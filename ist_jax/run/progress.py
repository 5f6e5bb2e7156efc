"""How far a run is: a line on the terminal, and TensorBoard files."""

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

from ist_jax.core.errors import InputError
from ist_jax.run.saving import Effort

Boards = Callable[[str], Callable[[dict[str, Any]], None]]


class Progress:
    """One line that says how far, how long still, and the newest accuracy.

    Runs count by the FLOPs they take, so that the time left is right when methods differ.
    """

    def __init__(self, costs: list[int]):
        self._costs, self._started = costs, time.monotonic()
        self._live = sys.stderr.isatty()

    def show(self, number: int, part: float | int, line: dict) -> None:
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
        if self._live:
            print(file=sys.stderr)
        if effort.begun:
            print(effort.in_words(time.monotonic() - self._started), file=sys.stderr)


def _measured(line: dict) -> str:
    """The first of these that there is."""
    for key in ("accuracy/test", "loss/test", "loss/train"):
        if key in line:
            return f"{key.removesuffix('/test')} {line[key]:.4f}"
    return ""


def tensorboards(folder: pathlib.Path, wanted: bool) -> Boards:
    """``run -> line -> None``: writes the numbers of a metrics line, if that is wanted.

    Raises:
      InputError: it is, and tensorboardX is not installed.
    """
    if not wanted:
        return lambda run: lambda line: None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "config.tensorboard needs tensorboardX: pip install tensorboardX"
        ) from None

    def board(run: str) -> Callable[[dict[str, Any]], None]:
        writer = SummaryWriter(str(folder / run))

        def write(line: dict[str, Any]) -> None:
            for key, value in line.items():
                if "/" in key:
                    writer.add_scalar(key, value, line["step"])
            writer.flush()

        return write

    return board
