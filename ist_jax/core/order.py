"""Whether a model knows the neurons of a group by their order.

Shapes do not say it. Permuted in all leaves that name their group, the neurons must change nothing.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.errors import InputError

PyTree = Any
Names = Mapping[str, list[str | None]]
TOLERANCE = 1e-3  # of the largest output: more than rounding, less than a permutation does


def check(
    function: Callable[[PyTree], Any],
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    tree: Any,
    names: Names,
    widths: Mapping[str, int],
) -> None:
    """Refuses a group whose neurons have an order: permuted, they change what ``function`` gives.

    Args:
      function: ``params -> `` what the model says of some input.
      leaves, tree: the shapes of the parameters by path, and the tree that they stand in.
      names: of their axes, by path.
      widths: of the groups.

    Raises:
      InputError: such a group; a function that says the same for all parameters, or numbers that
        are not finite.
    """
    compiled = jax.jit(lambda values: jax.tree.leaves(function(tree.unflatten(values))))
    first = _some_values(leaves, 0)
    expected = _outputs(compiled, first)
    if np.allclose(expected, _outputs(compiled, _some_values(leaves, 1)), rtol=TOLERANCE, atol=0):
        raise InputError("check gives the same for all parameters: it must use them")
    largest = np.abs(expected).max()

    def change(groups: set[str], width: int) -> float:
        """How far the output moves if the neurons of these groups are permuted alike."""
        values = _permuted(first, names, groups, _order(width))
        return np.abs(_outputs(compiled, values) - expected).max()

    for group, width in widths.items():
        found = change({group}, width)
        if found <= TOLERANCE * largest:
            continue
        for other in widths.keys() - {group}:
            if widths[other] == width and change({group, other}, width) <= TOLERANCE * largest:
                raise InputError(
                    f"groups {group!r} and {other!r} are the same neurons: the model adds one to "
                    "the other (a residual sum), or pairs them. Declare one group for both."
                )
        raise InputError(
            f"permuting the neurons of group {group!r} in all its leaves changes what check "
            f"gives (by {found:.2g}, of at most {largest:.2g}), so they cannot "
            "be dealt out: the model knows them by their order (positions, groups of a norm, a "
            "reshape that mixes axes, a split of the other order), or an axis of theirs is missing."
        )


def _order(width: int) -> np.ndarray:
    """A permutation that moves something, the same for all groups of this width."""
    order = np.random.default_rng(width).permutation(width)
    return order[::-1] if (order == np.arange(width)).all() else order


def _permuted(values: list[Any], names: Names, groups: set[str], order: np.ndarray) -> list[Any]:
    take = lambda value, axis: jnp.take(value, order, axis)
    return [
        functools.reduce(take, [a for a, name in enumerate(of_leaf) if name in groups], value)
        for value, of_leaf in zip(values, names.values(), strict=True)
    ]


def _some_values(leaves: Mapping[str, jax.ShapeDtypeStruct], seed: int) -> list[Any]:
    """Values for all leaves, none of them special: at the start many are zero or one."""
    draw = np.random.default_rng(seed)
    values = []
    for leaf in leaves.values():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            values.append(jnp.zeros(leaf.shape, leaf.dtype))
            continue
        value = draw.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1], initial=1))
        values.append(jnp.asarray(value if len(leaf.shape) > 1 else 1 + value / 4, leaf.dtype))
    return values


def _outputs(compiled: Callable[[list[Any]], list[Any]], leaves: list[Any]) -> np.ndarray:
    found = [np.ravel(np.asarray(x, np.float64)) for x in compiled(leaves)]
    out = np.concatenate([np.zeros(0), *found])
    if not out.size or not np.isfinite(out).all():
        wrong = out[~np.isfinite(out)][:1] if out.size else "none"
        raise InputError(f"check must give finite numbers, found {wrong}")
    return out
