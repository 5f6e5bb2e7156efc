"""A labelled data set in memory."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError

AT_ONCE = 2**24  # numbers


def check_labels(x: Any, y: Any, classes: int | None = None) -> None:
    """Complains about labels that are not one for each example, or integers that are no class.

    An example's label may have any shape: ``[n]``, or ``[n, T]`` for one at each of T places. What
    a task needs beyond that, it checks itself (``tasks.classification.check_one_each``).

    Args:
      y: ``[n, ...]``. Numbers that are not integers are targets, and not looked at.
      classes: how many there are; 0 where integers are targets too. Without it, only labels below 0
        can be told from right ones.

    Raises:
      InputError: naming the first example.
    """
    y = np.asarray(y)
    if y.ndim < 1 or len(x) != len(y):
        raise InputError(
            f"labels must be int[{len(x)}], one for each example; found {y.dtype}{list(y.shape)}"
        )
    if classes == 0 or not np.issubdtype(y.dtype, np.integer):
        return
    flat = y.reshape(len(y), -1)
    bad = (flat < 0) | (flat >= (np.inf if classes is None else classes))
    wrong = np.flatnonzero(bad.any(axis=1))
    if wrong.size:
        first = int(wrong[0])
        most = "classes - 1" if classes is None else classes - 1
        raise InputError(
            f"example {first} has label {flat[first][bad[first]][0]}, expected 0 to {most} (one of "
            f"{wrong.size} such examples). Leave examples without a label out."
        )


class Dataset(NamedTuple):
    """Inputs ``x`` float32 [n, ...] and labels ``y`` int32 [n] below ``classes``.

    Other kinds of tasks have other kinds: ``x`` may be int32 (tokens), ``y`` int32 [n, T] (a label
    at each of T places), or, with ``classes=0``, numbers [n, ...] to be met (targets).

    Attributes:
      name: what tables call it.
      train_x, test_x: arrays, in memory or in a file; or what can be indexed like one (``Images``).
      train_y, test_y: labels.
      classes: how many labels there are; 0 for targets.
      origin: ``"real"``, ``"synthetic"``, or ``"stand-in"`` for real data in place of the paper's.
      skipped: bad examples that were left out, since that was asked for.
      sha256: of all examples and labels; empty where a source of one's own does not say it.
      tokenizer: of texts, what the tokens stand for (``subwords``); empty where they are bytes,
        None where that is not known.
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
    tokenizer: str | None = None
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
            if self.classes and not np.issubdtype(y.dtype, np.integer):
                raise InputError(
                    f"{where}: labels must be int[{len(x)}], one for each example; found {y.dtype}"
                    f"{list(y.shape)}. Numbers to be met (targets) have classes=0"
                )
            try:
                check_labels(x, y, self.classes)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            _check_finite(x, where, "a value")
            _check_finite(y, where, "a target")
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        if self.sha256 or not all(isinstance(part, np.ndarray) for part in parts):
            return self
        return self._replace(sha256=_digest(parts))


def _check_finite(values: Any, where: str, what: str) -> None:
    """Of what is no array, nothing is known before it is read."""
    finite = _finite(values) if isinstance(values, np.ndarray) else np.True_
    if not finite.all():
        first = int(np.argmin(finite))
        raise InputError(
            f"{where}: example {first} holds {what} that is not finite (one of "
            f"{int((~finite).sum())} such examples). Mend or drop them before training."
        )


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
