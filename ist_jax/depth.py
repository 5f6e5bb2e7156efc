"""Blocks dealt out: a least number for everyone, and all stages as one list.

Ways to draw (``ist_jax.partition``) for groups that are the blocks of a net (ResIST: Dun et al.,
UAI 2022), though they deal out any neurons.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.partition import Assignment, Context, Draw, takes_parts


@takes_parts
def overlapping(key: Key[Array, ""], context: Context, *, least: int = 1) -> Assignment:
    """A permutation dealt out, of which everyone gets at least so many members of each group.

    Each is held by someone. A remainder goes to the first workers; a worker that would have fewer
    than ``least`` (ResIST: the minimum depth) also takes those that follow in the permutation,
    though others hold them too.

    Args:
      key, context: as of every draw (``ist_jax.partition``).
      least: members of each group that a worker holds, or more; 0 for no overlap.

    Raises:
      InputError: a group has fewer members, or without overlap fewer than there are workers.
    """
    workers, assignment = context.workers, {}
    for group, width in context.widths.items():
        if not 0 <= least <= width:
            raise InputError(
                f"every worker should hold {least} of {group!r}, which has {width} (min_depth)"
            )
        own = width // workers + (np.arange(workers) < width % workers)
        if not least and own.min() == 0:
            raise InputError(
                f"{workers} workers share the {width} of {group!r}, so that worker {own.argmin()} "
                "has none. Let every worker hold at least one (a minimum depth), or use fewer."
            )
        counts = np.maximum(own, least)
        starts = np.where(own, np.cumsum(own) - own, np.arange(workers))
        slot = np.arange(counts.max())
        mixed = jax.random.permutation(fold(key, context.number, group), width)
        rows = mixed[(starts[:, None] + slot) % width]
        assignment[group] = _sorted(jnp.where(slot < counts[:, None], rows, width))
    return assignment


@takes_parts
def joint(key: Key[Array, ""], context: Context) -> Assignment:
    """The members of all groups are one list that is dealt out, so that a worker may lack a group.

    Disjoint, and each is held by someone; a remainder goes to the first workers. ResIST's ablation
    calls it naive where it deals out every block of a net.
    """
    widths, workers = context.widths, context.workers
    total = sum(widths.values())
    if not 1 <= workers <= total:
        raise InputError(f"{workers} workers cannot share {total} members of {sorted(widths)}")
    place = jax.random.permutation(fold(key, context.number), total)
    holder = place % workers
    assignment: dict[str, Array] = {}
    begin = 0
    for group, width in widths.items():
        mine = holder[begin : begin + width] == jnp.arange(workers)[:, None]
        rows = _sorted(jnp.where(mine, jnp.arange(width), width))
        assignment[group] = rows[:, : min(width, -(-total // workers))]
        begin += width
    return assignment


def mean_shares(draw: Draw, widths: Mapping[str, int], workers: int) -> dict[str, float]:
    """How much of each group that is cut a worker holds, on average over the workers.

    Of ``overlapping`` it is max(1/S, least/N), the factor that ResIST's paper puts on the residual
    branches where all blocks run together.
    """
    assignment = draw(jax.random.key(0), Context(widths, workers))
    held = {g: int((np.asarray(ids) < widths[g]).sum()) for g, ids in assignment.items()}
    return {group: count / (workers * widths[group]) for group, count in held.items()}


def _sorted(rows: Array) -> Array:
    return jnp.sort(rows.astype(jnp.int32), axis=1)
