"""What a trainer is called with, checked before it is used: parameters, a state, batches."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ist_jax import axes
from ist_jax.core import assignment as assignments
from ist_jax.core.assignment import Assignment
from ist_jax.core.errors import InputError
from ist_jax.local import COMMON, HELD, NEURONS

PyTree = Any


def check_arguments(params: PyTree, workers: Any, on_nonfinite: str) -> None:
    """Complains about parameters, a number of workers or a policy that cannot be.

    Raises:
      InputError: as the three functions below.
    """
    check_parameters(params)
    check_workers(workers)
    check_nonfinite(on_nonfinite)


def check_workers(workers: Any) -> None:
    """Complains about a number of workers that is none.

    Raises:
      InputError: it is no integer, or less than 1.
    """
    if isinstance(workers, bool) or not isinstance(workers, int | np.integer) or workers < 1:
        raise InputError(f"workers must be an integer >= 1, found {workers!r}")


def check_nonfinite(policy: str) -> None:
    """Complains about an unknown policy for updates that are not finite.

    Raises:
      InputError: it is neither "raise" nor "drop".
    """
    if policy not in ("raise", "drop"):
        raise InputError(f"on_nonfinite must be 'raise' or 'drop', found {policy!r}")


def check_common(batches: PyTree, common: PyTree) -> None:
    """Complains about batches that cannot hold what is common beside their own.

    Raises:
      InputError: something is common, and the batches are no dict, or hold a key of that name.
    """
    if common is None:
        return
    if not isinstance(batches, Mapping) or {COMMON, NEURONS, HELD} & set(batches):
        raise InputError(
            f"where something is common to all workers, batches must be a dict without the keys "
            f"{COMMON!r}, {NEURONS!r} and {HELD!r}, which the loss finds there"
        )


def check_parameters(params: PyTree) -> None:
    """Complains about leaves that cannot be trained.

    Raises:
      InputError: a leaf that is no array, or not of floating point.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = axes.path_name(path)
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise InputError(
                f"leaf {name} of the parameters is no array: {leaf!r}. Pass the arrays alone (of "
                "an Equinox module: eqx.filter(net, eqx.is_inexact_array)) and put the rest back "
                "in the loss."
            )
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact):
            raise InputError(
                f"leaf {name} of the parameters is {leaf.dtype}, and only floating-point numbers "
                "have a gradient. Keep it out of the parameters: in the model, or in the loss."
            )


def check_usable(state: PyTree) -> None:
    """Complains about a state whose memory a round has taken over.

    Raises:
      InputError: it was given to ``Trainer.round`` before.
    """
    if any(isinstance(x, jax.Array) and x.is_deleted() for x in jax.tree.leaves(state)):
        raise InputError(
            "this state is used up: Trainer.round was called with it before, and takes over its "
            "memory. Go on with the state that call returned; to look back at one, keep "
            "trainer.unsharded(state) from before the call."
        )


def check_external(
    neurons: Assignment, slots: Mapping[str, int], widths: Mapping[str, int], workers: int
) -> dict[str, Any]:
    """The neurons of external groups, if those are the groups that were announced.

    Raises:
      InputError: other groups, or arrays of another shape; in arrays of NumPy, a neuron that there
        is not, or twice in one worker.
    """
    shapes = {group: np.shape(ids) for group, ids in neurons.items()}
    expected = {group: (workers, n) for group, n in slots.items()}
    if shapes != expected:
        raise InputError(
            f"the neurons of external groups must come as int32 arrays of shapes {expected}; "
            f"found {shapes}"
        )
    assignments.check({g: ids for g, ids in neurons.items() if isinstance(ids, np.ndarray)}, widths)
    return dict(neurons)


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
      InputError: it has another shape, or holds something else than truth values.
    """
    present = np.ones(workers, bool) if took_part is None else np.asarray(took_part)
    if present.shape != (workers,) or present.dtype != bool:
        raise InputError(
            f"took_part must be bool[{workers}], found {present.dtype}{list(present.shape)}"
        )
    return present
