"""Extreme classification: sets of sparse examples with several labels out of very many.

Amazon-670K, and any other set of the Extreme Classification Repository: a folder with one file each
whose names contain ``train`` and ``test``, in the repository's ``sparse_text``. They are read once,
into arrays that are mapped from files afterwards (``prepared``).
"""

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import description, files, prepared
from ist_jax.data.sources import debian, sparse_text
from ist_jax.data.sparse import Rows

PARTS = ("train", "test")
VERSION = 1  # of the arrays that are kept


class MultiLabel(NamedTuple):
    """Sparse examples with several labels each; the fields are those of ``Dataset``.

    Attributes:
      train_x, test_x: features, ``{"ids", "values"}`` for each example.
      train_y, test_y: labels, ids alone.
      features, classes: how many there are.
      validation_x, validation_y: of the training part, held out (``held_out``); None if none is.
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
    sha256: str = ""
    validation_x: Rows | None = None
    validation_y: Rows | None = None

    @property
    def examples(self) -> int:
        """For training."""
        return len(self.train_x)

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
) -> MultiLabel:
    """A set in the repository's text format.

    Args:
      path: a folder with the two files.
      skip_bad: leave bad lines out, and print how many those were.
      cache: where the arrays are kept.
      most_features: entries of an example; of more, the largest stay (how often is printed).

    Raises:
      InputError: no such files, or a bad line (it is named).
    """
    if not path:
        raise InputError(
            "data.path is missing: a folder with train.txt and test.txt of a set of the "
            "Extreme Classification Repository (Amazon-670K, say) in its sparse text format"
        )
    return _load("xmc", "real", expanded(path, "data.path"), skip_bad, cache, most_features)


def _load(
    name: str, origin: str, place: Path, skip_bad: bool, cache: str, most_features: int
) -> MultiLabel:
    texts = [_only(place, part) for part in PARTS]
    if texts[0] == texts[1]:
        raise InputError(f"{texts[0]} is both *train*.txt and *test*.txt; rename it")

    fill = functools.partial(_fill, texts, skip_bad)
    if _alike(*texts):
        print(
            f"{name}: {texts[0]} and {texts[1]} hold the same lines; what is measured is what was "
            "trained on",
            file=sys.stderr,
        )
    source = prepared.digest(texts, {"skip_bad": skip_bad, "version": VERSION})
    folder, counts = prepared.folder(cache, prepared.name_of(name, place), source, fill)
    found = {}
    for part in PARTS:
        arrays = {
            what: np.load(folder / f"{part}_{what}.npy", mmap_mode="r")
            for what in ("starts", "ids", "values", "label_starts", "labels")
        }
        starts, ids, values = (arrays[what] for what in ("starts", "ids", "values"))
        x = Rows(starts, ids, values, counts[part]["features"], most_features)
        if x.shortened:
            print(
                f"{name}, {part} part: {x.shortened} of {len(x)} examples have more than "
                f"{x.most} features, of which the largest stay (data.options.most_features)",
                file=sys.stderr,
            )
        found[f"{part}_x"] = x
        found[f"{part}_y"] = Rows(
            arrays["label_starts"], arrays["labels"], None, counts[part]["labels"]
        )
    skipped = sum(counts[part]["skipped"] for part in PARTS)
    if skipped:
        print(f"{name}: {skipped} bad lines were left out", file=sys.stderr)
    of_train = counts["train"]
    return MultiLabel(
        name=name,
        features=of_train["features"],
        classes=of_train["labels"],
        origin=origin,
        skipped=skipped,
        sha256=description.digest_of_set(folder),
        **found,
    )


def _fill(texts: list[Path], skip_bad: bool, folder: Path) -> dict[str, Any]:
    """Both parts as arrays in a folder; how many examples, features and labels each has."""
    counts = {
        part: sparse_text.read(file, folder, part, skip_bad)
        for part, file in zip(PARTS, texts, strict=True)
    }
    train, test = (counts[part] for part in PARTS)
    for what in ("features", "labels"):
        if train[what] != test[what]:
            raise InputError(f"{texts[0]} has {train[what]} {what}, {texts[1]} has {test[what]}")
    return counts


def load_debian(path: str = "", *, cache: str = "", most_features: int = 256) -> MultiLabel:
    """Debian's packages (``sources.debian``); ``path`` is a folder with apt's lists."""
    lists = expanded(path, "data.path") if path else debian.LISTS

    def fill(folder: Path) -> dict[str, Any]:
        documents = debian.read(lists)
        debian.write(documents, folder)
        return {"lists": documents.digests}

    found = [debian.find(lists, pattern) for pattern in (debian.PACKAGES, debian.DESCRIPTIONS)]
    source = prepared.digest(found, {"version": debian.VERSION})
    folder, _ = prepared.folder(cache, "debian_packages_text", source, fill)
    return _load("debian_packages", "stand-in", folder, False, cache, most_features)


def _only(folder: Path, part: str) -> Path:
    found = sorted(folder.glob(f"*{part}*.txt")) if folder.is_dir() else []
    if len(found) != 1:
        raise InputError(
            f"{folder} should have one file *{part}*.txt in the repository's sparse text format; "
            f"found {', '.join(file.name for file in found[:5]) or 'none'}"
            f"{', ...' if len(found) > 5 else ''}"
        )
    return found[0]


def _alike(train: Path, test: Path) -> bool:
    whole = all(path.is_file() for path in (train, test))  # a pipe is refused where it is read
    if not whole or train.stat().st_size != test.stat().st_size:
        return False
    return files.digest(train) == files.digest(test)
