"""A data set of somebody's own: a file of NumPy."""

import numpy as np

from ist_jax.data import Dataset


def load(path, *, part=0.8):
    """``x`` and ``y`` of the file; the first ``part`` of them are for training."""
    with np.load(path) as file:
        x, y = file["x"].astype(np.float32), file["y"].astype(np.int32)
    end = int(part * len(x))
    return Dataset("mine", x[:end], y[:end], x[end:], y[end:], int(y.max()) + 1)
