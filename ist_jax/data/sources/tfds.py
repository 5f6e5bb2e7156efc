"""Any set that TensorFlow Datasets has prepared: images or arrays of numbers, and a label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import options, own
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import image_sets, tfds_folder
from ist_jax.data.sources.image_sets import PARTS, Chosen, Opened
from ist_jax.data.sources.tfds_folder import INFO, USUAL

INPUTS = ("image", "features", "x", "input")
LAYOUT = (
    f"a folder prepared by TensorFlow Datasets with file_format='array_record' (it holds {INFO}), "
    "or one above it"
)
SIZE = 64  # pixels of a side, where images are of many shapes and nobody says


def load(
    path: str = "",
    *,
    input: Any = "",  # noqa: A002
    label: Any = "",
    size: Any = 0,
    test: Any = 0.2,
    seed: Any = 0,
    skip_bad: bool = False,
    cache: str = "",
) -> Dataset:
    """Any prepared set with an image, or an array of numbers, and a label.

    Args:
      path: the folder with ``dataset_info.json`` (``.../mnist/3.0.1``), or one above it that holds
        no other set; ``~/tensorflow_datasets`` if empty.
      input: the feature that is learnt from; the first of image, features, x, input if empty.
      label: the feature that is learnt; the one called label, class, target or y if empty.
      size: pixels of a side of images (resized, and the middle cut out); as they are if 0 and all
        are squares of one size, else 64.
      test: the share of the part ``train`` that is for test, if there is no part ``test`` or
        ``validation``.
      seed: of that draw.
      skip_bad: leave images out that cannot be decoded.
      cache: where labels and digest of a large set are kept.

    Raises:
      InputError: no prepared set, several, or one without such features.
    """
    size = size if size == 0 and type(size) is int else image_sets.check_size(size)
    folder = _found(own.place(path or USUAL, "tfds", LAYOUT))
    builder = tfds_folder.builder_of("the set", folder, f"tfds reads {LAYOUT}.")
    features = builder.info.features
    name = builder.info.name
    known = list(features) if hasattr(features, "keys") else []
    label = (
        options.column("label", label, known, folder)
        if label
        else options.usual("label", own.LABELS, known, folder)
    )
    column = _input(input, known, folder)
    parts = _parts(builder, column, test, seed, folder)
    if not _is_image(features[column]):
        return _numbers(name, parts, column, label, folder)
    classes = getattr(features[label], "num_classes", None)
    if not classes:
        raise InputError(f"{folder}: images need a label that is a class; {label!r} is none")
    shape = tuple(features[column].shape)
    if not size:
        size = shape[0] if shape[0] and shape[0] == shape[1] else SIZE
    renamed = {part: (where, _Renamed(its, column, label)) for part, (where, its) in parts.items()}
    opened_set = Opened(name, folder, classes, (size, size, 1 if shape[-1] == 1 else 3), renamed)
    settings = {"test": test, "seed": seed, "input": column, "label": label}
    files = tfds_folder.files_of(folder)
    return image_sets.load(opened_set, size, skip_bad, cache, files, settings)


def _input(name: Any, known: list[str], folder: Path) -> str:
    if name:
        return options.column("input", name, known, folder)
    usual = [one for one in INPUTS if one in known]
    return usual[0] if usual else options.usual("input", INPUTS, known, folder)


def _found(folder: Path) -> Path:
    """The one prepared set in a folder, or at most three folders below it."""
    if (folder / INFO).is_file():
        return folder
    found = sorted(
        one.parent for depth in ("*", "*/*", "*/*/*") for one in folder.glob(f"{depth}/{INFO}")
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{folder} holds no prepared set; tfds reads {LAYOUT}")
    raise InputError(
        f"{folder} holds {len(found)} prepared sets; set data.path to one of "
        f"{', '.join(repr(str(one)) for one in found[:20])}"
    )


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _parts(
    builder: Any, feature: str, test: Any, seed: Any, folder: Path
) -> dict[str, tuple[str, Any]]:
    """The examples for training and for test, and what messages call them."""
    known, name = list(builder.info.splits), builder.info.name
    if "train" not in known:
        raise InputError(f"{folder} has no part 'train'; it has {options.shown(known)}")
    packed = tfds_folder.packed if _is_image(builder.info.features[feature]) else _plain
    held = next((part for part in own.TESTS if part in known), None)
    try:
        sources = {part: packed(builder, part, feature) for part in ("train", held) if part}
    except Exception as error:
        raise tfds_folder.unreadable("the set", folder, error, f"tfds reads {LAYOUT}.") from None
    where = {part: f"{name}, {part} part" for part in sources}
    if held:
        return {"train": (where["train"], sources["train"]), "test": (where[held], sources[held])}
    both = own.split(len(sources["train"]), test, seed, folder)
    return {
        part: (where["train"], Chosen(sources["train"], its))
        for part, its in zip(PARTS, both, strict=True)
    }


def _plain(builder: Any, part: str, _: str) -> Any:
    return builder.as_data_source(split=part)


class _Renamed:
    """A source whose features are called ``image`` and ``label``."""

    def __init__(self, source: Any, image: str, label: str):
        self._source, self._image, self._label = source, image, label

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> dict[str, Any]:
        example = self._source[number]
        return {"image": example[self._image], "label": example[self._label]}


def _numbers(
    name: str, parts: dict[str, tuple[str, Any]], feature: str, label: str, folder: Path
) -> Dataset:
    """Arrays of numbers, all in memory."""
    x, y = {}, {}
    for part, (where, source) in parts.items():
        rows: Sequence[Any] = [source[number] for number in range(len(source))]
        try:
            x[part] = np.stack([np.asarray(row[feature], np.float32) for row in rows])
        except (ValueError, TypeError):
            raise InputError(
                f"{where}: {feature!r} holds no numbers of one shape. Choose another with "
                "data.options.input"
            ) from None
        y[part] = np.asarray([row[label] for row in rows])
        if y[part].dtype.kind in "SO":
            y[part] = np.asarray([bytes(row[label]).decode(errors="replace") for row in rows])
    train_y, test_y, classes = own.labels(y["train"], y["test"], folder)
    return Dataset(name, x["train"], train_y, x["test"], test_y, classes)
