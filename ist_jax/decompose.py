"""Subnets out of the net, and back.

``gather`` reads, for each worker, the slots its assignment names, along every named axis of every
leaf. ``scatter`` reads the same relation the other way: for each entry of the net, which worker
holds it and in which slot. Both are therefore gathers, for any number of cut axes in a leaf, in the
leaf's natural layout. Scattering what was gathered gives back the net: bit for bit what one worker
held, to rounding what several did.

An entry is held by a worker that holds its neuron on *every* cut axis of the leaf. One holder: its
value is taken as it is. Several: their mean, added up in the order of the workers. None: the entry
stays as it was. A leaf that no group cuts is held by all, and merged by the mean in the same way.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ist_jax import axes
from ist_jax.axes import Leaf, Net
from ist_jax.core import assignment as assignments
from ist_jax.core import mean
from ist_jax.core.assignment import Assignment
from ist_jax.core.errors import InputError
from ist_jax.core.indexing import lay, nth, read, slot_table, take

PyTree = Any


def gather(
    params: PyTree, names: PyTree, assignment: Assignment, workers: int | None = None
) -> PyTree:
    """The S subnets of an assignment; every leaf gains a leading worker axis.

    Args:
      params: the net, any pytree of arrays.
      names: the names of its axes (``axes.of``).
      assignment: neurons of each worker, ``{group: int32[S, m]}``; empty slots become zeros.
      workers: S; needed only where ``assignment`` is empty and so does not tell.

    Returns:
      A tree like ``params`` with leaves ``[S, ...]``, named axes cut from N to m.

    Raises:
      InputError: names that do not fit, an unknown group, ids out of range or twice in one worker.

    Example:
      >>> params, names = {"w": jnp.arange(6.0).reshape(2, 3)}, {"w": (None, "h")}
      >>> gather(params, names, {"h": jnp.array([[0, 2], [1, 3]])})["w"][1]
      Array([[1., 0.],
             [4., 0.]], dtype=float32)
    """
    net = _checked(params, names, assignment)
    rows = {len(ids) for ids in assignment.values()}
    if not rows and workers is None:
        raise InputError("nothing is cut, so the number of workers must be given: workers=S")
    if rows and workers is not None and rows != {workers}:
        raise InputError(f"the assignment is for {rows.pop()} workers, found workers={workers}")
    return _take(net, params, assignment, workers if workers is not None else rows.pop())


def gather_one(
    params: PyTree, names: PyTree, assignment: Assignment, worker: int | Int[Array | np.ndarray, ""]
) -> PyTree:
    """One worker's subnet: ``gather`` without the worker axis."""
    net = _checked(params, names, assignment)
    for ids in assignment.values():
        if not isinstance(worker, jax.core.Tracer) and not 0 <= worker < len(ids):
            raise InputError(f"worker must be 0 to {len(ids) - 1}, found {worker}")
    mine = {group: jnp.asarray(ids)[worker][None, :] for group, ids in assignment.items()}
    return jax.tree.map(lambda leaf: leaf[0], _take(net, params, mine, workers=1))


def scatter(
    params: PyTree,
    nets: PyTree,
    names: PyTree,
    assignment: Assignment,
    took_part: Bool[Array | np.ndarray, " S"] | None = None,
    *,
    disjoint: bool | None = None,
) -> PyTree:
    """Puts the S subnets back: the inverse of ``gather``.

    Args:
      params: the net as it was; entries that nobody holds keep its values, bit for bit.
      nets: the subnets, leaves ``[S, ...]``.
      names: the names of the axes of ``params``.
      assignment: the assignment the subnets were gathered with.
      took_part: workers whose subnets count; the others are as if they held nothing.
      disjoint: no neuron has two holders, which saves a sum over workers. Absent, it is read off
        ``assignment`` where that is known, and taken for false under ``jit``.

    Returns:
      A tree like ``params``. Leaves that are not floating point take the value of one holder.

    Raises:
      InputError: as ``gather``, and where ``nets`` does not fit ``params`` and ``assignment``.
    """
    net = _checked(params, names, assignment)
    if disjoint is None:
        disjoint = assignments.is_disjoint(assignment, net.widths)
    pieces = _pieces(params, nets)
    workers = pieces[0].shape[0] if pieces else 0
    took_part = jnp.ones(workers, bool) if took_part is None else jnp.asarray(took_part)
    if took_part.shape != (workers,):
        raise InputError(f"took_part must be bool[{workers}], found {list(took_part.shape)}")
    tables = {
        g: slot_table(jnp.asarray(ids), net.widths[g], took_part) for g, ids in assignment.items()
    }
    out = []
    for leaf, value, piece in zip(net.leaves, jax.tree.leaves(params), pieces, strict=True):
        _check_piece(leaf, piece, assignment, workers)
        value, cut = jnp.asarray(value), _on_cut_axes(leaf, tables)
        if not cut:
            out.append(_mean_over_workers(value, piece, took_part))
        elif disjoint:
            out.append(_put_back(value, piece, cut))
        else:
            out.append(_average(value, piece, cut))
    return net.tree.unflatten(out)


