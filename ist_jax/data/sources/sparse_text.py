"""The sparse text format of the Extreme Classification Repository, read line by line.

Its first line is ``N D L`` (examples, features, labels), and then there is a line an example,
``l1,l2,... f1:v1 f2:v2 ...``, which begins with a space if it has no labels. A line is never more
than 16 MB of memory.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files, prepared

AT_ONCE = 2**18  # numbers that wait until they are written
AN_EXAMPLE = 64  # numbers that an example counts for besides its own: its arrays take memory too
# No part gives back what it has taken (++, *+), so that a line is gone through once.
NUMBER = rb"[-+]?(?:\d{1,99}+(?:\.\d{0,99}+)?+|\.\d{1,99}+)(?:[eE][-+]?\d{1,3})?+"
LABELS = rb"\d{1,10}+(?:,\d{1,10}+)*+"
LINE = re.compile(rb"(" + LABELS + rb")?+((?: ++\d{1,10}+:" + NUMBER + rb"(?![^ \t\r\n]))*+)")


class Arrays:
    """Examples on their way into the arrays ``{part}_*.npy`` of a folder (``sparse.Rows``)."""

    TYPES = (
        ("label_starts", np.int64),
        ("labels", np.int32),
        ("starts", np.int64),
        ("ids", np.int32),
        ("values", np.float32),
    )

    def __init__(self, folder: Path, part: str):
        self._files = {
            what: prepared.Growing(folder / f"{part}_{what}.npy", kind) for what, kind in self.TYPES
        }
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._numbers = 0  # that wait
        self._ends = dict.fromkeys(("label_starts", "starts"), 0)
        for starts in self._ends:
            self._files[starts].append(np.zeros(1))

    def __enter__(self) -> "Arrays":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, example: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Labels, features and values of one more example."""
        self._waiting.append(example)
        self._numbers += AN_EXAMPLE + len(example[0]) + len(example[1])
        if self._numbers >= AT_ONCE:
            self.write()

    def write(self) -> None:
        """Whatever is not yet in the files."""
        if not self._waiting:
            return
        labels, ids, values = zip(*self._waiting, strict=True)
        self._waiting.clear()
        self._numbers = 0
        for what, parts in (("labels", labels), ("ids", ids), ("values", values)):
            self._files[what].append(np.concatenate(parts))
        for starts, parts in (("label_starts", labels), ("starts", ids)):
            ends = self._ends[starts] + np.cumsum([len(part) for part in parts])
            self._files[starts].append(ends)
            self._ends[starts] = int(ends[-1])


def read(source: Path, folder: Path, part: str, skip_bad: bool = False) -> dict[str, int]:
    """Reads a text file into ``{part}_*.npy`` in a folder.

    Returns:
      How many ``examples``, ``features`` and ``labels``, and how many lines were ``skipped``.

    Raises:
      InputError: the file cannot be read, is no such file, has another number of lines than it
        says, or (without ``skip_bad``) a line is bad. File and line are named.
    """
    lines = files.lines(source)
    examples, features, labels = _header(next(lines, b""), source)
    show = prepared.Progress(source.name, examples, "lines")
    skipped = number = 0
    with Arrays(folder, part) as out:
        for number, line in enumerate(_examples(lines), start=1):
            if number > examples:
                raise InputError(f"{source} should hold {examples} examples, found more")
            try:
                out.append(parse(line, features, labels))
            except ValueError as error:
                if not skip_bad:
                    raise InputError(
                        f"{source}, line {number + 1}: {error}. Mend it, or leave bad lines out "
                        "with data.skip_bad=True."
                    ) from None
                skipped += 1
            show(number)
        out.write()
    if number != examples:
        raise InputError(
            f"{source} should hold {examples} examples, found {number}: it is cut short"
        )
    return {
        "examples": examples - skipped,
        "features": features,
        "labels": labels,
        "skipped": skipped,
    }


def parse(line: bytes, features: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A line's labels, and its features with their values, the largest first.

    Raises:
      ValueError: what is wrong with it.
    """
    if not line or line.isspace():
        raise ValueError("the line is blank; an example has labels or features")
    match: Any = LINE.match(line)
    end = match.end()
    if line[end:].strip():
        first = end if line[end : end + 1].isspace() else line.rfind(b" ", 0, end) + 1
        word = files.shown(line[first:].split(None, 1)[0])
        if first:
            raise ValueError(f"{word} is no feature and number (f:v) after a space")
        raise ValueError(f"{word} are no labels (l1,l2,...); a line without begins with a space")
    found = np.fromstring(match[1] or b"", np.int64, sep=",")
    pairs = np.fromstring(match[2].replace(b":", b" "), sep=" ")
    with np.errstate(over="ignore"):
        ids, values = pairs[::2].astype(np.int64), pairs[1::2].astype(np.float32)
    for what, numbers, count in (("label", found, labels), ("feature", ids, features)):
        if (outside := numbers[numbers >= count]).size:
            raise ValueError(f"{what} {outside[0]} is out of range, expected 0 to {count - 1}")
        if len(np.unique(numbers)) < len(numbers):
            raise ValueError(f"a {what} stands there twice")
    if not np.isfinite(values).all():
        raise ValueError("a value is too large for float32")
    order = np.argsort(-np.abs(values), kind="stable")
    return found.astype(np.int32), ids[order].astype(np.int32), values[order]


def _header(line: bytes, source: Path) -> tuple[int, int, int]:
    match = re.fullmatch(rb"(\d{1,10}) (\d{1,10}) (\d{1,10})[ \t]*\r?\n?", line)
    if match is None:
        raise InputError(
            f"{source}, line 1: expected 'examples features labels', found {files.shown(line)}"
        )
    counts = [int(number) for number in match.groups()]
    if max(counts) >= 2**31 or min(counts[1:]) < 1:
        raise InputError(f"{source}, line 1: {counts} cannot be numbers of features and labels")
    return counts[0], counts[1], counts[2]


def _examples(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, but for blank ones at the end, which are no examples."""
    blank = 0
    for line in lines:
        if not line or line.isspace():
            blank += 1
            continue
        yield from itertools.repeat(b"", blank)
        yield line
        blank = 0
