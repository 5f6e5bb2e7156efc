"""What the caller gives a round, checked at the door: batches, neurons, who takes part."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ist_jax import partition
from ist_jax.errors import InputError
from ist_jax.partition import Assignment

PyTree = Any


def check_given(
    given: Assignment, slots: Mapping[str, int], widths: Mapping[str, int], workers: int
) -> dict[str, Any]:
    """The given neurons, if they are those of the groups that were announced.

    Raises:
      InputError: other groups, or arrays of another shape; in arrays of NumPy, a neuron that there
        is not, or twice in one worker.
    """
    shapes = {group: np.shape(ids) for group, ids in given.items()}
    expected = {group: (workers, n) for group, n in slots.items()}
    if shapes != expected:
        raise InputError(
            f"the groups that are given must come as int32 arrays of shapes {expected}; found "
            f"{shapes}"
        )
    partition.check({g: ids for g, ids in given.items() if isinstance(ids, np.ndarray)}, widths)
    return dict(given)


def check_batches(batches: PyTree, workers: int, parts: int) -> int:
    """J, the local steps the batches are for.

    Raises:
      InputError: no batches, or of shapes that do not begin with workers and one number of steps.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batches)
    if not leaves:
        raise InputError("the batches are an empty tree; expected arrays [S, J, B, ...]")
    shapes = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
    steps = {shape[1:2] for shape in shapes.values()}
    if any(len(s) < 2 or s[0] != workers or s[1] < 1 for s in shapes.values()) or len(steps) > 1:
        raise InputError(
            f"every leaf of the batches must begin with [S={workers} workers, J local steps >= 1], "
            f"the same J in all; found {shapes}"
        )
    if parts > 1 and any(len(s) < 3 or s[2] % parts for s in shapes.values()):
        raise InputError(
            f"{parts} devices that share a worker cannot split its batch evenly; found {shapes}"
        )
    return next(iter(steps))[0]


def check_present(took_part: Any, workers: int) -> np.ndarray:
    """Who takes part, ``bool[S]``; all if None.

    Raises:
      InputError: it has another shape.
    """
    present = np.ones(workers, bool) if took_part is None else np.asarray(took_part, bool)
    if present.shape != (workers,):
        raise InputError(f"took_part must be bool[{workers}], found shape {present.shape}")
    return present
