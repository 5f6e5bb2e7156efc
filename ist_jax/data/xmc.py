"""Extreme classification: the sparse text format of the Extreme Classification Repository.

Its first line is ``N D L`` (examples, features, labels), and then there is a line an example,
``l1,l2,... f1:v1 f2:v2 ...``, which begins with a space if it has no labels. The text is read once,
line by line, into arrays that are mapped from files afterwards (``prepared``); a line is never more
than 16 MB of memory. Amazon-670K, and any other set of the repository: a folder with one file each
whose names contain ``train`` and ``test``.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ist_jax.data import debian, prepared
from ist_jax.data.sparse import Rows
from ist_jax.errors import InputError

PARTS = ("train", "test")
LONGEST = 2**24  # bytes of a line
AT_ONCE = 4096  # examples, until they are written
NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
LINE = re.compile(rb"(\d{1,10}(?:,\d{1,10})*)?((?: +\d{1,10}:" + NUMBER + rb")*)[ \t]*\r?\n?")
ENTRY = re.compile(rb"\d{1,10}:" + NUMBER)


class MultiLabel(NamedTuple):
    """Sparse examples with several labels each; the fields are those of ``Dataset``.

    Attributes:
      train_x, test_x: features, ``{"ids", "values"}`` for each example.
      train_y, test_y: labels, ids alone.
      features, classes: how many there are.
    """

    name: str
    train_x: Rows
    train_y: Rows
    test_x: Rows
    test_y: Rows
    features: int
    classes: int
    origin: str = "real"
    skipped: int = 0

    def checked(self) -> "MultiLabel":
        """Itself, if neither part is empty (each line was looked at when it was read)."""
        for part, x in (("training", self.train_x), ("test", self.test_x)):
            if not len(x):
                raise InputError(f"{self.name}: the {part} part holds no example")
        return self


def load(
    path: str = "",
    *,
    skip_bad: bool = False,
    cache: str = "",
    most_features: int = 256,
    name: str = "xmc",
    origin: str = "real",
) -> MultiLabel:
    """A set in the repository's text format.

    Args:
      path: a folder with the two files.
      skip_bad: leave bad lines out, and tell how many those were.
      cache: where the arrays are kept.
      most_features: entries of an example; of one that has more, the largest stay (that is told).

    Raises:
      InputError: no such files, or a bad line (it is named).
    """
    if not path:
        raise InputError(
            "extreme classification needs data.path, a folder with the training and the test file "
            "of a set of the Extreme Classification Repository in its sparse text format"
        )
    files = [_only(Path(path).expanduser(), part) for part in PARTS]

    def fill(folder: Path) -> dict[str, Any]:
        told = {
            part: read(file, folder, part, skip_bad)
            for part, file in zip(PARTS, files, strict=True)
        }
        train, test = (told[part] for part in PARTS)
        for what in ("features", "labels"):
            if train[what] != test[what]:
                raise InputError(
                    f"{files[0]} has {train[what]} {what}, {files[1]} has {test[what]}"
                )
        return told

    source = prepared.digest(files, {"skip_bad": skip_bad})
    folder, told = prepared.folder(cache, name, source, fill)
    found = {}
    for part in PARTS:
        arrays = {
            what: np.load(folder / f"{part}_{what}.npy", mmap_mode="r")
            for what in ("starts", "ids", "values", "label_starts", "labels")
        }
        x = Rows(
            arrays["starts"], arrays["ids"], arrays["values"], told[part]["features"], most_features
        )
        if x.shortened:
            print(
                f"{name}, {part} part: {x.shortened} of {len(x)} examples have more than "
                f"{x.most} features, of which the largest stay (data.most_features)",
                file=sys.stderr,
            )
        found[f"{part}_x"] = x
        found[f"{part}_y"] = Rows(
            arrays["label_starts"], arrays["labels"], None, told[part]["labels"]
        )
    skipped = sum(told[part]["skipped"] for part in PARTS)
    if skipped:
        print(f"{name}: {skipped} bad lines were left out", file=sys.stderr)
    of_train = told["train"]
    return MultiLabel(
        name=name,
        features=of_train["features"],
        classes=of_train["labels"],
        origin=origin,
        skipped=skipped,
        **found,
    )


def load_debian(path: str = "", *, cache: str = "", most_features: int = 256) -> MultiLabel:
    """Debian's packages (``ist_jax.data.debian``); ``path`` is a folder with apt's lists."""
    lists = Path(path).expanduser() if path else debian.LISTS

    def fill(folder: Path) -> dict[str, Any]:
        documents = debian.read(lists)
        debian.write(documents, folder)
        return {"lists": documents.digests}

    found = [debian.find(lists, pattern) for pattern in (debian.PACKAGES, debian.DESCRIPTIONS)]
    source = prepared.digest(found, {"version": debian.VERSION})
    folder, _ = prepared.folder(cache, "debian_packages_text", source, fill)
    return load(
        str(folder),
        cache=cache,
        most_features=most_features,
        name="debian_packages",
        origin="stand-in",
    )


def read(source: Path, folder: Path, part: str, skip_bad: bool = False) -> dict[str, int]:
    """Reads a text file into ``{part}_*.npy`` in a folder.

    Returns:
      How many ``examples``, ``features`` and ``labels``, and how many lines were ``skipped``.

    Raises:
      InputError: the file cannot be read, is no such file, has another number of lines than it
        says, or (without ``skip_bad``) a line is bad. File and line are named.
    """
    types = {
        "starts": np.int64,
        "ids": np.int32,
        "values": np.float32,
        "label_starts": np.int64,
        "labels": np.int32,
    }
    out = {
        what: prepared.Growing(folder / f"{part}_{what}.npy", kind) for what, kind in types.items()
    }
    skipped, ends = 0, np.zeros(2, np.int64)
    out["starts"].append(ends[:1])
    out["label_starts"].append(ends[1:])
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def write() -> None:
        if waiting:
            for what, arrays in zip(
                ("labels", "ids", "values"), zip(*waiting, strict=True), strict=True
            ):
                out[what].append(np.concatenate(arrays))
            for what, which in (("starts", 1), ("label_starts", 0)):
                counts = np.array([len(example[which]) for example in waiting])
                out[what].append(ends[1 - which] + np.cumsum(counts))
                ends[1 - which] += counts.sum()
            waiting.clear()

    try:
        with source.open("rb") as file:
            examples, features, labels = _header(file.readline(256), source)
            show = prepared.Progress(source.name, examples, "lines")
            number = 0
            for number, line in enumerate(_lines(file, source), start=1):
                if number > examples:
                    raise InputError(f"{source} should hold {examples} examples, found more")
                try:
                    waiting.append(parse(line, features, labels))
                except ValueError as error:
                    if not skip_bad:
                        raise InputError(
                            f"{source}, line {number + 1}: {error}. Mend it, or leave bad lines "
                            "out with data.skip_bad=True."
                        ) from None
                    skipped += 1
                if len(waiting) == AT_ONCE:
                    write()
                show(number)
            write()
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error}") from None
    if number != examples:
        raise InputError(
            f"{source} should hold {examples} examples, found {number}: it is cut short"
        )
    for array in out.values():
        array.close()
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


def _only(folder: Path, part: str) -> Path:
    found = sorted(folder.glob(f"*{part}*.txt")) if folder.is_dir() else []
    if len(found) != 1:
        raise InputError(
            f"{folder} should have one file *{part}*.txt in the repository's sparse text format; "
            f"found {len(found) or 'none'}"
        )
    return found[0]


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
