"""metrics.jsonl: one line of JSON for each measurement, whole also after a crash."""

import contextlib
import json
import math
import os
import pathlib
from typing import Any

from ist_jax.core import strict_json
from ist_jax.run import measure

Line = dict[str, Any]
UNWRITTEN = "metrics.new"  # lines that are about to take the file's place
WHOLE = ("seed", "round", "step")
NUMBERS = (*WHOLE, "comm/bytes_sent", "compute/flops", "time/train_s")
MEASURED = tuple(one.key() for one in measure.MEASURES)  # some of these


def parse(text: str) -> Line:
    """A line, if it has what every line has.

    Raises:
      ValueError: what it lacks.
    """
    try:
        line = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(line, dict) or not isinstance(line.get("method"), str):
        raise ValueError("it names no method")
    for key in (*NUMBERS, *(key for key in MEASURED if key in line)):
        value = line.get(key)
        if type(value) is not int and (key in WHOLE or type(value) is not float):
            raise ValueError(f"{key} is missing, or no number")
        if not abs(value) < 1e30:  # NaN is not either
            raise ValueError(f"{key} is not finite, or far too large")
    return line


def existing(measured: dict[str, float]) -> dict[str, Any]:
    """What was measured; of a measure that does not exist, in its place, why (``absent``)."""
    absent = {
        key: f"it came to {value}: there is nothing to measure it on, or it has no bounds"
        for key, value in measured.items()
        if not math.isfinite(value)
    }
    found: dict[str, Any] = {k: v for k, v in measured.items() if k not in absent}
    return found | ({"absent": absent} if absent else {})


class Metrics:
    """The lines of a run folder, in memory and in its file.

    What could not be written (a full disk) is written with the next line that can be.

    Args:
      path: the file; None to write nothing.
      keep: whether to go on with the lines that are there. One that is not whole is left out.
    """

    def __init__(self, path: pathlib.Path | None, keep: bool = False):
        self._path, self._lines = path, []  # type: pathlib.Path | None, list[Line]
        if path is not None and keep and path.exists():
            for text in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    self._lines.append(parse(text))
        self._behind = True

    def rounds(self, name: str, seed: int) -> list[int]:
        """Those that a run was measured after."""
        return [line["round"] for line in self._lines if _of(line) == (name, seed)]

    def last_rounds(self) -> dict[tuple[str, int], int]:
        """The last round that each run was measured after."""
        return {_of(line): line["round"] for line in self._lines}

    def cut(self, name: str, seed: int, after: int) -> None:
        """Forgets what a run measured after a round; it is about to be measured again."""
        stays = lambda line: _of(line) != (name, seed) or line["round"] <= after
        self._lines = [line for line in self._lines if stays(line)]
        self._behind = True

    def write(self, line: Line | None = None) -> None:
        """Adds a line, and writes whatever is not yet in the file.

        Raises:
          OSError: it could not be written.
        """
        if line is not None:
            self._lines.append(line)
        if self._path is None:
            return
        if not self._behind and line is not None:
            self._behind = True  # until the line is there
            with self._path.open("a") as file:
                _put(file, [line])
        elif self._behind:
            fresh = self._path.with_name(UNWRITTEN)
            with fresh.open("w") as file:
                _put(file, self._lines)
            fresh.replace(self._path)
        self._behind = False


def _put(file: Any, lines: list[Line]) -> None:
    file.writelines(strict_json.dumps(line, "metrics") + "\n" for line in lines)
    file.flush()
    os.fsync(file.fileno())  # a checkpoint must never be newer than the lines before it


def _of(line: Line) -> tuple[str, int]:
    return line["method"], line["seed"]
