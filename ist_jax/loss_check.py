"""Says why a loss does not take a subnet, before anything is compiled.

Nothing here knows a framework. Where the loss cannot be traced with a subnet's shapes, it is traced
again with other ones: with axes cut that have no name but are as long as a group that is cut, and
with the whole net. What then works is to blame.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ist_jax import axes, local
from ist_jax.axes import Leaf, Net
from ist_jax.core.errors import InputError, first_line
from ist_jax.local import Loss

PyTree = Any
Axis = tuple[str, int, str]  # a leaf's path, one of its axes, the group that axis may belong to


def check(loss: Loss, net: Net, subnet: Net, example: PyTree, cut: Collection[str]) -> None:
    """Complains about a loss that does not give one number for a subnet and a batch.

    Args:
      loss: as for ``ist_jax.build``.
      net: all of it.
      subnet: what a worker trains.
      example: what the loss takes as a batch, ``[B, ...]``; shapes will do. Nothing is looked at
        if there is none.
      cut: groups of which a worker holds some neurons.

    Raises:
      InputError: it gives something else, or cannot be traced with a subnet's shapes and it is
        found why. What fails for another reason keeps its own error.
    """
    if example is None:
        return
    try:
        found = _trace(loss, subnet.shapes, example)
    except Exception as error:  # whatever a stranger's model raises
        if blamed := _blame(loss, net, subnet, example, cut):
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


def example_of(batches: PyTree, parts: int, common: PyTree, slots: Mapping[str, int]) -> PyTree:
    """What the loss takes in one local step, as shapes.

    Args:
      batches: of a round, ``[S, J, B, ...]``.
      parts: devices that share a worker and split its batch.
      common: as for ``Trainer.round``.
      slots: of a worker, in each group that is cut.
    """
    one = lambda leaf: jax.ShapeDtypeStruct(
        (leaf.shape[2] // parts, *leaf.shape[3:]) if leaf.ndim > 2 else (), leaf.dtype
    )
    return with_common(jax.tree.map(one, batches), common, slots)


def with_common(batch: PyTree, common: PyTree, slots: Mapping[str, int]) -> PyTree:
    """A batch of one local step, and what all workers see beside it if there is such, as shapes."""
    if common is None:
        return batch
    of = lambda kind: {group: jax.ShapeDtypeStruct((n,), kind) for group, n in slots.items()}
    common = jax.eval_shape(lambda leaves: leaves, common)
    return local.with_common(batch, common, of(jnp.int32), of(bool))


def _trace(loss: Loss, net: PyTree, example: PyTree) -> PyTree:
    return jax.eval_shape(loss, net, example, jax.random.key(0))


def _takes(loss: Loss, net: PyTree, example: PyTree) -> bool:
    try:
        _trace(loss, net, example)
    except Exception:
        return False
    return True


def _blame(loss: Loss, net: Net, subnet: Net, example: PyTree, cut: Collection[str]) -> str:
    """What is wrong with the names or the model; empty if that is not found."""
    whole = {group: n for group, n in net.widths.items() if group in cut}
    part = {group: subnet.widths[group] for group in whole}
    sizes = ", ".join(f"{group} {whole[group]} -> {part[group]}" for group in whole)
    suspects = [
        (leaf.path, axis, group)
        for leaf in net.leaves
        for axis, name in enumerate(leaf.names)
        for group in whole
        if name is None and leaf.shape[axis] == whole[group] != part[group]
    ]
    for some in (*([suspect] for suspect in suspects), suspects):
        if some and _takes(loss, _cut_too(subnet, some, part).shapes, example):
            listed = "; ".join(
                f"axis {axis} of leaf {path} has {whole[group]} entries, as group {group!r}"
                for path, axis, group in some
            )
            return (
                f"the loss does not take a subnet ({sizes}): {listed}, but no name. Name it "
                f"{some[0][2]!r}, so that it is cut too"
            )
    if whole != part and _takes(loss, net.shapes, example):
        number = next(n for n, leaf in enumerate(net.leaves) if leaf.cut_axes(whole))
        all_of_it, part_of_it = net.leaves[number], subnet.leaves[number]
        return (
            f"the loss takes the whole net but no subnet ({sizes}): a worker's leaf "
            f"{part_of_it.path} has shape {part_of_it.shape}, and the model expects "
            f"{all_of_it.shape}. Give the loss a model as wide as a subnet: "
            "model.clone(widths=partition.sub_widths(...)), or normalise.subnet"
        )
    return ""


def _cut_too(subnet: Net, suspects: list[Axis], part: dict[str, int]) -> Net:
    """A subnet with these axes cut as well."""
    sizes = {(path, axis): part[group] for path, axis, group in suspects}

    def cut(leaf: Leaf) -> Leaf:
        shape = (sizes.get((leaf.path, axis), n) for axis, n in enumerate(leaf.shape))
        return leaf._replace(shape=tuple(shape))

    return subnet._replace(leaves=tuple(map(cut, subnet.leaves)))
