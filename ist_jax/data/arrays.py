"""Arrays, or a function, in place of a data set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import Dataset

Draw = Callable[[int, int], dict[str, Any]]
NARROWER = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}  # as JAX has them


def dataset(train: Any, test: Any = None) -> Dataset:
    """A data set of arrays.

    Args:
      train, test: ``(x [n, ...], y [n, ...])``. Without ``test`` there are no test examples.

    Raises:
      InputError: no such pair; or as ``Dataset.checked``.
    """
    x, y = _pair("train", train)
    test_x, test_y = (x[:1], y[:1]) if test is None else _pair("test", test)
    whole = np.issubdtype(y.dtype, np.integer)
    classes = int(max(part.max(initial=0) for part in (y, test_y))) + 1 if whole else 0
    found = Dataset("arrays", x, y, test_x, test_y, classes, origin="arrays").checked()
    return found if test is not None else found._replace(test_x=x[:0], test_y=y[:0])


def _pair(name: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"{name} must be arrays (x, y), a data set of ist_jax.data"
            + (", or a function of (worker, step)" if name == "train" else "")
            + f"; found {type(given).__name__}"
        )
    x, y = (np.asarray(part) for part in given)
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub" or not x.ndim or not y.ndim:
        raise InputError(
            f"{name}: x and y must be arrays of numbers, one row for each example; found "
            f"{x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}"
        )
    return _narrow(x), _narrow(y)


class FromFunction:
    """The batches of a function of (worker, step), as ``Batches`` gives those of a data set.

    Args:
      draw: ``(worker, step) -> {"x": [B, ...], "y": [B, ...]}``, the same each time it is asked.
      local_steps: J.
      of: the workers whose batches are wanted.
    """

    def __init__(self, draw: Draw, local_steps: int, of: Sequence[int]):
        self._draw, self.local_steps, self.of = draw, local_steps, tuple(of)

    def __call__(self, number: int, lost: Any = None) -> dict[str, Any]:
        """All batches of a round, ``{"x": [S, J, B, ...], "y": [S, J, B, ...]}``."""
        steps = range(number * self.local_steps, (number + 1) * self.local_steps)
        found = [[drawn(self._draw, worker, step) for step in steps] for worker in self.of]
        return {
            name: np.stack([np.stack([batch[name] for batch in own]) for own in found])
            for name in ("x", "y")
        }


def drawn(draw: Draw, worker: int, step: int) -> dict[str, np.ndarray]:
    """A batch of a function of (worker, step).

    Raises:
      InputError: it is no ``{"x": [B, ...], "y": [B, ...]}``.
    """
    batch = draw(worker, step)
    if not isinstance(batch, dict) or set(batch) != {"x", "y"}:
        found = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise InputError(
            f'train(worker, step) must return {{"x": [B, ...], "y": [B, ...]}}, found {found}'
        )
    x, y = (np.asarray(batch[name]) for name in ("x", "y"))
    x, y = _narrow(x), _narrow(y)
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise InputError(
            f"train({worker}, {step}): x is {list(x.shape)} and y {list(y.shape)}; they must have "
            "as many rows, one for each example"
        )
    return {"x": x, "y": y}


def _narrow(part: np.ndarray) -> np.ndarray:
    return part.astype(NARROWER.get(part.dtype, part.dtype), copy=False)
