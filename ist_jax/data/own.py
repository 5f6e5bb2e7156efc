"""What the readers of a user's own files share: where they are, their parts, their labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import options

MOST_CLASSES = 2**24
LARGEST = 2**32  # bytes of an array that a reader makes of what takes less on disk
LABELS = ("label", "labels", "class", "target", "y")  # usual names of the column of labels
TESTS = ("test", "validation", "valid", "val")  # usual names of the part that is not for training


def place(path: str, reader: str, layout: str) -> Path:
    """The file or folder that a user named.

    Args:
      layout: what the reader reads, for messages.

    Raises:
      InputError: none is named, or there is none.
    """
    if not path:
        raise InputError(f"{reader} needs data.path: {layout}")
    found = expanded(path, "data.path")
    if not found.exists():
        try:
            beside = [one.name for one in found.parent.iterdir()]
        except OSError:
            beside = []
        hint = by_name.near(found.name, beside)
        raise InputError(f"data.path={path!r} is not there; {reader} reads {layout}{hint}")
    return found


def split(n: int, test: Any, seed: Any, where: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the examples for training and for test, drawn with a seed; each part in order.

    Args:
      test: the share for test.

    Raises:
      InputError: a share or seed that is none, or fewer than two examples.
    """
    share, seed = options.share("test", test), options.whole("seed", seed, 0, options.SEEDS - 1)
    if n < 2:
        raise InputError(f"{where} holds {n} examples; at least one for training and one for test")
    order = np.random.default_rng(seed).permutation(n)
    held = min(max(1, round(share * n)), n - 1)
    return np.sort(order[held:]), np.sort(order[:held])


def labels(train: np.ndarray, test: np.ndarray, where: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels as a data set has them, and how many classes there are.

    Integers are classes as they stand (the largest of both parts is the last). Texts are classes in
    their sorted order, as numbers if all are whole numbers. Floating-point numbers are targets, of
    which there are 0 classes.

    Raises:
      InputError: labels of another kind, or of a single class.
    """
    kinds = {train.dtype.kind, test.dtype.kind}
    if kinds <= set("US"):
        names, numbers = np.unique(np.concatenate([train, test]), return_inverse=True)
        classes = len(names)
        places = _in_order(names)[numbers.reshape(-1)]
        train, test = places[: len(train)], places[len(train) :]
    elif kinds <= set("iub"):
        train, test = (y[:, 0] if y.shape[1:] == (1,) else y for y in (train, test))
        ends = [(int(y.min()), int(y.max())) for y in (train, test) if y.size]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if high >= MOST_CLASSES or low < -MOST_CLASSES:
            wrong = high if high >= MOST_CLASSES else low
            raise InputError(f"{where}: {wrong} is no label; number the classes from 0")
        classes = high + 1
    elif kinds <= set("f"):
        with np.errstate(over="ignore", invalid="ignore"):
            return train.astype(np.float32), test.astype(np.float32), 0
    else:
        raise InputError(
            f"{where}: labels must be integers, texts, or floating-point numbers (targets); found "
            f"{train.dtype} and {test.dtype}"
        )
    if len(np.unique(train)) < 2 and len(np.unique(test)) < 2 and classes < 2:
        raise InputError(f"{where}: all labels are of one class; there is nothing to tell apart")
    return train.astype(np.int32), test.astype(np.int32), classes


def _in_order(names: np.ndarray) -> np.ndarray:
    """The place of each of some sorted texts; among numbers, if all are whole numbers."""
    try:
        values = [int(name) for name in names]
    except ValueError:
        return np.arange(len(names))
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=values.__getitem__)] = np.arange(len(names))
    return places


def check_size(shape: Sequence[int], where: Any, how: str) -> None:
    """Complains about a float32 array that would take more than ``LARGEST`` bytes.

    Args:
      how: to make it smaller.
    """
    size = 4 * int(np.prod(shape, dtype=object))
    if size > LARGEST:
        raise InputError(
            f"{where}: {list(shape)} numbers take {size / 1e9:.1f} GB of memory, more than "
            f"{LARGEST / 1e9:.1f}. {how}"
        )
