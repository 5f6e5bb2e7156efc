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

from ist_jax import axes, partition
from ist_jax.core import mean
from ist_jax.core.errors import InputError
from ist_jax.core.indexing import lay, read, slots
from ist_jax.partition import Assignment

PyTree = Any


def gather(params: PyTree, names: PyTree, who: Assignment, workers: int | None = None) -> PyTree:
    """The S subnets of an assignment; every leaf gains a leading worker axis.

    Args:
      params: the net, any pytree of arrays.
      names: the names of its axes (``axes.of``).
      who: neurons of each worker, ``{group: int32[S, m]}``; empty slots are gathered as zeros.
      workers: S; needed only where ``who`` is empty and so does not tell.

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
    _check(params, names, who)
    rows = {len(ids) for ids in who.values()}
    if not rows and workers is None:
        raise InputError("nothing is cut, so the number of workers must be given: workers=S")
    if rows and workers is not None and rows != {workers}:
        raise InputError(f"the assignment is for {rows.pop()} workers, found workers={workers}")
    return _take(params, names, who, workers if workers is not None else rows.pop())


def gather_one(
    params: PyTree, names: PyTree, who: Assignment, worker: int | Int[Array | np.ndarray, ""]
) -> PyTree:
    """One worker's subnet: ``gather`` without the worker axis."""
    _check(params, names, who)
    for ids in who.values():
        if not isinstance(worker, jax.core.Tracer) and not 0 <= worker < len(ids):
            raise InputError(f"worker must be 0 to {len(ids) - 1}, found {worker}")
    mine = {group: jnp.asarray(ids)[worker][None, :] for group, ids in who.items()}
    return jax.tree.map(lambda leaf: leaf[0], _take(params, names, mine, workers=1))


def scatter(
    params: PyTree,
    nets: PyTree,
    names: PyTree,
    who: Assignment,
    took_part: Bool[Array | np.ndarray, " S"] | None = None,
    *,
    disjoint: bool | None = None,
) -> PyTree:
    """Puts the S subnets back: the inverse of ``gather``.

    Args:
      params: the net as it was; entries that nobody holds keep its values, bit for bit.
      nets: the subnets, leaves ``[S, ...]``.
      names: the names of the axes of ``params``.
      who: the assignment the subnets were gathered with.
      took_part: workers whose subnets count; the others are as if they held nothing.
      disjoint: no neuron has two holders, which saves a sum over workers. Absent, it is read off
        ``who`` where that is known, and taken for false under ``jit``.

    Returns:
      A tree like ``params``. Leaves that are not floating point take the value of one holder.

    Raises:
      InputError: as ``gather``, and where ``nets`` does not fit ``params`` and ``who``.
    """
    widths = _check(params, names, who)
    if disjoint is None:
        disjoint = partition.is_disjoint(who, widths)
    leaves = axes.walk(params, names)
    pieces = _pieces(params, nets)
    workers = pieces[0].shape[0] if pieces else 0
    took_part = jnp.ones(workers, bool) if took_part is None else jnp.asarray(took_part)
    if took_part.shape != (workers,):
        raise InputError(f"took_part must be bool[{workers}], found {list(took_part.shape)}")
    tables = {g: slots(jnp.asarray(ids), widths[g], took_part) for g, ids in who.items()}
    out = []
    for (path, leaf, leaf_names), piece in zip(leaves, pieces, strict=True):
        leaf = jnp.asarray(leaf)
        cut = _on_cut_axes(leaf_names, tables)
        m = {axis: ids.shape[1] for axis, ids in _on_cut_axes(leaf_names, who).items()}
        _check_piece(path, leaf, piece, m, workers)
        if not cut:
            out.append(_mean_over_workers(leaf, piece, took_part))
        elif disjoint:
            out.append(_put_back(leaf, piece, cut))
        else:
            out.append(_average(leaf, piece, cut))
    return jax.tree.unflatten(jax.tree.structure(params), out)


def _take(params: PyTree, names: PyTree, who: Assignment, workers: int) -> PyTree:
    """Leaves ``[S, ...]``: the worker axis, then the leaf's own axes in their order."""

    def one(leaf, leaf_names):
        cut = {axis: jnp.asarray(ids) for axis, ids in _on_cut_axes(leaf_names, who).items()}
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

    leaves = [
        one(jnp.asarray(leaf), leaf_names) for _, leaf, leaf_names in axes.walk(params, names)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _on_cut_axes(leaf_names: axes.AxisNames, of_group: Mapping[str, Any]) -> dict[int, Any]:
    """What belongs to the groups of a leaf's cut axes, by axis."""
    return {
        axis: of_group[g] for axis, g in enumerate(leaf_names) if g is not None and g in of_group
    }


def _put_back(leaf: Array, piece: Array, slots: dict[int, Int[Array, "S _"]]) -> Array:
    """One leaf whose entries have at most one holder each; ``slots``: a table for each cut axis."""
    first, ndim = min(slots), max(slots) + 1
    owner = jnp.argmax(slots[first] < piece.shape[first + 1], axis=0)  # of each neuron on that axis
    own = jnp.take_along_axis(slots[first], owner[None], axis=0)[0]
    where = [lay(jnp.arange(leaf.shape[axis]), (axis,), ndim) for axis in range(ndim)]
    for axis, table in slots.items():
        where[axis] = (
            lay(own, (axis,), ndim) if axis == first else lay(table[owner], (first, axis), ndim)
        )
    value, held = read(piece, where, (lay(owner, (first,), ndim),))
    return jnp.where(held, value, leaf)


def _average(leaf: Array, piece: Array, slots: dict[int, Int[Array, "S _"]]) -> Array:
    """One leaf whose entries may have many holders: their sum, in order, over their count."""
    ndim = max(slots) + 1

    def add(worker, so_far):
        where = [
            lay(slots[a][worker] if a in slots else jnp.arange(leaf.shape[a]), (a,), ndim)
            for a in range(ndim)
        ]
        return mean.add(so_far, *read(piece, where, (worker,)))

    counts = [n if axis < ndim else 1 for axis, n in enumerate(leaf.shape)]
    return mean.over_workers(add, piece.shape[0], leaf, counts)


def _mean_over_workers(leaf: Array, piece: Array, took_part: Bool[Array, " S"]) -> Array:
    """A shared leaf: the mean over those who took part, added up in their order."""
    add = lambda worker, total: mean.add(total, piece[worker], took_part[worker])
    return mean.over_workers(add, piece.shape[0], leaf, ())


def _check(params: PyTree, names: PyTree, who: Assignment) -> dict[str, int]:
    widths = axes.widths(params, names)
    partition.check(who, widths)
    return widths


def _pieces(params: PyTree, nets: PyTree) -> list[Array]:
    tree: Any = jax.tree.structure(params)
    if jax.tree.structure(nets) != tree:
        raise InputError(
            f"the subnets must be a tree like the net:\n  {tree}\nfound\n  "
            f"{jax.tree.structure(nets)}"
        )
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(nets)]


def _check_piece(path: str, leaf: Array, piece: Array, cut: dict[int, int], workers: int) -> None:
    expected = (workers, *(cut.get(axis, n) for axis, n in enumerate(leaf.shape)))
    if piece.shape != expected:
        raise InputError(
            f"subnet leaf {path} must have shape {expected} (workers first, slots on its cut "
            f"axes); found {piece.shape}"
        )
