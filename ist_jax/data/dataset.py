"""A labelled data set in memory."""

from typing import NamedTuple

import numpy as np

from ist_jax.errors import InputError


def check_labels(x: np.ndarray, y: np.ndarray) -> None:
    """Complains about labels that are not one integer for each example."""
    if np.ndim(y) != 1 or len(x) != len(y) or not np.issubdtype(np.asarray(y).dtype, np.integer):
        raise InputError(
            f"labels must be int[{len(x)}], one for each example; found {np.asarray(y).dtype}"
            f"{list(np.shape(y))}"
        )


class Dataset(NamedTuple):
    """Images ``x`` float32 [n, H, W, C] and labels ``y`` int32 [n] below ``classes``."""

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int

    def checked(self) -> "Dataset":
        """Itself, if its parts agree and every number is finite.

        Raises:
          InputError: naming the part, the example and what was found.
        """
        for part, x, y in (
            ("training", self.train_x, self.train_y),
            ("test", self.test_x, self.test_y),
        ):
            where = f"{self.name}, {part} part"
            if len(x) != len(y) or not len(x):
                raise InputError(
                    f"{where}: {len(x)} examples but {len(y)} labels; need as many, >= 1"
                )
            finite = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
            if not finite.all():
                first = int(np.argmin(finite))
                raise InputError(
                    f"{where}: example {first} holds a value that is not finite (one of "
                    f"{int((~finite).sum())} such examples). Mend or drop them before training."
                )
            wrong = np.flatnonzero((y < 0) | (y >= self.classes))
            if wrong.size:
                raise InputError(
                    f"{where}: example {wrong[0]} has label {y[wrong[0]]}, expected 0 to "
                    f"{self.classes - 1}"
                )
        return self
