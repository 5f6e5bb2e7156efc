"""Fashion-MNIST: 60,000 + 10,000 images of 28 x 28, 10 classes (Xiao et al., 2017; MIT licence).

Looked for in the path given, then in the folder of Debian's package ``dataset-fashion-mnist``, then
in a prepared TensorFlow Datasets folder (read without TensorFlow, through ``tfds.data_source``).
"""

from pathlib import Path

import numpy as np

from ist_jax.data import idx
from ist_jax.data.dataset import Dataset
from ist_jax.errors import InputError

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
    folders = [Path(path).expanduser()] if path else [DEBIAN]
    for folder in folders:
        present = [name for name in FILES if (folder / name).is_file()]
        if len(present) == len(FILES):
            return _from_idx(folder)
        if present:
            missing = sorted(set(FILES) - set(present))
            raise InputError(f"{folder} has {present[0]} but not {', '.join(missing)}")
    found = _from_tfds(path or None)
    if found is None:
        tried = f"{path}" if path else f"{DEBIAN} and ~/tensorflow_datasets"
        raise InputError(
            f"Fashion-MNIST was not found in {tried}. Install Debian's package (apt-get install "
            f"dataset-fashion-mnist), or point data.path at a folder with {', '.join(FILES)}, or "
            "at a folder prepared by TensorFlow Datasets (fashion_mnist, array_record)."
        )
    return found


def _from_idx(folder: Path) -> Dataset:
    train_x, train_y, test_x, test_y = (
        idx.read(folder / name, ndim) for name, ndim in zip(FILES, (3, 1, 3, 1), strict=True)
    )
    return _dataset(train_x[..., None], train_y, test_x[..., None], test_y)


def _from_tfds(folder: str | None) -> Dataset | None:
    if not Path(folder or "~/tensorflow_datasets").expanduser().is_dir():
        return None
    import tensorflow_datasets as tfds  # seconds to import, and seldom needed

    try:
        # Asking the builder first keeps tfds from preparing, which would download.
        builder = tfds.builder("fashion_mnist", data_dir=folder, file_format="array_record")
        splits = [builder.as_data_source(split=split) for split in ("train", "test")]
    except Exception as error:
        # tfds reports missing data by many exception types (registration, assertion, value, OS).
        raise InputError(
            f"TensorFlow Datasets could not read fashion_mnist from {folder or 'its folder'}: "
            f"{str(error).splitlines()[0]}. Prepare it there with file_format='array_record', or "
            "apt-get install dataset-fashion-mnist."
        ) from None
    (train_x, train_y), (test_x, test_y) = map(_stack, splits)
    return _dataset(train_x, train_y, test_x, test_y)


def _stack(source) -> tuple[np.ndarray, np.ndarray]:
    examples = [source[i] for i in range(len(source))]
    return np.stack([e["image"] for e in examples]), np.stack([e["label"] for e in examples])


def _dataset(train_x, train_y, test_x, test_y) -> Dataset:
    def scaled(x):
        return (x / np.float32(255)).astype(np.float32)

    def labels(y):
        return y.astype(np.int32)

    return Dataset(
        "fashion_mnist",
        scaled(train_x),
        labels(train_y),
        scaled(test_x),
        labels(test_y),
        classes=10,
    )
