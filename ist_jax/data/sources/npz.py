"""A file of NumPy: ``x`` and ``y``, or the same for training and for test.

The names may be those that others use: ``x_train``, ``train_images``, ``test_labels``, ``data`` and
``target``. Nothing is ever unpickled.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import options, own
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import archive

LAYOUT = "an .npz file with x and y, or train_x, train_y, test_x and test_y"
WORDS = {
    "x": ("x", "images", "inputs", "features", "data"),
    "y": ("y", "labels", "label", "targets", "target"),
}
PARTS = ("train", "test")
ROLES = ("train_x", "train_y", "test_x", "test_y")


def load(path: str = "", *, test: Any = 0.2, seed: Any = 0) -> Dataset:
    """The arrays of a file, ``x`` [n, ...] and ``y`` [n] or [n, T].

    Integers of 8 bits are pixels: they are divided by 255, and grey images [n, h, w] become
    [n, h, w, 1]. Other numbers become float32; integers with a label for each of them (``y`` has
    the shape of ``x``) are tokens and become int32. Labels: ``own.labels``.

    Args:
      path: the file.
      test: the share of ``x`` and ``y`` that is for test, where the file does not say.
      seed: of that draw.

    Raises:
      InputError: no such file, damaged, with objects in place of numbers; arrays that are missing,
        or of unequal length.
    """
    file = own.place(path, "npz", LAYOUT)
    if file.is_dir():
        raise InputError(f"{file} is a folder; npz reads {LAYOUT}")
    found = _arrays(file)
    for part in PARTS if "train_x" in found else ("",):
        x, y = (found[f"{part}_{what}".strip("_")] for what in "xy")
        if not x.ndim or not y.ndim or len(x) != len(y):
            raise InputError(
                f"{file}: {part or 'all'} x is {list(x.shape)} and y {list(y.shape)}; there must "
                "be a label for each example"
            )
    if "x" in found:
        x, y = found.pop("x"), found.pop("y")
        chosen = own.split(len(x), test, seed, file)
        for part, its in zip(PARTS, chosen, strict=True):
            found |= {f"{part}_x": x[its], f"{part}_y": y[its]}
    train_y, test_y, classes = own.labels(found["train_y"], found["test_y"], file)
    train_x, test_x = (_inputs(found[f"{part}_x"], found[f"{part}_y"], file) for part in PARTS)
    return Dataset(file.stem, train_x, train_y, test_x, test_y, classes)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """By role: ``x`` and ``y``, or all of ``ROLES``."""
    with archive.opened(file) as opened, np.load(opened, allow_pickle=False) as kept:
        roles: dict[str, str] = {}
        for name in kept.files:
            role = KNOWN.get(name.lower().replace("_", ""))
            if role in roles:
                raise ValueError(f"{roles[role]!r} and {name!r} are for the same; leave one out")
            if role:
                roles[role] = name
        for wanted in (ROLES, ("x", "y")):
            if not set(wanted) - set(roles):
                return {role: kept[roles[role]] for role in wanted}
        missing = [role for role in (ROLES if len(roles) > 1 else ("x", "y")) if role not in roles]
        raise ValueError(
            f"there is no {' and no '.join(missing)} in it, but {options.shown(kept.files)}; npz "
            f"reads {LAYOUT}"
        )


def _known() -> dict[str, str]:
    """The role of each usual name, in small letters and without ``_``."""
    found = {}
    for what, words in WORDS.items():
        for word in words:
            found[word] = what
            for part in PARTS:
                found |= {f"{part}{word}": f"{part}_{what}", f"{word}{part}": f"{part}_{what}"}
    return found


KNOWN = _known()


def _inputs(x: np.ndarray, y: np.ndarray, file: Path) -> np.ndarray:
    if x.dtype == np.uint8:
        own.check_size(x.shape, file, "Prepare a reader that maps its arrays from files")
        x = x[..., None] if x.ndim == 3 else x
        return np.divide(x, np.float32(255), dtype=np.float32)
    if x.dtype.kind not in "iufb":
        raise InputError(f"{file}: x must hold numbers, found {x.dtype}")
    if x.dtype.kind in "iu" and x.shape == y.shape and x.ndim > 1 and y.dtype.kind in "iu":
        if x.size and not -(2**31) <= int(x.min()) <= int(x.max()) < 2**31:
            raise InputError(f"{file}: a token of x does not fit int32")
        return x.astype(np.int32)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what becomes infinite is refused with its number
        return x.astype(np.float32)
