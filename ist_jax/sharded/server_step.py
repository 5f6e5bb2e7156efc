"""The step of an outer optimizer, where merged values first exist beside the old ones.

For leaves that all workers share that is after the mean, on every device; for rows that travel it
is in their holder's slots, before they go on, and the optimizer's moments go on with them; for all
others it is at home. An entry that nobody trained in this round moves neither in value nor in a
moment; counts of steps do.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ist_jax.core.indexing import lay, nth, slot_table, take
from ist_jax.optimizer_state.server import Server
from ist_jax.partition import Assignment
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import WORKER, LeafLayout

PyTree = Any
Entries = Bool[Array, "..."] | None  # to broadcast with a leaf; all of them if None


def step(
    layout: Layout,
    server: Server,
    old: tuple[PyTree, PyTree, PyTree],
    merged: tuple[PyTree, PyTree, PyTree],
    assignment: Assignment,
    took_part: Bool[Array, " S"] | None,
) -> tuple[PyTree, PyTree, PyTree]:
    """``(params, opt_state, server)`` after the step.

    Args:
      old: as they were gathered; all of it as it lies on this device.
      merged: with the trained subnets put back.
    """
    # Barriers: the same numbers come out whatever stands around the step, on any number of devices.
    net, opt_state, state = merged
    before, net, state = lax.optimization_barrier((old[0], net, state))
    new, new_state = lax.optimization_barrier(server.step(before, net, state))
    trained = _trained(layout, len(jax.tree.leaves(net)), assignment, took_part)
    stepped = [
        _where(entries, *values)
        for entries, *values in zip(
            trained, jax.tree.leaves(new), jax.tree.leaves(net), strict=True
        )
    ]
    anyone = None if took_part is None else took_part.any()
    tree: Any
    states, tree = jax.tree.flatten(new_state)
    for n, (of, counts) in enumerate(zip(server.of, server.counts, strict=True)):
        entries = None if counts else anyone if of is None else trained[of]
        states[n] = _where(entries, states[n], jax.tree.leaves(state)[n])
    return jax.tree.unflatten(jax.tree.structure(net), stepped), opt_state, tree.unflatten(states)


def _where(entries: Entries, new: Array, old: Array) -> Array:
    return new if entries is None else jnp.where(entries, new, old)


def _trained(
    layout: Layout, count: int, assignment: Assignment, took_part: Bool[Array, " S"] | None
) -> Sequence[Entries]:
    """Which entries of each of the first leaves somebody trained who took part."""
    present = jnp.ones(layout.workers, bool) if took_part is None else took_part
    holds = {
        group: slot_table(ids, layout.widths[group], present) < ids.shape[1]
        for group, ids in assignment.items()
    }
    return [_of_leaf(layout, leaf, holds, took_part) for leaf in layout.leaves[:count]]


def _of_leaf(
    layout: Layout,
    leaf: LeafLayout,
    holds: Mapping[str, Bool[Array, "S N"]],
    took_part: Bool[Array, " S"] | None,
) -> Entries:
    if leaf.cut is None:
        return None if took_part is None else took_part.any()
    if leaf.travels:  # every row has a holder
        if took_part is None:
            return None
        here = take(took_part, layout.device_workers).repeat(layout.slots[leaf.group])
        return lay(here, (0,), len(leaf.shape))
    held = _held_by_anyone(leaf, holds, layout.workers)
    if leaf.axis is None:
        return held
    rows, at_home = jnp.moveaxis(held, leaf.axis, 0), layout.home(leaf.group)
    place = lax.axis_index(WORKER) * at_home + jnp.arange(at_home)
    return take(rows, jnp.minimum(place, len(rows) - 1))


def _held_by_anyone(
    leaf: LeafLayout, holds: Mapping[str, Bool[Array, "S N"]], workers: int
) -> Bool[Array, "..."]:
    """Entries of which some worker holds every cut axis; length 1 along the others."""
    cut = [axis for axis, group in enumerate(leaf.names) if group]
    ndim = len(leaf.shape)

    def add(worker: Any, so_far: Array) -> Array:
        each = [lay(nth(holds[leaf.names[axis] or ""], worker), (axis,), ndim) for axis in cut]
        return so_far | functools.reduce(jnp.logical_and, each)

    nobody = jnp.zeros([n if axis in cut else 1 for axis, n in enumerate(leaf.shape)], bool)
    return lax.fori_loop(0, workers, add, nobody)