def _take(net: Net, params: PyTree, assignment: Assignment, workers: int) -> PyTree:
    """Leaves ``[S, ...]``: the worker axis, then the leaf's own axes in their order."""
    both = zip(net.leaves, jax.tree.leaves(params), strict=True)
    return net.tree.unflatten(
        [
            _take_leaf(jnp.asarray(value), _on_cut_axes(leaf, assignment), workers)
            for leaf, value in both
        ]
    )


def _take_leaf(leaf: Array, ids: dict[int, Any], workers: int) -> Array:
    """``[S, ...]`` of one leaf; ``ids``: the neurons of each worker, for each cut axis."""
    cut = {axis: jnp.asarray(of_axis) for axis, of_axis in ids.items()}
    if not cut:
        return jnp.broadcast_to(leaf, (workers, *leaf.shape))
    ndim = max(cut) + 2
    where = [
        lay(cut[axis], (0, axis + 1), ndim)
        if axis in cut
        else lay(jnp.arange(leaf.shape[axis]), (axis + 1,), ndim)
        for axis in range(ndim - 1)
    ]
    value, held = read(leaf, where)
    return jnp.where(held, value, jnp.zeros((), leaf.dtype))


def _on_cut_axes(leaf: Leaf, of_group: Mapping[str, Any]) -> dict[int, Any]:
    """What belongs to the groups of a leaf's cut axes, by axis."""
    return {axis: of_group[leaf.names[axis] or ""] for axis in leaf.cut_axes(of_group)}


def _put_back(leaf: Array, piece: Array, slots: dict[int, Int[Array, "S _"]]) -> Array:
    """One leaf whose entries have at most one holder each; ``slots``: a table for each cut axis."""
    first, ndim = min(slots), max(slots) + 1
    owner = jnp.argmax(slots[first] < piece.shape[first + 1], axis=0)  # of each neuron on that axis
    own = take(slots[first], owner, jnp.arange(len(owner)))
    where = [lay(jnp.arange(leaf.shape[axis]), (axis,), ndim) for axis in range(ndim)]
    for axis, table in slots.items():
        where[axis] = (
            lay(own, (axis,), ndim)
            if axis == first
            else lay(take(table, owner), (first, axis), ndim)
        )
    value, held = read(piece, where, (lay(owner, (first,), ndim),))
    return jnp.where(held, value, leaf)


def _average(leaf: Array, piece: Array, slots: dict[int, Int[Array, "S _"]]) -> Array:
    """One leaf whose entries may have many holders: their sum, in order, over their count."""
    ndim = max(slots) + 1

    def add(worker, so_far):
        where = [
            lay(nth(slots[a], worker) if a in slots else jnp.arange(leaf.shape[a]), (a,), ndim)
            for a in range(ndim)
        ]
        return mean.add(so_far, *read(piece, where, (worker,)))

    counts = [n if axis < ndim else 1 for axis, n in enumerate(leaf.shape)]
    return mean.over_workers(add, piece.shape[0], leaf, counts)


def _mean_over_workers(leaf: Array, piece: Array, took_part: Bool[Array, " S"]) -> Array:
    """A shared leaf: the mean over those who took part, added up in their order."""
    add = lambda worker, total: mean.add(total, nth(piece, worker), nth(took_part, worker))
    return mean.over_workers(add, piece.shape[0], leaf, ())


def _checked(params: PyTree, names: PyTree, assignment: Assignment) -> Net:
    net = axes.describe(params, names)
    assignments.check(assignment, net.widths)
    return net


def _pieces(params: PyTree, nets: PyTree) -> list[Array]:
    tree: Any = jax.tree.structure(params)
    if jax.tree.structure(nets) != tree:
        raise InputError(
            f"the subnets must be a tree like the net:\n  {tree}\nfound\n  "
            f"{jax.tree.structure(nets)}"
        )
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(nets)]


def _check_piece(leaf: Leaf, piece: Array, assignment: Assignment, workers: int) -> None:
    shape = list(leaf.shape)
    for axis, ids in _on_cut_axes(leaf, assignment).items():
        shape[axis] = ids.shape[1]
    expected = (workers, *shape)
    if piece.shape != expected:
        raise InputError(
            f"subnet leaf {leaf.path} must have shape {expected} (workers first, slots on its cut "
            f"axes); found {piece.shape}"
        )
