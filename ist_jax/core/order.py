"""Whether a model knows the neurons of a group by their order.

Shapes do not say it. Permuted in all leaves that name their group, the neurons must change nothing.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.errors import InputError

PyTree = Any
TOLERANCE = 1e-3  # of how far outputs differ: more than rounding, less than a permutation does
ROUNDING = 1e-6  # of the largest output


def check(
    function: Callable[[PyTree], Any],
    shapes: PyTree,
    names: PyTree,
    sequences: Collection[str] = (),
) -> None:
    """Refuses a group whose neurons have an order: permuted, they change what is computed.

    Args:
      function: ``params -> `` what the model computes of some input.
      shapes: of the parameters; arrays will do.
      names: of their axes.
      sequences: groups that have an order by intent, as the blocks of a stage; not looked at.

    Raises:
      InputError: such a group; a function that computes the same for all parameters, or numbers
        that are not finite.
    """
    of_leaves: Any = jax.tree.structure(shapes)
    _check(function, shapes, of_leaves.flatten_up_to(names), sequences)


def _check(
    function: Callable[[PyTree], Any], shapes: PyTree, of_leaves: Any, sequences: Collection[str]
) -> None:
    tree: Any
    leaves, tree = jax.tree.flatten(shapes)
    compiled = jax.jit(lambda values: jax.tree.leaves(function(tree.unflatten(values))))
    first = _some_values(leaves, 0)
    expected = _outputs(compiled, first)
    moved = np.abs(_outputs(compiled, _some_values(leaves, 1)) - expected).max()
    rounding = ROUNDING * np.abs(expected).max()
    if moved <= rounding:
        raise InputError("what is computed is the same for all parameters: it must use them")
    largest = max(np.ptp(expected), moved)  # a constant beside it does not count
    allowed = TOLERANCE * largest + rounding

    def change(groups: set[str], width: int) -> float:
        """How far the output moves if the neurons of these groups are permuted alike."""
        values = _permuted(first, of_leaves, groups, _order(width))
        return np.abs(_outputs(compiled, values) - expected).max()

    widths = _widths(leaves, of_leaves)
    for group in sorted(widths.keys() - set(sequences)):
        width = widths[group]
        found = change({group}, width)
        if found <= allowed:
            continue
        for other in widths.keys() - {group}:
            if widths[other] == width and change({group, other}, width) <= allowed:
                raise InputError(
                    f"groups {group!r} and {other!r} are the same neurons: the model adds one to "
                    "the other (a residual sum), or pairs them. Declare one group for both."
                )
        raise InputError(
            f"permuting the neurons of group {group!r} in all its leaves changes what is computed "
            f"(by {found:.2g}, of at most {largest:.2g}), so they cannot be dealt out: the model "
            "knows them by their order (positions, groups of a norm, a reshape that mixes axes, a "
            "split of the other order), or an axis of theirs is missing."
        )


def check_other_widths(
    function: Callable[..., Any],
    shapes_at: Callable[[dict[str, int]], PyTree],
    shapes: PyTree,
    names: PyTree,
    sequences: Collection[str] = (),
) -> None:
    """As ``check``, at another width of each group whose own may hide an order.

    An axis of ``heads * size`` that is taken for ``size * heads`` has neurons without an order if
    ``size`` is a multiple of ``heads``. At a width that divides no axis beside it, it has one.

    Args:
      function: ``function(params, widths=...)``, what the model of those widths computes.
      shapes_at: its parameters' shapes; it raises where the model cannot be so wide.
    """
    tree: Any
    leaves, tree = jax.tree.flatten(shapes)
    of_leaves = tree.flatten_up_to(names)
    widths = _widths(leaves, of_leaves)
    for group in sorted(widths.keys() - set(sequences)):
        beside = {
            size
            for leaf, of_leaf in zip(leaves, of_leaves, strict=True)
            for size, name in zip(leaf.shape, of_leaf, strict=True)
            if group in of_leaf and name != group
        }
        width = widths[group]
        others = (2 * width, *range(width + 1, width + 12), width * (max(beside, default=1) + 1))
        hides, *hidden = [any(size % n == 0 for size in beside) for n in (width, *others)]
        for other in others if hides else ():
            wide = {**widths, group: other}
            if hidden[others.index(other)] or (seen := _tried(shapes_at, wide)) is None:
                continue
            rest = widths.keys() - {group}
            _check(functools.partial(function, widths=wide), seen, of_leaves, rest)
            break


def _tried(shapes_at: Callable[[dict[str, int]], PyTree], widths: dict[str, int]) -> PyTree | None:
    try:
        return shapes_at(widths)
    except Exception:  # whatever a stranger's model raises
        return None


def _widths(leaves: list[Any], names: list[Any]) -> Mapping[str, int]:
    return {
        name: size
        for leaf, of_leaf in zip(leaves, names, strict=True)
        for size, name in zip(leaf.shape, of_leaf, strict=True)
        if name is not None
    }


def _order(width: int) -> np.ndarray:
    """A permutation that moves something, the same for all groups of this width."""
    order = np.random.default_rng(width).permutation(width)
    return order[::-1] if (order == np.arange(width)).all() else order


def _permuted(
    values: list[Any], names: list[Any], groups: set[str], order: np.ndarray
) -> list[Any]:
    take = lambda value, axis: jnp.take(value, order, axis)
    return [
        functools.reduce(take, [a for a, name in enumerate(of_leaf) if name in groups], value)
        for value, of_leaf in zip(values, names, strict=True)
    ]


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
    found = [np.ravel(np.asarray(x, np.float64)) for x in compiled(leaves)]
    out = np.concatenate([np.zeros(0), *found])
    if not out.size or not np.isfinite(out).all():
        wrong = out[~np.isfinite(out)][:1] if out.size else "none"
        raise InputError(f"what is computed must be finite numbers, found {wrong}")
    return out
