"""Data sets of Hugging Face's ``datasets``, saved on disk, or Parquet files; read with ``pyarrow``.

Nothing else of theirs is needed, and nothing can be downloaded. Read are ``Dataset.save_to_disk``
and ``DatasetDict.save_to_disk`` (Arrow files, which are mapped into memory), and Parquet files, as
in a repository of the hub. What a column holds is taken from its type, and the names of classes
from the description that those files carry.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import options, own
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed
from ist_jax.data.sources import arrow, arrow_columns, image_sets, text_features
from ist_jax.data.sources.image_sets import PARTS, Opened

INPUTS = ("image", "img", "text", "sentence", "content", "features", "x", "input")
LABELS = (*own.LABELS, "fine_label")
LAYOUT = (
    "a folder written by save_to_disk of a Dataset or DatasetDict, a folder of .parquet files "
    "(train*.parquet and test*.parquet), or one .parquet file"
)
SIZE = 64


class Part(NamedTuple):
    """A table of Arrow and the rows of it that count."""

    table: Any
    rows: np.ndarray

    def column(self, name: str) -> Any:
        """Of those rows, in one piece."""
        found = self.table.column(name).take(self.rows).combine_chunks()
        return arrow_columns.decoded(found)


def load(
    path: str = "",
    *,
    input: Any = "",  # noqa: A002
    label: Any = "",
    size: Any = SIZE,
    grey: Any = False,
    features: Any = 4096,
    tokens: Any = 0,
    test: Any = 0.2,
    seed: Any = 0,
    skip_bad: bool = False,
    cache: str = "",
) -> Dataset:
    """Images, texts or arrays of numbers, and a label each.

    Args:
      path: a folder or file, as above.
      input: the column that is learnt from: images are resized, texts hashed (``text``), lists of
        numbers of one shape are float32 arrays. If empty, the one with a usual name.
      label: the column of labels: classes, texts, or floating-point numbers (targets).
      size: pixels of a side of images; ``grey``: one channel instead of three.
      features: places that the words of texts are counted at.
      tokens: if positive, texts are one text of bytes (as in ``text``), and there is no label.
      test: the share for test, if there is no part ``test`` or ``validation``.
      seed: of that draw.
      skip_bad: leave images out that cannot be decoded.
      cache: where labels and digest of a large set of images are kept.

    Raises:
      InputError: no saved set, a damaged file, no such column, or one of another kind.
    """
    size = image_sets.check_size(size)
    channels = 1 if options.flag("grey", grey) else 3
    options.whole("features", features, 1, text_features.MOST_FEATURES)
    options.whole("tokens", tokens, 0, text_features.LONGEST)
    place = own.place(path, "huggingface", LAYOUT)
    with needed("huggingface"):
        import pyarrow  # noqa: F401  (a tenth of a second to import, and seldom needed)

    tables, files = arrow.tables(place, f"huggingface reads {LAYOUT}")
    parts = _parts(tables, test, seed, place)
    known = tables["train"].column_names
    name = place.name.split(".")[0] or "huggingface"
    column = _column("input", input, INPUTS, known, place)
    kind = arrow_columns.kind(tables["train"], column)
    if tokens:
        return _language(name, parts, column, kind, tokens, place)
    target = _column("label", label, LABELS, known, place)
    train_y, test_y, classes = _labels(parts, target, f"{place}, column {target!r}")
    if kind == "image":
        settings = {"test": test, "seed": seed, "input": column, "label": target}
        sources = {
            part: (f"{place.name}, {part} part", _Images(its, column, y))
            for (part, its), y in zip(parts.items(), (train_y, test_y), strict=True)
        }
        opened = Opened(name, place, classes, (size, size, channels), sources)
        return _images(opened, train_y, skip_bad, cache, files, settings)
    x = [_inputs(part, column, kind, features, place) for part in parts.values()]
    return Dataset(name, x[0], train_y, x[1], test_y, classes)


def _images(
    opened: Opened,
    labels: np.ndarray,
    skip_bad: bool,
    cache: str,
    files: list[Path],
    settings: dict[str, Any],
) -> Dataset:
    if not opened.classes or labels.ndim != 1:
        raise InputError(
            f"{opened.folder}: images need a label that is one class; {settings['label']!r} is none"
        )
    with needed("huggingface"):
        from PIL import Image  # noqa: F401  (images are opened with it, much later)
    size: Any = opened.shape[0]
    return image_sets.load(opened, size, skip_bad, cache, files, settings)


def _labels(parts: dict[str, Part], column: str, where: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Of both parts, and the classes; a ``ClassLabel`` may have more than occur."""
    train, test = (arrow_columns.labels(part.column(column), where) for part in parts.values())
    train, test, classes = own.labels(train, test, where)
    names = arrow_columns.class_names(parts["train"].table, column)
    return train, test, max(classes, len(names)) if classes else 0


def _column(option: str, name: Any, usual: tuple[str, ...], known: list[str], place: Path) -> str:
    if name:
        return options.column(option, name, known, place)
    return options.usual(option, usual, known, place)


def _parts(tables: dict[str, Any], test: Any, seed: Any, place: Path) -> dict[str, Part]:
    if "test" in tables:
        return {part: Part(tables[part], np.arange(len(tables[part]))) for part in PARTS}
    both = own.split(len(tables["train"]), test, seed, place)
    return {part: Part(tables["train"], its) for part, its in zip(PARTS, both, strict=True)}


def _inputs(part: Part, column: str, kind: str, features: int, place: Path) -> np.ndarray:
    where = f"{place}, column {column!r}"
    values = part.column(column)
    if kind == "text":
        return text_features.hashed(arrow_columns.texts(values, where), features, where)
    return arrow_columns.numbers(values, where)


def _language(
    name: str, parts: dict[str, Part], column: str, kind: str, length: int, place: Path
) -> Dataset:
    where = f"{place}, column {column!r}"
    if kind != "text":
        raise InputError(f"{where} holds no texts, which data.options.tokens is for")
    joined = ["\n".join(arrow_columns.texts(part.column(column), where)) for part in parts.values()]
    return text_features.language(name, [(where, text) for text in joined], length)


class _Images:
    """A column of images and their labels, as a source (``image_sets``)."""

    def __init__(self, part: Part, column: str, labels: np.ndarray):
        self._rows, self._images, self._labels = part.rows, part.table.column(column), labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        value = self._images[int(self._rows[number])].as_py()
        stored = value.get("bytes") if isinstance(value, dict) else value
        if stored is None:
            raise ValueError("its bytes are not in the file, but a path at most")
        return {"image": stored, "label": self._labels[number]}

    def name_of(self, number: int) -> str:
        """What messages call an image."""
        return f"row {self._rows[number]}"
