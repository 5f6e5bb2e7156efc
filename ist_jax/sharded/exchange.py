"""The same gather and scatter when the net is spread over D devices, moving only what must move.

``gather`` and ``scatter`` give what those of ``decompose`` give, to the last bit: entries are
copied, and means added up in the order of the workers. The functions here run on each device of a
mesh (inside ``shard_map``), with its part of every array; ``layout`` says which that is. Besides
what they are asked for they give the chunks that each transfer took.

Four places merge: ``decompose.scatter`` on one device and on the slices of one, ``transfers`` at
home for other cut leaves, ``all_reduce`` for leaves that all workers share, and ``coded_mean`` for
those of them with a code. Where all that is done, an outer optimizer steps (``server_step``).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key

from ist_jax import decompose
from ist_jax.core.indexing import lay, take
from ist_jax.optimizer_state.carried import OWN
from ist_jax.optimizer_state.server import Server
from ist_jax.partition import Assignment
from ist_jax.sharded import all_reduce, coded, coded_mean, server_step, slices, transfers, travel
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import FROM_HOME, TO_HOME, TO_NEXT, WORKER, LeafLayout

PyTree = Any
Chunks = dict[str, Int[Array, ""]]  # of each transfer, by its name
NO_CODES: coded.Parts = {}


def gather(layout: Layout, carried: PyTree, assignment: Assignment) -> tuple[PyTree, Chunks]:
    """The subnets of this device's workers, ``[S / D, ...]``, out of the net.

    None in place of leaves that are no part of a subnet.
    """
    rows = dict(enumerate(layout.tree.flatten_up_to(carried)))
    nets = {n: rows[n] for n, leaf in enumerate(layout.leaves) if leaf.role == OWN}
    if layout.devices == 1:
        some = {n: rows[n] for n, leaf in enumerate(layout.leaves) if leaf.trained}
        names = {n: layout.leaves[n].names for n in some}
        nets |= decompose.gather(some, names, assignment, layout.workers)
        return layout.tree.unflatten(map(nets.get, rows)), {}
    chunks: Chunks = {}
    of_slices, counts = slices.gather(layout, rows, assignment)
    for transfer in layout.transfers(FROM_HOME):
        moved, chunks[transfer.name] = transfers.from_home(layout, transfer, rows, assignment)
        rows |= moved
    nets |= of_slices | {
        n: _net_of(layout, leaf, rows[n])
        for n, leaf in enumerate(layout.leaves)
        if leaf.trained and leaf.sliced is None
    }
    return layout.tree.unflatten(map(nets.get, rows)), chunks | counts


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
    server: Server | None = None,
) -> tuple[PyTree, Chunks]:
    """The net with these subnets put back, laid out for the next assignment.

    ``before``, the subnets as they were gathered, ``codes``, what ``coded.encode`` has made of
    their updates, and ``key`` are needed where leaves have codes. Of leaves that are no part of a
    subnet, ``nets`` has None.
    """
    old = dict(enumerate(layout.tree.flatten_up_to(carried)))
    pieces = dict(enumerate(layout.tree.flatten_up_to(nets)))
    new, chunks = _merged(layout, old, pieces, assignment, took_part, before, codes, key)
    if server is not None:
        in_tree = layout.tree.unflatten(new[n] for n in range(len(new)))
        stepped = server_step.step(layout, server, carried, in_tree, assignment, took_part)
        new = dict(enumerate(layout.tree.flatten_up_to(stepped)))
    for transfer in layout.transfers(TO_NEXT):
        moved, chunks[transfer.name] = travel.to_next(
            layout, transfer, new, old, assignment, next_assignment
        )
        new |= moved
    return layout.tree.unflatten(new[n] for n in range(len(new))), chunks


def _merged(
    layout: Layout,
    old: Mapping[int, Array],
    pieces: Mapping[int, Any],
    assignment: Assignment,
    took_part: Bool[Array, " S"] | None,
    before: PyTree,
    codes: coded.Parts,
    key: Key[Array, ""] | None,
) -> tuple[dict[int, Array], Chunks]:
    """All leaves by their numbers, with the subnets put back; rows that travel where they were."""
    trained = [n for n, leaf in enumerate(layout.leaves) if leaf.trained]
    means = coded_mean.shared_means(layout, old, codes, took_part, key)
    new = dict(old) | {
        n: _of_present(layout, pieces[n], old[n], took_part)
        for n, leaf in enumerate(layout.leaves)
        if leaf.role == OWN
    }
    if layout.devices == 1:
        decoded = coded.decode(layout, before, pieces, codes)
        olds, nets = ({n: of[n] for n in trained} for of in (old, decoded))
        names = {n: layout.leaves[n].names for n in trained}
        new |= decompose.scatter(olds, nets, names, assignment, took_part, disjoint=layout.disjoint)
        return new | means, {}
    plain = [n for n in trained if n not in codes]
    rows = {
        n: _rows_of(layout.leaves[n], pieces[n]) for n in plain if layout.leaves[n].axis is not None
    }
    new |= {
        n: travel.of_present(layout, layout.leaves[n].group, rows[n], old[n], took_part)
        for n in rows
        if layout.leaves[n].travels
    }
    going: dict[int, Any] = {  # home: an array of rows, or the arrays of their code
        n: [part.reshape(-1, part.shape[-1]) for part in parts]
        for n, parts in codes.items()
        if n not in means
    }
    of_slices, chunks = slices.scatter(layout, old, pieces, assignment, took_part)
    new |= of_slices
    for transfer in layout.transfers(TO_HOME):
        moved, chunks[transfer.name] = transfers.to_home(
            layout, transfer, going | rows, old, assignment, took_part
        )
        new |= moved
    shared = [n for n in plain if not layout.leaves[n].split]
    merged = mean(layout, [old[n] for n in shared], [pieces[n] for n in shared], took_part)
    return new | dict(zip(shared, merged, strict=True)) | means, chunks


def _of_present(
    layout: Layout, new: Array, old: Array, took_part: Bool[Array, " S"] | None
) -> Array:
    """A state of each worker's own, ``[S / D, ...]``; as it was of those that did not take part."""
    if took_part is None:
        return new
    return jnp.where(lay(take(took_part, layout.device_workers), (0,), new.ndim), new, old)


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
