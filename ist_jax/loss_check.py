"""Says why a loss does not take a subnet, before anything is compiled.

Nothing here knows a framework. Where the loss cannot be traced with a subnet's shapes, it is traced
again with other ones: with axes cut that have no name but are as long as a group that is cut, and
with the whole net. What then works is to blame.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ist_jax import axes
from ist_jax.core.errors import InputError, first_line
from ist_jax.local import Loss, Seen

PyTree = Any
Axis = tuple[str, int, str]  # a leaf's path, one of its axes, the group that axis may belong to


def check(
    loss: Loss, params: PyTree, names: PyTree, subnet: PyTree, example: PyTree, cut: Collection[str]
) -> None:
    """Complains about a loss that does not give one number for a subnet and a batch.

    Args:
      loss: as for ``ist_jax.build``.
      params, names: the net; shapes will do, here and below.
      subnet: what a worker trains.
      example: what the loss takes as a batch, ``[B, ...]``.
      cut: groups of which a worker holds some neurons.

    Raises:
      InputError: it gives something else, or cannot be traced with a subnet's shapes and it is
        found why. What fails for another reason keeps its own error.
    """
    try:
        found = _trace(loss, subnet, example)
    except Exception as error:  # whatever a stranger's model raises
        if blamed := _blame(loss, params, names, subnet, example, cut):
            raise InputError(f"{blamed} ({type(error).__name__}: {first_line(error)})") from error
        raise
    leaves = jax.tree.leaves(found)
    if not axes.same_structure(found, 0) or leaves[0].shape != ():
        shapes = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", found)
        raise InputError(
            f"the loss must return one number, found {shapes}. Return the loss alone, without "
            "auxiliary values, and the mean over the batch."
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise InputError(f"the loss must be a floating-point number, found {leaves[0].dtype}")


def example_of(batches: PyTree, parts: int, common: PyTree, who: Mapping[str, Any]) -> PyTree:
    """What the loss takes in one local step, as shapes.

    Args:
      batches: of a round, ``[S, J, B, ...]``.
      parts: devices that share a worker and split its batch.
      common: as for ``Trainer.round``.
      who: an assignment; shapes will do.
    """
    one = lambda leaf: jax.ShapeDtypeStruct(
        (leaf.shape[2] // parts, *leaf.shape[3:]) if leaf.ndim > 2 else (), leaf.dtype
    )
    return seen(jax.tree.map(one, batches), common, who)


def seen(batch: PyTree, common: PyTree, who: Mapping[str, Any]) -> PyTree:
    """A batch of one local step, with what all workers see beside it, as shapes."""
    if common is None:
        return batch
    of = lambda kind: {
        group: jax.ShapeDtypeStruct(ids.shape[1:], kind) for group, ids in who.items()
    }
    common = jax.eval_shape(lambda leaves: leaves, common)
    return Seen(batch, common, of(jnp.int32), of(bool))


def _trace(loss: Loss, net: PyTree, example: PyTree) -> PyTree:
    return jax.eval_shape(loss, net, example, jax.random.key(0))


def _takes(loss: Loss, net: PyTree, example: PyTree) -> bool:
    try:
        _trace(loss, net, example)
    except Exception:
        return False
    return True


def _blame(
    loss: Loss, params: PyTree, names: PyTree, subnet: PyTree, example: PyTree, cut: Collection[str]
) -> str:
    """What is wrong with the names or the model; empty if that is not found."""
    whole, part = _widths(params, names, cut), _widths(subnet, names, cut)
    sizes = ", ".join(f"{group} {whole[group]} -> {part[group]}" for group in whole)
    suspects = [
        (path, axis, group)
        for path, leaf, groups in axes.walk(params, names)
        for axis, name in enumerate(groups)
        for group in whole
        if name is None and leaf.shape[axis] == whole[group] != part[group]
    ]
    for some in (*([suspect] for suspect in suspects), suspects):
        if some and _takes(loss, _cut_too(subnet, some, part), example):
            listed = "; ".join(
                f"axis {axis} of leaf {path} has {whole[group]} entries, as group {group!r}"
                for path, axis, group in some
            )
            return (
                f"the loss does not take a subnet ({sizes}): {listed}, but no name. Name it "
                f"{some[0][2]!r}, so that it is cut too"
            )
    named = [path for path, _, groups in axes.walk(params, names) if set(groups) & set(whole)]
    if whole != part and _takes(loss, params, example):
        return (
            f"the loss takes the whole net but no subnet ({sizes}): a worker's leaf {named[0]} has "
            f"shape {_shape_of(subnet, named[0])}, and the model expects "
            f"{_shape_of(params, named[0])}. Give the loss a model as wide as a subnet: "
            "model.clone(widths=partition.sub_widths(...)), or normalise.subnet"
        )
    return ""


def _widths(params: PyTree, names: PyTree, cut: Collection[str]) -> dict[str, int]:
    return {group: n for group, n in axes.widths(params, names).items() if group in cut}


def _cut_too(subnet: PyTree, suspects: list[Axis], part: dict[str, int]) -> PyTree:
    """A subnet's shapes with these axes cut as well."""
    sizes = {(path, axis): part[group] for path, axis, group in suspects}

    def one(key_path, leaf):
        path = jax.tree_util.keystr(key_path) or axes.ONLY_LEAF
        shape = [sizes.get((path, axis), n) for axis, n in enumerate(leaf.shape)]
        return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, subnet)


def _shape_of(params: PyTree, wanted: str) -> tuple[int, ...]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = {jax.tree_util.keystr(path) or axes.ONLY_LEAF: leaf.shape for path, leaf in leaves}
    return tuple(shapes[wanted])
