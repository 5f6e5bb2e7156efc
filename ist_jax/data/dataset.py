"""A labelled data set in memory."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError

AT_ONCE = 2**24  # numbers


def check_labels(x: Any, y: Any, classes: int | None = None) -> None:
    """Complains about labels that are not one integer for each example, from 0 to classes - 1.

    Args:
      classes: how many there are; without it, only labels below 0 can be told from right ones.
    """
    y = np.asarray(y)
    if y.ndim != 1 or len(x) != len(y) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"labels must be int[{len(x)}], one for each example; found {y.dtype}{list(y.shape)}"
        )
    wrong = np.flatnonzero((y < 0) | (y >= (np.inf if classes is None else classes)))
    if wrong.size:
        most = "classes - 1" if classes is None else classes - 1
        raise InputError(
            f"example {wrong[0]} has label {y[wrong[0]]}, expected 0 to {most} (one of "
            f"{wrong.size} such examples). Leave examples without a label out."
        )


class Dataset(NamedTuple):
    """Inputs ``x`` float32 [n, ...] and labels ``y`` int32 [n] below ``classes``.

    Attributes:
      name: what tables call it.
      train_x, test_x: arrays, in memory or in a file; or what can be indexed like one (``Images``).
      train_y, test_y: labels.
      classes: how many labels there are.
      origin: ``"real"``, ``"synthetic"``, or ``"stand-in"`` for real data in place of the paper's.
      skipped: bad examples that were left out, since that was asked for.
      sha256: of all examples and labels; empty where a source of one's own does not say it.
      validation_x, validation_y: of the training part, held out (``held_out``); None if none is.
    """

    name: str
    train_x: Any
    train_y: np.ndarray
    test_x: Any
    test_y: np.ndarray
    classes: int
    origin: str = "real"
    skipped: int = 0
    sha256: str = ""
    validation_x: Any = None
    validation_y: np.ndarray | None = None

    @property
    def examples(self) -> int:
        """For training."""
        return len(self.train_x)

    def checked(self) -> "Dataset":
        """Itself, if its parts agree, all numbers are finite and all labels below ``classes``.

        Raises:
          InputError: naming the part, the example and what was found.
        """
        one, other = self.train_x.shape[1:], self.test_x.shape[1:]
        if one != other or 0 in one:
            raise InputError(
                f"{self.name}: an example of the training part is {list(one)}, one of the test "
                f"part {list(other)}; they must be alike, and not empty"
            )
        for part, x, y in (
            ("training", self.train_x, self.train_y),
            ("test", self.test_x, self.test_y),
        ):
            where = f"{self.name}, {part} part"
            if len(x) != len(y) or not len(x):
                raise InputError(
                    f"{where}: {len(x)} examples but {len(y)} labels; need as many, >= 1"
                )
            try:
                check_labels(x, y, self.classes)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            finite = _finite(x) if isinstance(x, np.ndarray) else np.True_
            if not finite.all():
                first = int(np.argmin(finite))
                raise InputError(
                    f"{where}: example {first} holds a value that is not finite (one of "
                    f"{int((~finite).sum())} such examples). Mend or drop them before training."
                )
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        if self.sha256 or not all(isinstance(part, np.ndarray) for part in parts):
            return self
        return self._replace(sha256=_digest(parts))


def _digest(arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _finite(x: np.ndarray) -> np.ndarray:
    """Which examples are finite, ``bool[n]``; some at a time, since ``x`` may lie in a file."""
    flat = x.reshape(len(x), -1)
    some = max(1, AT_ONCE // max(1, flat.shape[1]))
    parts = [np.isfinite(flat[i : i + some]).all(axis=1) for i in range(0, len(flat), some)]
    return np.concatenate(parts)
