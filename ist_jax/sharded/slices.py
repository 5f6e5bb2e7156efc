"""Leaves in slices: every device has its part of every neuron, along an axis that nothing cuts.

To the holders and back it is the gather and the scatter of one device, done on slices: a device
gathers its slice of all subnets and sends each device those of its workers; what comes back, it
scatters. So bits are those of one device, and messages are as large between all pairs.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ist_jax import axes, decompose
from ist_jax.partition import Assignment
from ist_jax.sharded.chunks import over_slow_links
from ist_jax.sharded.layout import Layout, Swap
from ist_jax.sharded.leaf_layout import FROM_HOME, TO_HOME, WORKER, LeafLayout

Chunks = dict[str, Int[Array, ""]]


def gather(
    layout: Layout, homes: Mapping[int, Array], assignment: Assignment
) -> tuple[dict[int, Array], Chunks]:
    """The subnets of this device's workers, ``[S / D, ...]`` of each leaf that is kept in slices.

    Args:
      homes: all leaves as they are kept, by their numbers.
    """
    nets: dict[int, Array] = {}
    swaps = layout.swaps(FROM_HOME)
    for swap in swaps:
        names, held = _cut(layout, swap, assignment)
        mine = {n: homes[n] for n in swap.leaves}
        going = decompose.gather(mine, names, held, layout.workers)
        each = [_by_device(layout, going[n]) for n in swap.leaves]
        came = _exchanged(swap, each)
        for n, piece in zip(swap.leaves, came, strict=True):
            nets[n] = _joined(layout.leaves[n], piece)
    return nets, _counts(swaps)


def scatter(
    layout: Layout,
    homes: Mapping[int, Array],
    nets: Mapping[int, Array],
    assignment: Assignment,
    took_part: Bool[Array, " S"] | None,
) -> tuple[dict[int, Array], Chunks]:
    """The leaves that are kept in slices with these subnets ``[S / D, ...]`` put back."""
    new: dict[int, Array] = {}
    swaps = layout.swaps(TO_HOME)
    for swap in swaps:
        names, held = _cut(layout, swap, assignment)
        mine = {n: homes[n] for n in swap.leaves}
        each = [_parted(layout, layout.leaves[n], nets[n]) for n in swap.leaves]
        came = _exchanged(swap, each)
        pieces = {
            n: piece.reshape(layout.workers, *piece.shape[2:])
            for n, piece in zip(swap.leaves, came, strict=True)
        }
        new |= decompose.scatter(mine, pieces, names, held, took_part, disjoint=layout.disjoint)
    return new, _counts(swaps)


def pad(layout: Layout, leaf: LeafLayout, value: Array, axis: int) -> Array:
    """With an axis as long as all parts together."""
    padding = [(0, 0)] * value.ndim
    padding[axis] = (0, layout.devices * layout.part(leaf) - value.shape[axis])
    return jnp.pad(value, padding)


def _cut(
    layout: Layout, swap: Swap, assignment: Assignment
) -> tuple[dict[int, axes.AxisNames], Assignment]:
    """The names of some leaves' axes, and the assignment of the groups that they name."""
    names = {n: layout.leaves[n].names for n in swap.leaves}
    groups = {name for of_leaf in names.values() for name in of_leaf if name}
    return names, {group: ids for group, ids in assignment.items() if group in groups}


def _by_device(layout: Layout, nets: Array) -> Array:
    """``[S, ...]`` as ``[D, S / D, ...]``."""
    return nets.reshape(layout.devices, layout.workers_each, *nets.shape[1:])


def _joined(leaf: LeafLayout, pieces: Array) -> Array:
    """Slices from all devices, ``[D, S / D, ...]``, as whole subnets ``[S / D, ...]``."""
    assert leaf.sliced is not None
    axis = leaf.sliced + 1
    whole = jnp.moveaxis(pieces, 0, axis)
    shape = whole.shape
    whole = whole.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return lax.slice_in_dim(whole, 0, leaf.shape[leaf.sliced], axis=axis)


def _parted(layout: Layout, leaf: LeafLayout, nets: Array) -> Array:
    """The inverse of ``_joined``."""
    assert leaf.sliced is not None
    axis = leaf.sliced + 1
    padded = pad(layout, leaf, nets, axis)
    shape = padded.shape
    apart = padded.reshape(*shape[:axis], layout.devices, -1, *shape[axis + 1 :])
    return jnp.moveaxis(apart, axis, 0)


def _exchanged(swap: Swap, pieces: list[Array]) -> list[Array]:
    """``[D, ...]``, a part for each device, for ``[D, ...]``, a part from each.

    In messages of one size, since both directions of a link are used when there are several.
    """
    flat = jnp.concatenate([piece.reshape(len(piece), -1) for piece in pieces], axis=1)
    total = flat.shape[1]
    flat = jnp.pad(flat, ((0, 0), (0, swap.times * swap.size - total)))
    move = lambda part: lax.all_to_all(part, WORKER, 0, 0, tiled=True)

    def one(number, came):
        begin = number * swap.size
        part = lax.dynamic_slice_in_dim(flat, begin, swap.size, axis=1)
        return lax.dynamic_update_slice_in_dim(came, over_slow_links(move, part), begin, axis=1)

    with jax.named_scope(swap.name):
        if swap.times == 1:
            came = over_slow_links(move, flat)
        else:
            came = lax.fori_loop(0, swap.times, one, jnp.zeros_like(flat))
    found, start = [], 0
    for piece in pieces:
        size = piece[0].size
        found.append(came[:, start : start + size].reshape(piece.shape))
        start += size
    return found


def _counts(swaps: list[Swap]) -> Any:
    return {swap.name: jnp.int32(swap.times) for swap in swaps}
