"""The same gather and scatter when the net is spread over D devices, moving only what must move.

``gather`` and ``scatter`` give what those of ``decompose`` give, to the last bit: entries are
copied, and means added up in the order of the workers. The functions here run on each device of a
mesh (inside ``shard_map``), with its part of every array; ``layout`` says which that is. Besides
what they are asked for they give the chunks that each transfer took.

Four places merge: ``decompose.scatter`` on one device and on the slices of one, ``transfers`` at
home for other cut leaves, ``all_reduce`` for leaves that all workers share, and ``coded_mean`` for
those of them with a code.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key

from ist_jax import decompose
from ist_jax.partition import Assignment
from ist_jax.sharded import all_reduce, coded, coded_mean, slices, transfers, travel
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import FROM_HOME, TO_HOME, TO_NEXT, WORKER, LeafLayout

PyTree = Any
Chunks = dict[str, Int[Array, ""]]  # of each transfer, by its name
NO_CODES: coded.Parts = {}


def gather(layout: Layout, carried: PyTree, assignment: Assignment) -> tuple[PyTree, Chunks]:
    """The subnets of this device's workers, ``[S / D, ...]``, out of the net."""
    if layout.devices == 1:
        return decompose.gather(carried, layout.names, assignment, layout.workers), {}
    chunks: Chunks = {}
    rows = dict(enumerate(layout.tree.flatten_up_to(carried)))
    of_slices, counts = slices.gather(layout, rows, assignment)
    for transfer in layout.transfers(FROM_HOME):
        moved, chunks[transfer.name] = transfers.from_home(layout, transfer, rows, assignment)
        rows |= moved
    nets = {
        n: _net_of(layout, leaf, rows[n])
        for n, leaf in enumerate(layout.leaves)
        if leaf.sliced is None
    }
    nets |= of_slices
    return layout.tree.unflatten(nets[n] for n in range(len(nets))), chunks | counts


def scatter(
    layout: Layout,
    carried: PyTree,
    nets: PyTree,
    assignment: Assignment,
    next_assignment: Assignment,
    took_part: Bool[Array, " S"] | None = None,
    before: PyTree = None,
    codes: coded.Parts = NO_CODES,
    key: Key[Array, ""] | None = None,
) -> tuple[PyTree, Chunks]:
    """The net with these subnets put back, laid out for the next assignment.

    ``before``, the subnets as they were gathered, ``codes``, what ``coded.encode`` has made of
    their updates, and ``key`` are needed where leaves have codes.
    """
    old = dict(enumerate(layout.tree.flatten_up_to(carried)))
    means = coded_mean.shared_means(layout, old, codes, took_part, key)
    if layout.devices == 1:
        nets = coded.decode(layout, before, nets, codes)
        net = decompose.scatter(
            carried, nets, layout.names, assignment, took_part, disjoint=layout.disjoint
        )
        new = dict(enumerate(layout.tree.flatten_up_to(net))) | means
        return layout.tree.unflatten(new[n] for n in range(len(new))), {}
    chunks: Chunks = {}
    pieces = dict(enumerate(layout.tree.flatten_up_to(nets)))
    plain = [n for n in pieces if n not in codes]
    rows = {
        n: _rows_of(layout.leaves[n], pieces[n]) for n in plain if layout.leaves[n].axis is not None
    }
    going: dict[int, Any] = {  # home: an array of rows, or the arrays of their code
        n: [part.reshape(-1, part.shape[-1]) for part in parts]
        for n, parts in codes.items()
        if n not in means
    }
    new, counts = slices.scatter(layout, old, pieces, assignment, took_part)
    chunks |= counts
    for transfer in layout.transfers(TO_NEXT):
        moved, chunks[transfer.name] = travel.to_next(
            layout, transfer, rows, old, assignment, next_assignment, took_part
        )
        new |= moved
    for transfer in layout.transfers(TO_HOME):
        moved, chunks[transfer.name] = transfers.to_home(
            layout, transfer, going | rows, old, assignment, took_part
        )
        new |= moved
    shared = [n for n in plain if not layout.leaves[n].split]
    merged = mean(layout, [old[n] for n in shared], [pieces[n] for n in shared], took_part)
    new |= dict(zip(shared, merged, strict=True)) | means
    return layout.tree.unflatten(new[n] for n in range(len(new))), chunks


