"""Which axes of which parameters are neurons.

Every axis of a parameter may carry a name. A name is a *group*: the neurons of one hidden layer,
the filters of one convolution, the heads of one attention, the blocks of one stage. Two axes with
the same name list the same neurons in the same order, so cutting a group cuts every leaf that names
it, and neuron i stays neuron i in all of them. ``None`` marks an axis that is never cut.

Names are Flax's own (``nn.with_partitioning(init, ("hidden0", "hidden1"))``), but any pytree will
do: the names of a tree of parameters are a tree of the same shape with a tuple of names for each
leaf.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ist_jax.core.errors import InputError

PyTree = Any
AxisNames = tuple[str | None, ...]
ONLY_LEAF = "(the only leaf)"  # the path of a net that is one array


def of(variables: PyTree) -> tuple[PyTree, PyTree]:
    """Splits what a Flax ``init`` returns into plain arrays and the names of their axes.

    Args:
      variables: any pytree of arrays; leaves boxed by ``nn.with_partitioning`` carry names.

    Returns:
      ``(params, names)``: the tree without boxes, and the same tree with an ``AxisNames`` a leaf.

    Raises:
      InputError: a Flax model with collections besides ``params`` (running statistics, caches).

    Example:
      >>> import flax.linen as nn, jax.numpy as jnp
      >>> init = nn.with_partitioning(nn.initializers.ones, (None, "hidden0"))
      >>> layer = nn.Dense(4, kernel_init=init)
      >>> params, names = of(layer.init(jax.random.key(0), jnp.ones((1, 3))))
      >>> names["params"]["kernel"]
      (None, 'hidden0')
    """
    tree: Any
    if isinstance(variables, Mapping) and "params" in variables and len(variables) > 1:
        others = sorted(set(variables) - {"params"})
        raise InputError(
            f"the model has variables that are no parameters: {', '.join(others)}. Use layers "
            "without running statistics (ist_jax.models.normalise), or pass {'params': ...} alone."
        )
    leaves, tree = jax.tree.flatten(variables, is_leaf=_is_box)
    arrays = [leaf.unbox() if _is_box(leaf) else leaf for leaf in leaves]
    names = [
        tuple(leaf.names) if _is_box(leaf) else (None,) * jax.numpy.ndim(leaf) for leaf in leaves
    ]
    return tree.unflatten(arrays), tree.unflatten(names)


def widths(params: PyTree, names: PyTree) -> dict[str, int]:
    """The number of neurons of every group, ``{"hidden0": 4096, ...}``, sorted by name.

    Raises:
      InputError: ``names`` does not fit ``params``, or two leaves disagree on a group's width (both
        paths are named).
    """
    found: dict[str, tuple[int, str]] = {}
    for path, leaf, leaf_names in walk(params, names):
        for axis, group in enumerate(leaf_names):
            if group is None:
                continue
            width, first = found.setdefault(group, (leaf.shape[axis], path))
            if width != leaf.shape[axis]:
                raise InputError(
                    f"group {group!r} has two widths: {width} in {first}, {leaf.shape[axis]} in "
                    f"{path} (axis {axis}). Give the two their own names, or make them equal."
                )
    return {group: found[group][0] for group in sorted(found)}


def walk(params: PyTree, names: PyTree) -> list[tuple[str, Any, AxisNames]]:
    """Every leaf as ``(path, leaf, names of its axes)``; leaves need ``shape``, nothing more.

    Raises:
      InputError: the trees differ in structure, or a leaf has more or fewer axes than names.
    """
    tree: Any
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    try:
        tuples = tree.flatten_up_to(names)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            "the tree of axis names does not match the parameters: expected one tuple of names for "
            f"each leaf of\n  {tree}\nbut found\n  {jax.tree.structure(names)}\n({error})"
        ) from None
    out = []
    for (key_path, leaf), given in zip(paths, tuples, strict=True):
        path = jax.tree_util.keystr(key_path) or ONLY_LEAF
        leaf_names = _as_names(path, given, len(leaf.shape))
        if len(leaf_names) != len(leaf.shape):
            raise InputError(
                f"leaf {path} has {len(leaf.shape)} axes (shape {tuple(leaf.shape)}) but "
                f"{len(leaf_names)} names {leaf_names}. Name each axis, with None where it is not "
                "cut."
            )
        out.append((path, leaf, leaf_names))
    return out


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Whether two trees differ in nothing but their leaves."""
    left: Any = jax.tree.structure(a)
    return left == jax.tree.structure(b)


def _as_names(path: str, given: Any, ndim: int) -> AxisNames:
    if given is None:
        return (None,) * ndim
    if isinstance(given, Sequence) and all(n is None or isinstance(n, str) for n in given):
        return tuple(given)
    raise InputError(
        f"the names of leaf {path} must be a tuple of strings and None, one for each axis; found "
        f"{given!r}"
    )


def _is_box(leaf: Any) -> bool:
    return hasattr(leaf, "unbox") and hasattr(leaf, "names")
