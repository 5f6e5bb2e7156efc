"""Whether a model knows its neurons by their order: seen by permuting them."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.errors import InputError

PyTree = Any
TOLERANCE = 1e-3  # of the largest output: more than rounding, less than a permutation does


def check(
    function: Callable[[PyTree], Any],
    shapes: PyTree,
    names: PyTree,
    sequences: Collection[str] = (),
) -> None:
    """Refuses a group whose neurons have an order: permuted in all leaves, they change what is
    computed.

    Args:
      function: ``params -> `` what the model computes of some input.
      shapes: of the parameters; arrays will do.
      names: of their axes.
      sequences: groups that have an order by intent, as the blocks of a stage; not looked at.

    Raises:
      InputError: naming the group.
    """
    tree: Any
    leaves, tree = jax.tree.flatten(shapes)
    of_leaves = tree.flatten_up_to(names)
    compiled = jax.jit(lambda leaves: jax.tree.leaves(function(tree.unflatten(leaves))))
    first = _some_values(leaves, 0)
    expected = _outputs(compiled, first)
    if np.allclose(expected, _outputs(compiled, _some_values(leaves, 1)), rtol=TOLERANCE, atol=0):
        raise InputError("what is computed is the same for all parameters: it must use them")
    groups = sorted({name for of_leaf in of_leaves for name in of_leaf if name} - set(sequences))
    for number, group in enumerate(groups):
        moved = _permuted(first, of_leaves, group, number)
        change = np.abs(_outputs(compiled, moved) - expected).max()
        if not change <= TOLERANCE * np.abs(expected).max():
            raise InputError(
                f"permuting the neurons of group {group!r} in all its leaves changes what the "
                f"model computes (by {change:.2g}, of at most {np.abs(expected).max():.2g}), so "
                "they cannot be dealt out: the model knows them by their order (positions, groups "
                "of a norm, a reshape that mixes axes), or an axis of theirs is missing."
            )


def _permuted(leaves: list[Any], names: list[Any], group: str, seed: int) -> list[Any]:
    """The leaves, the neurons of one group in another order."""
    moved, order = [], None
    for value, of_leaf in zip(leaves, names, strict=True):
        for axis, name in enumerate(of_leaf):
            if name == group:
                order = _order(value.shape[axis], seed) if order is None else order
                value = jnp.take(value, order, axis)
        moved.append(value)
    return moved


def _order(width: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(width)
    return order[::-1] if (order == np.arange(width)).all() else order


def _some_values(leaves: list[Any], seed: int) -> list[Any]:
    """Values for all leaves, none of them special: at the start many are zero or one."""
    draw = np.random.default_rng(seed)
    values = []
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            values.append(jnp.zeros(leaf.shape, leaf.dtype))
            continue
        value = draw.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1], initial=1))
        values.append(jnp.asarray(value if len(leaf.shape) > 1 else 1 + value / 4, leaf.dtype))
    return values


def _outputs(compiled: Callable[[list[Any]], list[Any]], leaves: list[Any]) -> np.ndarray:
    given = [np.ravel(np.asarray(x, np.float64)) for x in compiled(leaves)]
    out = np.concatenate([np.zeros(0), *given])
    if not out.size or not np.isfinite(out).all():
        found = out[~np.isfinite(out)][:1] if out.size else "none"
        raise InputError(f"check must give finite numbers, found {found}")
    return out
