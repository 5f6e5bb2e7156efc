"""The step of an outer optimizer, where merged values first exist beside the old ones.

For leaves that all workers share that is after the mean, on every device; for rows that travel it
is in their holder's slots, before they go on, and the optimizer's moments go on with them; for all
others it is at home. An entry that nobody trained in this round moves neither in value nor in a
moment; counts of steps do.

An optimizer that works entry by entry is given the net in blocks, whose size does not depend on the
number of devices: ``a b + c d`` is rounded in one of two ways, as a compiler chooses for a loop.
Blocks are the same loop everywhere, and so the same bits.
"""

import functools
import math
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
BLOCKS = 64  # of a leaf of the net, on one device
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
    net, opt_state, state = lax.optimization_barrier(merged)
    new, new_state = lax.optimization_barrier(_stepped(layout, server, old[0], net, state))
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


def _stepped(
    layout: Layout, server: Server, old: PyTree, merged: PyTree, state: PyTree
) -> tuple[PyTree, PyTree]:
    """A net after its step, and the next state, of all entries."""
    if not server.entrywise:
        return server.step(old, merged, state)
    leaves = layout.leaves[: len(jax.tree.leaves(old))]
    cut = [leaf.cut is not None for leaf in leaves]
    sizes = [-(-math.prod(leaf.shape) // BLOCKS) for leaf in leaves]
    one = _in_blocks(server, cut, sizes, old, merged, state)
    if not any(cut):
        return _in_blocks(server, [True] * len(cut), sizes, old, merged, state)
    if all(cut):
        return one
    other = _in_blocks(server, [not here for here in cut], sizes, old, merged, state)
    of_state = [cut[of] if of is not None else False for of in server.of]
    return _chosen(cut, one[0], other[0]), _chosen(of_state, one[1], other[1])


def _chosen(which: Sequence[bool], one: PyTree, other: PyTree) -> PyTree:
    tree: Any
    leaves, tree = jax.tree.flatten(one)
    both = zip(which, leaves, jax.tree.leaves(other), strict=True)
    return tree.unflatten(a if first else b for first, a, b in both)


def _in_blocks(
    server: Server, which: Sequence[bool], sizes: Sequence[int], old: PyTree, *rest: PyTree
) -> tuple[PyTree, PyTree]:
    """The step on some of the leaves; what comes of the others is of no use.

    Args:
      which: of the parameters; the others have no entries here.
      sizes: entries of a block of each.
      rest: the merged net and the state.
    """
    params: Any
    leaves, params = jax.tree.flatten(old)
    chosen = [n for n, here in enumerate(which) if here]
    count = max(2, *(-(-leaves[n].size // max(sizes[n], 1)) for n in chosen), 2)  # one is no loop

    def blocks(leaf: Array, of: int) -> Array:
        size = sizes[of] if which[of] and leaf.ndim else 0
        if not leaf.ndim:
            return jnp.broadcast_to(leaf, count)
        flat = jnp.pad(leaf.ravel(), (0, max(0, count * size - leaf.size)))[: count * size]
        return flat.reshape(count, size, *(1,) * (leaf.ndim - 1))

    def whole(found: Array, of: int, like: Array) -> Array:
        if not like.ndim or not which[of]:
            return found[0] if not like.ndim else like
        return found.ravel()[: like.size].reshape(like.shape)

    merged, state = rest
    states: Any
    in_state, states = jax.tree.flatten(state)
    nets = [[blocks(leaf, n) for n, leaf in enumerate(jax.tree.leaves(t))] for t in (old, merged)]
    mapped = {n: blocks(in_state[n], of) for n, of in enumerate(server.of) if of is not None}

    def one(block: Any) -> Any:
        (before, after), moments = block
        mine = states.unflatten(moments.get(n, leaf) for n, leaf in enumerate(in_state))
        new, new_state = server.step(params.unflatten(before), params.unflatten(after), mine)
        return jax.tree.leaves(new), jax.tree.leaves(new_state)

    new, moved = lax.map(one, (nets, mapped))
    net = [whole(found, n, leaf) for n, (found, leaf) in enumerate(zip(new, leaves, strict=True))]
    both = enumerate(zip(server.of, moved, in_state, strict=True))
    after = [whole(a, of, b) if of is not None else a[0] for _, (of, a, b) in both]
    return params.unflatten(net), states.unflatten(after)


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
