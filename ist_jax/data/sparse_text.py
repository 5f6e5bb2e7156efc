"""The sparse text format of the Extreme Classification Repository, read line by line.

Its first line is ``N D L`` (examples, features, labels), and then there is a line an example,
``l1,l2,... f1:v1 f2:v2 ...``, which begins with a space if it has no labels. A line is never more
than 16 MB of memory.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ist_jax.data import prepared
from ist_jax.errors import InputError

LONGEST = 2**24  # bytes of a line
AT_ONCE = 4096  # examples, until they are written
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
LINE = re.compile(rb"(\d{1,10}(?:,\d{1,10})*)?((?: +\d{1,10}:" + NUMBER + rb")*)[ \t]*\r?\n?")
ENTRY = re.compile(rb"\d{1,10}:" + NUMBER)


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
        if len(self._waiting) == AT_ONCE:
            self.write()

    def write(self) -> None:
        """Whatever is not yet in the files."""
        if not self._waiting:
            return
        labels, ids, values = zip(*self._waiting, strict=True)
        self._waiting.clear()
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
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error}") from None
    skipped = number = 0
    with file, Arrays(folder, part) as out:
        examples, features, labels = _header(file.readline(256), source)
        show = prepared.Progress(source.name, examples, "lines")
        for number, line in enumerate(_lines(file, source), start=1):
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
    match = LINE.fullmatch(line)
    if match is None:
        words = line.split()
        if words and not line[:1].isspace() and b":" not in words[0]:
            if not re.fullmatch(rb"\d{1,10}(?:,\d{1,10})*", words[0]):
                raise ValueError(f"{_short(words[0])} are no labels (l1,l2,...)")
            words = words[1:]
        bad = next((word for word in words if not ENTRY.fullmatch(word)), line)
        raise ValueError(f"{_short(bad)} is no feature and number (f:v)")
    found = np.array((match[1] or b"").split(b",") if match[1] else [], np.int64)
    pairs = np.fromstring(match[2].replace(b":", b" "), sep=" ") if match[2] else np.zeros(0)
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
            f"{source}, line 1: expected 'examples features labels', found {_short(line)}"
        )
    counts = [int(number) for number in match.groups()]
    if max(counts) >= 2**31 or min(counts[1:]) < 1:
        raise InputError(f"{source}, line 1: {counts} cannot be numbers of features and labels")
    return counts[0], counts[1], counts[2]


def _lines(file: BinaryIO, source: Path) -> Iterator[bytes]:
    number = 1
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise InputError(f"{source}, line {number} is longer than {LONGEST} bytes")
        yield line


def _short(text: bytes) -> str:
    shown = text[:40].decode("utf-8", "replace").rstrip()
    return repr(shown + ("..." if len(text) > 40 else ""))
