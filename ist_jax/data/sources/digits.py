"""Handwritten digits, 1,797 images of 8 x 8, 10 classes: they come with scikit-learn.

Half train, half test, as in scikit-learn's own example, but shuffled (with a seed of its own that
never changes): the file is ordered by writer.
"""

import importlib.util
from pathlib import Path

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed


def load(path: str = "") -> Dataset:
    """898 training and 899 test images, values 0 to 1. There is no path to give."""
    if path:
        raise InputError(f"digits come with scikit-learn and take no data.path; found {path!r}")
    table = _table()
    x, y = table[:, :-1], table[:, -1]
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = y.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[: len(x) // 2], order[len(x) // 2 :]
    return Dataset("digits", x[train], y[train], x[test], y[test], classes=10)


def _table() -> np.ndarray:
    """``float64[1797, 65]``, a label behind each image: scikit-learn's file, without importing it,
    which takes .9 s of CPU."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    with needed("commands"):
        from sklearn.datasets import load_digits  # of a scikit-learn that keeps it elsewhere

    return np.column_stack(load_digits(return_X_y=True))
