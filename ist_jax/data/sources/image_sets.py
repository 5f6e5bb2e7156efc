"""Images with a label each, wherever they are stored: in memory, or decoded as they are needed.

A source is what has a length and gives ``{"image": bytes or uint8 [h, w, c], "label": int}`` for a
number. Small sets are decoded once. Of larger ones, the first start reads all of the set for labels
and digest; later ones find those in the cache.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import options, prepared
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources.decoding import Images, example

PARTS = ("train", "test")
VERSION = 2  # of what is kept
LARGEST_SIDE = 2**12  # pixels that an image is resized to
IN_MEMORY = 2**30  # bytes of a set that is decoded once


class Opened(NamedTuple):
    """A set: its folder, classes and shape of images, and the examples of each part.

    ``parts`` has for ``train`` and ``test`` what messages call it, and the source.
    """

    name: str
    folder: Path
    classes: int
    shape: tuple[int | None, ...]
    parts: dict[str, tuple[str, Any]]


class Chosen:
    """Some of a source's examples, as a source."""

    def __init__(self, source: Any, numbers: Sequence[int] | np.ndarray):
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Any:
        return self._source[int(self._numbers[number])]

    def name_of(self, number: int) -> str:
        """What messages call an example."""
        return f"example {self._numbers[number]}"


def check_size(size: Any) -> int:
    """Pixels of a side.

    Raises:
      InputError: a size that is none.
    """
    return options.whole("size", size, 1, LARGEST_SIDE)


def load(
    opened: Opened,
    size: int,
    skip_bad: bool,
    cache: str,
    files: Sequence[Path],
    settings: Mapping[str, Any],
) -> Dataset:
    """In memory where the set is small, else decoded as it is needed.

    Args:
      size: pixels of a side.
      skip_bad: leave images out that cannot be decoded.
      cache: where labels and digest of a large set are kept.
      files: all that the set is made of; ``settings`` are those that its parts depend on.

    Raises:
      InputError: an image that cannot be decoded, or a label out of range.
    """
    examples = sum(len(source) for _, source in opened.parts.values())
    channels = opened.shape[-1] or 3
    if 4 * examples * size * size * channels <= IN_MEMORY:
        return in_memory(opened, size, skip_bad)
    return as_needed(opened, size, skip_bad, cache, files, settings)


def in_memory(opened: Opened, size: int, skip_bad: bool) -> Dataset:
    """All images decoded; every bad one is met."""
    looked = {part: _look(opened, part, skip_bad)[:2] for part in PARTS}
    lazy = _dataset(opened, size, looked)
    return lazy._replace(train_x=lazy.train_x[:], test_x=lazy.test_x[:])


def as_needed(
    opened: Opened,
    size: int,
    skip_bad: bool,
    cache: str,
    files: Sequence[Path],
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Dataset:
    """Images decoded when they are asked for, their labels and digest from the cache."""

    def fill(folder: Path) -> dict[str, Any]:
        digests = []
        for part in PARTS:
            good, labels, digest = _look(opened, part, skip_bad)
            np.save(folder / f"{part}_good.npy", good)
            np.save(folder / f"{part}_labels.npy", labels)
            digests.append(digest)
        return {"sha256": hashlib.sha256("".join(digests).encode()).hexdigest()}

    source = prepared.digest(files, {"skip_bad": skip_bad, "version": VERSION, **settings})
    kept_as = prepared.name_of(f"{opened.name}_labels", opened.folder)
    folder, about = prepared.folder(cache, kept_as, source, fill)
    looked = {
        part: (np.load(folder / f"{part}_good.npy"), np.load(folder / f"{part}_labels.npy"))
        for part in PARTS
    }
    return _dataset(opened, size, looked)._replace(sha256=about["sha256"])


def _dataset(
    opened: Opened, size: int, looked: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Dataset:
    found: dict[str, Any] = {}
    skipped = 0
    for part, (where, source) in opened.parts.items():
        good, labels = looked[part]
        skipped += len(source) - len(good)
        found[f"{part}_x"] = Images(source, size, where, good, opened.shape[-1] or 3)
        found[f"{part}_y"] = labels
    return Dataset(opened.name, classes=opened.classes, skipped=skipped, **found)


def _look(opened: Opened, part: str, decode: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Which examples count, their labels, and a digest of both and of the images as they are
    stored; with ``decode``, bad images are left out.
    """
    where, source = opened.parts[part]
    show = prepared.Progress(where, len(source), "labels")
    good, labels, digest, first_bad = [], [], hashlib.sha256(), ""
    for number in range(len(source)):
        try:
            image, label = example(source, number, where, decode=False)
            if decode:
                example(source, number, where, decode=True)
        except InputError as error:
            if not decode:
                raise
            first_bad = first_bad or str(error)
            continue
        if not 0 <= label < opened.classes:
            raise InputError(
                f"{where}: example {number} has label {label}, expected 0 to {opened.classes - 1}"
            )
        good.append(number)
        labels.append(label)
        stored = image if isinstance(image, bytes) else image.tobytes()
        digest.update(f"{number} {label} {len(stored)} ".encode() + stored)
        show(number)
    if first_bad and not good:
        raise InputError(f"{where}: no image can be used. {first_bad}")
    return np.array(good, np.int64), np.array(labels, np.int32), digest.hexdigest()
