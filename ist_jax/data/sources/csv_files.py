"""Tables of comma-separated values with a header, quoted as Python's ``csv`` module reads them."""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files, options, own
from ist_jax.data.dataset import Dataset

LAYOUT = "a .csv file with a header, or a folder with train.csv and test.csv"
MEND = "Mend it, or leave the column out: data.options.skip=({!r},)"
ROUNDED = 1e-12
ENDS = ("", ".gz", ".xz")


class Columns(NamedTuple):
    """The header, the column of labels, and those of features in their order."""

    header: list[str]
    label: str
    features: list[str]


class Table(NamedTuple):
    """``x`` float64 [n, columns], labels as they are written, and how many rows were left out."""

    x: np.ndarray
    labels: list[str]
    skipped: int


def load(
    path: str = "",
    *,
    label: Any = "",
    skip: Any = (),
    targets: Any = False,
    standardise: Any = True,
    test: Any = 0.2,
    seed: Any = 0,
    skip_bad: bool = False,
) -> Dataset:
    """Numeric columns as features float32 [n, columns], another column as labels.

    Args:
      path: a file, part of which is for test, or a folder with ``train.csv`` and ``test.csv``.
      label: name of the column of labels; if empty, the one called label, class, target or y.
        Classes are sorted, as numbers if all are whole numbers, else as texts.
      skip: names of columns to leave out.
      targets: labels are numbers to be met, float32 [n], and no classes.
      standardise: subtract the mean of the training part from each column, and divide by its
        standard deviation (by 1 where that is 0).
      test: the share of rows for test, of a single file.
      seed: of that draw.
      skip_bad: leave rows out that have another number of cells, or a cell that is no number.

    Raises:
      InputError: file, line and column of a cell that is no finite number; a row of another length;
        no column of labels, or several.
    """
    place = own.place(path, "csv", LAYOUT)
    skip = _names(skip)
    options.flag("targets", targets), options.flag("standardise", standardise)
    if place.is_dir():
        train_file, test_file = (_within(place, part) for part in ("train", "test"))
        columns = _columns(train_file, label, skip)
        train, held = (_read(file, columns, skip_bad) for file in (train_file, test_file))
    else:
        columns = _columns(place, label, skip)
        whole = _read(place, columns, skip_bad)
        train, held = (
            Table(whole.x[its], [whole.labels[i] for i in its], skipped)
            for its, skipped in zip(
                own.split(len(whole.x), test, seed, place), (whole.skipped, 0), strict=True
            )
        )
    y = _labels(train.labels, held.labels, targets, f"{place}, column {columns.label!r}")
    x = _scaled(train.x, held.x) if standardise else (train.x, held.x)
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its number
        train_x, test_x = (part.astype(np.float32) for part in x)
    name = place.name.split(".")[0] or "csv"
    skipped = train.skipped + held.skipped
    return Dataset(name, train_x, y[0], test_x, y[1], y[2], skipped=skipped)


def _within(folder: Path, part: str) -> Path:
    for end in ENDS:
        if (file := folder / f"{part}.csv{end}").exists():
            return file
    raise InputError(f"{folder} has no {part}.csv; csv reads {LAYOUT}")


