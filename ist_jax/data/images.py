"""CIFAR10 and ImageNet, as TensorFlow Datasets prepares them; read without TensorFlow.

A folder prepared with ``file_format="array_record"`` is read through ``as_data_source``. ImageNet
may be TensorFlow Datasets' own (1,000 classes) or any prepared set with the features ``image`` and
``label``, which is how the full one comes (21,841 classes; no one else prepares it).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.data.dataset import Dataset
from ist_jax.errors import InputError

PARTS = ("train", "test")
USUAL = "~/tensorflow_datasets"


class Images:
    """Images of many sizes as one array ``float32 [n, size, size, 3]``, decoded when asked for.

    The shorter side is resized to ``size`` and the middle is cut out; values are 0 to 1.

    Args:
      source: examples with an ``image``, by number.
      size: pixels of a side.
      where: what messages call it.
      chosen: numbers of the examples that count; all if None.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, source: Any, size: int, where: str, chosen: np.ndarray | None = None):
        self._source, self._size, self._where = source, size, where
        self._chosen = np.arange(len(source)) if chosen is None else chosen

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self._chosen), self._size, self._size, 3)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        """``[..., size, size, 3]`` for numbers ``[...]``.

        Raises:
          InputError: an image that cannot be decoded.
        """
        numbers = self._chosen[chosen]
        out = np.empty((numbers.size, *self.shape[1:]), np.float32)
        for row, number in enumerate(numbers.flat):
            out[row] = self._one(int(number))
        return out.reshape(*numbers.shape, *self.shape[1:])

    def _one(self, number: int) -> np.ndarray:
        from PIL import Image

        pixels = _example(self._source, number, self._where)["image"]
        image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        scale = self._size / min(image.size)
        width, height = (max(self._size, round(scale * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self._size) // 2, (height - self._size) // 2
        image = image.crop((left, top, left + self._size, top + self._size))
        return np.asarray(image, np.float32) / 255


def cifar10(path: str = "", *, skip_bad: bool = False) -> Dataset:
    """50,000 + 10,000 images of 32 x 32, 10 classes (Krizhevsky, 2009), in memory.

    Args:
      path: a folder of data sets, or of this one, prepared by TensorFlow Datasets.
      skip_bad: leave images out that cannot be decoded.

    Raises:
      InputError: nothing there; an image that cannot be decoded, or a label out of range.
    """
    return _load("cifar10", path, PARTS, skip_bad, 32, in_memory=True)


def imagenet(path: str = "", *, skip_bad: bool = False, size: int = 224) -> Dataset:
    """ImageNet, decoded as it is needed; the validation part is the test part.

    Args:
      path: a folder of data sets, or of this one, prepared by TensorFlow Datasets.
      skip_bad: leave images out that cannot be decoded: every one is tried. Without it, the first
        one that is met in training is an error. (Every record is read when the set is opened, for
        its label.)
      size: pixels of a side.

    Raises:
      InputError: as ``cifar10``.
    """
    return _load("imagenet2012", path, ("train", "validation"), skip_bad, size, in_memory=False)


def _load(
    name: str, path: str, parts: Sequence[str], skip_bad: bool, size: int, in_memory: bool
) -> Dataset:
    builder, sources = _open(name, path, parts)
    classes = builder.info.features["label"].num_classes
    shape = builder.info.features["image"].shape
    if in_memory and tuple(shape[:2]) != (size, size):
        raise InputError(f"{path} is not {name}: its images are {shape}, not {(size, size, 3)}")
    found: dict[str, Any] = {}
    skipped = 0
    for part, where, (source, packed) in zip(PARTS, parts, sources, strict=True):
        where = f"{name}, {where} part"
        good, labels = _looked_at(source if skip_bad else packed, where, classes, skip_bad)
        skipped += len(source) - len(good)
        x = Images(source, size, where, good)
        found[f"{part}_x"] = x[:] if in_memory else x
        found[f"{part}_y"] = labels
    return Dataset(name, classes=classes, skipped=skipped, **found)


def _open(name: str, path: str, parts: Sequence[str]) -> tuple[Any, list[tuple[Any, Any]]]:
    """What tells of the set, and of each part the examples, and the same with images as bytes."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # it recommends OpenCV, for every image
    folder = Path(path or USUAL).expanduser()
    how = (
        f"Prepare it with TensorFlow Datasets ({name}, file_format='array_record') and set "
        "data.path to its folder."
    )
    if not folder.is_dir():
        raise InputError(f"{name} was not found: there is no folder {folder}. {how}")
    import tensorflow_datasets as tfds  # seconds to import, and seldom needed

    try:
        # A builder never prepares by itself, which would download.
        if (folder / "dataset_info.json").exists():
            builder = tfds.builder_from_directory(str(folder))
        else:
            builder = tfds.builder(name, data_dir=str(folder), file_format="array_record")
        sources = [builder.as_data_source(split=part) for part in parts]
        packed = [_packed(builder, part) for part in parts]
        return builder, [(s, s if p is None else p) for s, p in zip(sources, packed, strict=True)]
    except Exception as error:
        # tfds reports missing data by many exception types (registration, assertion, value, OS).
        raise InputError(
            f"TensorFlow Datasets could not read {name} from {folder}: {_first_line(error)}. {how}"
        ) from None


def _packed(builder: Any, part: str) -> Any | None:
    """A part whose images are not decoded, for its labels; None where that needs TensorFlow."""
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split=part, decoders={"image": tfds.decode.SkipDecoding()})
        return source if len(source) and source[0] else None
    except ImportError:
        return None


def _looked_at(
    source: Any, where: str, classes: int, skip_bad: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The examples that count, and their labels."""
    good, labels = [], []
    for number in range(len(source)):
        try:
            label = int(_example(source, number, where)["label"])
        except InputError:
            if not skip_bad:
                raise
            continue
        if not 0 <= label < classes:
            raise InputError(
                f"{where}: example {number} has label {label}, expected 0 to {classes - 1}"
            )
        good.append(number)
        labels.append(label)
    return np.array(good, np.int64), np.array(labels, np.int32)


def _example(source: Any, number: int, where: str) -> Any:
    try:
        return source[number]
    except Exception as error:  # of the decoder, of the record, of the file
        raise InputError(
            f"{where}: example {number} cannot be read ({_first_line(error)}). Leave such examples "
            "out with data.skip_bad=True."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