def mean(
    layout: Layout,
    otherwise: PyTree,
    trees: PyTree,
    took_part: Bool[Array, " S"] | None = None,
    key: Key[Array, ""] | None = None,
) -> PyTree:
    """The mean over all workers of trees ``[S / D, ...]``; ``otherwise`` where nobody took part.

    With a key, the trees are gradients of the net, whose leaves go in their codes.
    """
    if key is not None and (codes := coded.gradients(layout, trees, key)):
        old = dict(enumerate(jax.tree.leaves(otherwise)))
        new = coded_mean.shared_means(layout, old, codes, took_part, key)
        plain = [n for n in old if n not in codes]
        flat = jax.tree.leaves(trees)
        means = mean(layout, [old[n] for n in plain], [flat[n] for n in plain], took_part)
        new |= dict(zip(plain, means, strict=True))
        return jax.tree.unflatten(jax.tree.structure(otherwise), [new[n] for n in sorted(new)])
    if layout.devices == 1:
        names = jax.tree.map(lambda leaf: (None,) * leaf.ndim, otherwise)
        return decompose.scatter(otherwise, trees, names, {}, took_part)
    took_part = jnp.ones(layout.workers, bool) if took_part is None else took_part
    tree: Any
    leaves, tree = jax.tree.flatten(otherwise)
    pieces = tree.flatten_up_to(trees)
    if not layout.exact:
        return tree.unflatten(all_reduce.summed(leaves, pieces, took_part))
    return tree.unflatten(all_reduce.in_order(leaves, pieces, took_part, layout.longest))


def of_all_workers(layout: Layout, values: Array) -> Array:
    """``[S / D, ...]`` of every device as ``[S, ...]`` on all."""
    return values if layout.devices == 1 else lax.all_gather(values, WORKER, tiled=True)


def leave_home(layout: Layout, home: PyTree, assignment: Assignment) -> PyTree:
    """From a net that is all at home: rows that stay with their holders go there."""
    rows = dict(enumerate(layout.tree.flatten_up_to(home)))
    for transfer in layout.transfers(TO_NEXT):
        rows |= travel.leave_home(layout, transfer, rows, assignment)[0]
    return layout.tree.unflatten(rows[n] for n in range(len(rows)))


def come_home(layout: Layout, carried: PyTree, assignment: Assignment) -> PyTree:
    """The net all at home: the inverse of ``leave_home``."""
    rows = dict(enumerate(layout.tree.flatten_up_to(carried)))
    for transfer in layout.transfers(TO_NEXT):
        rows |= travel.come_home(layout, transfer, rows, assignment)[0]
    return layout.tree.unflatten(rows[n] for n in range(len(rows)))


def unfold(layout: Layout, carried: PyTree, assignment: Assignment, *, everywhere: bool) -> PyTree:
    """A copy in natural shapes: this device's part of each leaf that D divides, or all of it."""
    home = come_home(layout, carried, assignment) if layout.devices > 1 else carried

    def one(leaf: LeafLayout, home: Array) -> Array:
        if leaf.split_axis is None:
            return jnp.copy(home)
        axis = leaf.split_axis
        own = home if leaf.axis is None else jnp.moveaxis(home, 0, axis)
        if everywhere or not layout.even(leaf):
            own = lax.all_gather(own, WORKER, axis=axis, tiled=True)
            own = lax.slice_in_dim(own, 0, leaf.shape[axis], axis=axis)
        return own

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(home)))


def to_home_shape(layout: Layout, params: PyTree) -> PyTree:
    """A net in its natural shape as it is at home, padded, rows in front; on the whole mesh."""

    def one(leaf: LeafLayout, value: Array) -> Array:
        if leaf.split_axis is None:
            return value
        padded = slices.pad(layout, leaf, value, leaf.split_axis)
        return padded if leaf.axis is None else jnp.moveaxis(padded, leaf.axis, 0)

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(params)))


def from_home_shape(layout: Layout, home: PyTree) -> PyTree:
    """The inverse of ``to_home_shape``."""

    def one(leaf: LeafLayout, value: Array) -> Array:
        axis = leaf.split_axis
        if axis is None:
            return value
        value = value if leaf.axis is None else jnp.moveaxis(value, 0, axis)
        return lax.slice_in_dim(value, 0, leaf.shape[axis], axis=axis)

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(home)))


def _net_of(layout: Layout, leaf: LeafLayout, rows: Array) -> Array:
    """Rows in slots as a leaf of the subnets, ``[S / D, ...]``."""
    if leaf.axis is None:
        return jnp.broadcast_to(rows, (layout.workers_each, *rows.shape))
    return jnp.moveaxis(rows.reshape(layout.workers_each, -1, *rows.shape[1:]), 1, leaf.axis + 1)


def _rows_of(leaf: LeafLayout, net: Array) -> Array:
    """The inverse of ``_net_of`` for a cut leaf."""
    assert leaf.axis is not None
    rows = jnp.moveaxis(net, leaf.axis + 1, 1)
    return rows.reshape(-1, *rows.shape[2:])