def _names(skip: Any) -> tuple[str, ...]:
    if isinstance(skip, str) or not all(isinstance(name, str) for name in skip):
        raise InputError(f"data.options.skip must be names of columns, as ('id',); found {skip!r}")
    return tuple(skip)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, and the line at which each ends."""

    def texts() -> Iterator[str]:
        for number, line in enumerate(files.lines(file), start=1):
            try:
                yield line.decode("utf-8") + "\n"
            except UnicodeDecodeError:
                raise InputError(
                    f"{file}, line {number} is not UTF-8: save the file in that encoding"
                ) from None

    reader = csv.reader(texts(), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file}, line {reader.line_num}: {error}") from None
        if row and any(row):
            yield reader.line_num, row


def _columns(file: Path, label: Any, skip: Sequence[str]) -> Columns:
    _, header = next(_rows(file), (0, []))
    header = [name.strip() for name in header]
    if not header:
        raise InputError(f"{file}: it is empty")
    if all(_number(name) is not None for name in header):
        raise InputError(
            f"{file}, line 1 must name the columns, found numbers: {options.shown(header)}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{file}, line 1: two columns are called {twice[0]!r}")
    for name in skip:
        options.column("skip", name, header, file)
    if label:
        label = options.column("label", label, header, file)
    else:
        label = options.usual("label", own.LABELS, [n for n in header if n not in skip], file)
    features = [name for name in header if name not in (label, *skip)]
    if not features or label in skip:
        raise InputError(f"{file}: no column is left beside the label {label!r}")
    return Columns(header, label, features)


def _read(file: Path, columns: Columns, skip_bad: bool) -> Table:
    """A file's rows, its columns in the order of ``columns``."""
    rows = _rows(file)
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    used = {columns.label, *columns.features}
    odd = sorted((set(header) ^ set(columns.header)) - (set(columns.header) - used))
    if odd or len(set(header)) != len(header):
        raise InputError(
            f"{file}, line 1: its columns are not those of the training part; "
            f"{(odd or header)[0]!r} is in one alone, or twice"
        )
    where = header.index(columns.label)
    places = [(header.index(name), name) for name in columns.features]
    values, labels, skipped, first_bad = array("d"), [], 0, ""
    allowed = files.most(file)
    names: dict[str, str] = {}  # a label that comes often is kept once
    for line, row in rows:
        try:
            numbers = _numbers(row, len(header), places, columns.label, where)
        except ValueError as error:
            first_bad = first_bad or f"{file}, line {line}{error}"
            if not skip_bad:
                raise InputError(first_bad) from None
            skipped += 1
            continue
        values.extend(numbers)
        labels.append(names.setdefault(row[where], row[where]))
        if 8 * (len(values) + len(labels)) > allowed:
            raise InputError(f"{file} holds more than {files.SPREAD} times its own size: damaged")
    if not labels:
        why = f"no row of it can be used: {first_bad}" if first_bad else "there is no row below it"
        raise InputError(f"{file} has a header, but {why}")
    return Table(np.frombuffer(values).reshape(len(labels), -1), labels, skipped)


def _numbers(
    row: list[str], cells: int, places: list[tuple[int, str]], label: str, where: int
) -> list[float]:
    """The features of a row; a ``ValueError`` ends the sentence that names file and line."""
    if len(row) != cells:
        raise ValueError(f": {len(row)} cells, expected {cells} as in the header")
    if row[where].strip().lower() in ("", "nan"):
        raise ValueError(f", column {label!r}: the label is missing")
    found = []
    for place, name in places:
        value = _number(row[place])
        if value is None or not math.isfinite(value):
            what = f"found {row[place][:40]!r}" if row[place].strip() else "the cell is empty"
            raise ValueError(f", column {name!r}: expected a number, {what}. {MEND.format(name)}")
        found.append(value)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _labels(
    train: list[str], test: list[str], targets: bool, where: str
) -> tuple[np.ndarray, np.ndarray, int]:
    texts = [text.strip() for text in (*train, *test)]
    numbers = [_number(text) for text in texts]
    if targets:
        for text, value in zip(texts, numbers, strict=True):
            if value is None or not math.isfinite(value):
                raise InputError(f"{where}: expected a number as target, found {text[:40]!r}")
        both = np.array(numbers, np.float64)
    elif None in numbers:
        both = np.array(texts)
    else:
        odd = next((n for n in numbers if not float(n or 0).is_integer()), None)
        if odd is not None:
            raise InputError(
                f"{where}: {odd} is no class. Set data.options.targets=True for numbers to be met"
            )
        both = np.array([str(int(n or 0)) for n in numbers])  # "1.0" is the class "1"
    return own.labels(both[: len(train)], both[len(train) :], where)


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):  # refused with its number, once it is NaN
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        # The deviation of equal numbers is not always 0: their mean is rounded.
        deviation = np.where(deviation > ROUNDED * np.abs(mean), deviation, 1.0)
        return (train - mean) / deviation, (test - mean) / deviation
