"""Handwritten digits, 1,797 images of 8 x 8, 10 classes: they come with scikit-learn.

Half train, half test, as in scikit-learn's own example, but shuffled (with a seed of its own that
never changes): the file is ordered by writer.
"""

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed


def load(path: str = "") -> Dataset:
    """898 training and 899 test images, values 0 to 1. There is no path to give."""
    if path:
        raise InputError(f"digits come with scikit-learn and take no data.path; found {path!r}")
    with needed("commands"):
        from sklearn.datasets import load_digits  # slow, and other data sets do not need it

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    y = y.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[: len(x) // 2], order[len(x) // 2 :]
    return Dataset("digits", x[train], y[train], x[test], y[test], classes=10)
