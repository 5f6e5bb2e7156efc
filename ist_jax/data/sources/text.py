"""Texts with a label each, or a text whose next byte is to be said.

For classification: a folder for each class with a text in each file, or a ``.tsv`` or ``.jsonl``
with a text and a label on each line. For language models (``tokens``): any files of text.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files, options, own, subwords
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import folders, text_features

INPUTS = ("text", "sentence", "content", "document")
TABLES = (".tsv", ".jsonl")
LAYOUT = (
    f"{folders.LAYOUT}, or a .tsv with a header or .jsonl file (or train.tsv and test.tsv) with a "
    "text and a label on each line; with data.options.tokens, a file or a folder of .txt files"
)


class Texts(NamedTuple):
    texts: list[str]
    labels: list[Any]  # names, or numbers of classes


def load(
    path: str = "",
    *,
    tokens: Any = 0,
    vocabulary: Any = 0,
    features: Any = 4096,
    input: Any = "",  # noqa: A002
    label: Any = "",
    test: Any = 0.2,
    seed: Any = 0,
) -> Dataset:
    """Hashed words float32 [n, features] and a class each; or bytes, and the byte after each.

    Args:
      path: a file or a folder, as above.
      tokens: if positive, examples are so many bytes, int32 [n, tokens], in the order of the text,
        and labels the byte after each of them, int32 [n, tokens], of 256 classes.
      vocabulary: of tokens: so many pieces of words, which are found in the training part, in
        place of bytes; needs ``ist_jax[text]``.
      features: places that words are counted at (``text_features.hashed``).
      input: the column or key of the texts; the one called text, sentence, content or document if
        empty.
      label: that of the labels; the one called label, class, target or y if empty.
      test: the share for test, where the files do not say; of tokens, the end of the text.
      seed: of that draw; of tokens, nothing is drawn.

    Raises:
      InputError: what is missing or damaged; file and line are named.
    """
    options.whole("tokens", tokens, 0, text_features.LONGEST)
    options.whole("features", features, 1, text_features.MOST_FEATURES)
    place = own.place(path, "text", LAYOUT)
    name = place.name.split(".")[0] or "text"
    if tokens:
        options.whole("vocabulary", vocabulary, 0, subwords.MOST)
        share = options.share("test", test)
        return text_features.language(name, _parts(place), tokens, share, vocabulary)
    train, held = _classified(place, input, label, test, seed)
    x = [text_features.hashed(part.texts, features, place) for part in (train, held)]
    y = own.labels(np.array(train.labels), np.array(held.labels), place)
    return Dataset(name, x[0], y[0], x[1], y[1], y[2])


def _classified(place: Path, text: str, label: str, test: Any, seed: Any) -> tuple[Texts, Texts]:
    if place.is_dir():
        for kind in TABLES:
            parts = [place / f"{part}{kind}" for part in ("train", "test")]
            if all(part.exists() for part in parts):
                train, held = (_table(part, text, label) for part in parts)
                return train, held
        found = folders.read(place, (), test, seed, "text")
        train, held = (
            Texts([_text(file) for file, _ in its], [number for _, number in its])
            for its in (found.train, found.test)
        )
        return train, held
    whole = _table(place, text, label)
    both = own.split(len(whole.texts), test, seed, place)
    train, held = (Texts(*([column[i] for i in its] for column in whole)) for its in both)
    return train, held


def _text(file: Path) -> str:
    try:
        return files.read(file).removeprefix(files.MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 at byte {error.start}: save it so") from None


def _table(file: Path, text: str, label: str) -> Texts:
    """The texts and labels of a file, a line each."""
    kind = Path(file.stem).suffix if file.suffix in files.UNPACK else file.suffix
    if kind not in TABLES:
        raise InputError(f"{file} is neither .tsv nor .jsonl; text reads {LAYOUT}")
    rows = _json_rows(file) if kind == ".jsonl" else _tab_rows(file)
    found, kept, columns = Texts([], []), 0, None
    for line, row in rows:
        if columns is None:
            columns = (
                options.column("input", text, row, file)
                if text
                else options.usual("input", INPUTS, row, file),
                options.column("label", label, row, file)
                if label
                else options.usual("label", own.LABELS, row, file),
            )
        for column, values in zip(columns, found, strict=True):
            value = row.get(column)
            if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
                raise InputError(
                    f"{file}, line {line}: {column!r} must be a text, found {value!r:.40}"
                )
            values.append(str(value).strip())
        kept += len(found.texts[-1])
        if kept > files.most(file):
            raise InputError(f"{file} holds more than {files.SPREAD} times its own size: damaged")
    if not found.texts:
        raise InputError(f"{file}: it holds no text")
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Those that are not blank, and their numbers."""
    for number, line in enumerate(files.lines(file), start=1):
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            raise InputError(
                f"{file}, line {number} is not UTF-8: save the file in that encoding"
            ) from None
        if text.strip():
            yield number, text


def _tab_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """As dictionaries; nothing is quoted, and the first line names the columns."""
    rows = _lines(file)
    _, first = next(rows, (0, ""))
    header = [name.strip() for name in first.split("\t")]
    for number, line in rows:
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError(
                f"{file}, line {number}: {len(cells)} cells, expected {len(header)} as in line 1, "
                "which names the columns"
            )
        yield number, dict(zip(header, cells, strict=True))


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number} is not JSON: {error!s:.80}") from None
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number} must be a JSON object, found {line[:40]!r}")
        yield number, row


def _parts(place: Path) -> list[tuple[Path, str]]:
    """Where a text comes from, and the text: of training and test, or both in one."""
    if not place.is_dir():
        return [(place, _text(place))]
    parts = [place / f"{part}.txt" for part in ("train", "test")]
    if all(part.exists() for part in parts):
        return [(part, _text(part)) for part in parts]
    texts = sorted(one for one in place.glob("*.txt*") if not one.name.startswith("."))
    if not texts:
        raise InputError(f"{place} holds no .txt file; text reads {LAYOUT}")
    return [(place, "\n".join(map(_text, texts)))]
