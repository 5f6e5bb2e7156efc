"""Fashion-MNIST: 60,000 + 10,000 images of 28 x 28, 10 classes (Xiao et al., 2017; MIT licence).

Looked for in the path given, then in the folder of Debian's package ``dataset-fashion-mnist``, then
in a prepared TensorFlow Datasets folder (read without TensorFlow, through ``tfds.data_source``).
"""

from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed
from ist_jax.data.sources import idx, tfds_folder
from ist_jax.data.sources.decoding import first_line

SHAPE, CLASSES = (28, 28, 1), 10
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def load(path: str = "") -> Dataset:
    """Images with values 0 to 1, [n, 28, 28, 1].

    Args:
      path: a folder with the four idx files, or with data prepared by TensorFlow Datasets.

    Raises:
      InputError: nothing there, or damaged files; the message says what to install.
    """
    folder = expanded(path, "data.path") if path else DEBIAN
    present = [name for name in FILES if (folder / name).is_file()]
    if len(present) == len(FILES):
        return _from_idx(folder)
    if present:
        missing = sorted(set(FILES) - set(present))
        raise InputError(f"{folder} has {present[0]} but not {', '.join(missing)}")
    return _from_tfds(path)


def _from_idx(folder: Path) -> Dataset:
    train_x, train_y, test_x, test_y = (
        idx.read(folder / name, ndim) for name, ndim in zip(FILES, (3, 1, 3, 1), strict=True)
    )
    for name, x in ((FILES[0], train_x), (FILES[2], test_x)):
        if x.shape[1:] != SHAPE[:2]:
            raise InputError(
                f"{folder / name} holds images of {list(x.shape[1:])} pixels, expected "
                f"{list(SHAPE[:2])}: it is damaged or of another set"
            )
    return _dataset(train_x[..., None], train_y, test_x[..., None], test_y)


def _from_tfds(path: str) -> Dataset:
    tried = path or f"{DEBIAN} and {tfds_folder.USUAL}"
    how = (
        f"Give data.path a folder with {', '.join(FILES)} (apt-get install dataset-fashion-mnist "
        f"puts them in {DEBIAN}), or one prepared by TensorFlow Datasets (fashion_mnist, "
        "file_format='array_record')."
    )
    folder = expanded(path or tfds_folder.USUAL, "data.path")
    if not folder.is_dir():
        raise InputError(f"Fashion-MNIST was not found in {tried}. {how}")
    tfds_folder.check_files(folder, "fashion_mnist")
    with needed("datasets"):
        import tensorflow_datasets  # seconds to import, and seldom needed

    try:
        # Asking the builder first keeps tfds from preparing, which would download.
        builder = tensorflow_datasets.builder(
            "fashion_mnist", data_dir=str(folder), file_format="array_record"
        )
        splits = [builder.as_data_source(split=split) for split in ("train", "test")]
    except Exception as error:
        # tfds reports missing data by many exception types (registration, assertion, value, OS).
        raise InputError(
            f"Fashion-MNIST was not found in {tried}: none of its files is there, and TensorFlow "
            f"Datasets says: {first_line(error)}. {how}"
        ) from None
    (train_x, train_y), (test_x, test_y) = map(_stack, splits, ("training", "test"))
    return _dataset(train_x, train_y, test_x, test_y)


def _stack(source: Any, part: str) -> tuple[np.ndarray, np.ndarray]:
    """All images, uint8 [n, 28, 28, 1], and their labels."""
    x, y = np.empty((len(source), *SHAPE), np.uint8), np.empty(len(source), np.int64)
    for number in range(len(source)):
        try:
            example = source[number]
            image, y[number] = example["image"], example["label"]
            if not 0 <= y[number] < CLASSES:
                raise ValueError(f"its label is {y[number]}, expected 0 to {CLASSES - 1}")
            if (image.dtype, image.shape) != (x.dtype, SHAPE):
                raise ValueError(f"it is {image.dtype}{list(image.shape)}, not uint8{list(SHAPE)}")
        except Exception as error:  # of the decoder, of the record, of the file
            raise InputError(
                f"Fashion-MNIST, {part} part: example {number} cannot be read "
                f"({first_line(error)}). Prepare it again."
            ) from None
        x[number] = image
    return x, y


def _dataset(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> Dataset:
    def scaled(x: np.ndarray) -> np.ndarray:
        return np.divide(x, np.float32(255), dtype=np.float32)

    def labels(y: np.ndarray) -> np.ndarray:
        return y.astype(np.int32)

    return Dataset(
        "fashion_mnist",
        scaled(train_x),
        labels(train_y),
        scaled(test_x),
        labels(test_y),
        classes=CLASSES,
    )
