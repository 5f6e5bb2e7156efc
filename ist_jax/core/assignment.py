"""Assignments: which neurons of each group each worker holds, and whether that can be.

``{"hidden0": int32[S, m], ...}`` has a row for each of S workers. Rows are sorted, so that one
worker that holds everything holds it in its natural order. An id equal to the group's width is an
*empty slot* and stands at the end. A group that is absent is not cut: every worker holds all of it.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ist_jax.core.errors import InputError

# {group: [S, m]}; S and m are checked where an assignment comes in, with messages that name the
# group.
Assignment = Mapping[str, Int[Array | np.ndarray, "..."]]


def check(assignment: Assignment, widths: Mapping[str, int]) -> None:
    """Complains about what is no assignment; under ``jit``, where ids are unknown, about shapes.

    Raises:
      InputError: a group that has no width, arrays that are not int[S, m], groups of different S,
        an id out of range, a neuron twice in one worker.
    """
    for group, ids in assignment.items():
        if group not in widths:
            raise InputError(
                f"the assignment cuts a group {group!r} that no parameter names; the groups are "
                f"{sorted(widths)}"
            )
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise InputError(
                f"the assignment of group {group!r} must be int32[S, m] (a row of neurons for each "
                f"worker); found {ids.dtype}{list(ids.shape)}"
            )
        if not isinstance(ids, jax.core.Tracer):
            _check_ids(group, np.asarray(ids), widths[group])
    sizes = {group: len(ids) for group, ids in assignment.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"the groups are dealt out to different numbers of workers: {sizes}")


def check_draw(
    first: Assignment, widths: Mapping[str, int], workers: int, disjoint: bool, method: str
) -> None:
    """Complains about a draw that gives no assignment of these neurons to so many workers.

    Args:
      first: what it gives in round 0.
      disjoint: whether the method says that no neuron has two holders.

    Raises:
      InputError: as ``check``; another number of workers, or a neuron with two holders.
    """
    check(first, widths)
    for group, ids in first.items():
        if len(ids) != workers:
            raise InputError(
                f"{method}: the draw of group {group!r} has {len(ids)} rows, and there are "
                f"{workers} workers: one row is needed for each"
            )
    if disjoint and not is_disjoint(first, widths):
        raise InputError(
            f"{method}: the draw gives a neuron to two workers, and the method says that it never "
            "does. Say disjoint=False, and their values are averaged"
        )


def is_disjoint(assignment: Assignment, widths: Mapping[str, int]) -> bool:
    """Whether no neuron is known to have two holders; false for an assignment under ``jit``."""

    def alone(ids, width):
        return np.bincount(ids.ravel(), minlength=width)[:width].max(initial=0) <= 1

    known = not any(isinstance(ids, jax.core.Tracer) for ids in assignment.values())
    return known and all(alone(np.asarray(ids), widths[group]) for group, ids in assignment.items())


def _check_ids(group: str, ids: np.ndarray, width: int) -> None:
    wrong = ids[(ids < 0) | (ids > width)]
    if wrong.size:
        raise InputError(
            f"the assignment of group {group!r} holds neuron {wrong[0]}, but ids run from 0 to "
            f"{width - 1} ({width} marks an empty slot)"
        )
    rows = np.sort(ids, axis=1)
    worker, at = np.nonzero((rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] < width))
    if worker.size:
        raise InputError(
            f"the assignment of group {group!r} gives worker {worker[0]} neuron "
            f"{rows[worker[0], at[0]]} twice"
        )
