"""Names of axes, found by looking at a model at other widths.

A model says how wide its groups are by the shapes of its parameters. Made once more with one group
of another width, those axes differ that list the group's neurons. Only shapes are looked at
(``jax.eval_shape``): no parameter is made. What the order of a group's neurons does is not in the
shapes; it is seen by permuting them (``order``).
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from ist_jax.core import order
from ist_jax.core.errors import InputError

PyTree = Any
Shape = tuple[int, ...]
ONLY_LEAF = "(the only leaf)"  # the path of a net that is one array


class Look(NamedTuple):
    """A model's parameters at some widths: leaves by path, and the tree that they stand in.

    ``tree`` has a leaf for every parameter; what is no array (a function, a number) is None in it.
    """

    leaves: dict[str, jax.ShapeDtypeStruct]
    tree: Any

    @property
    def shapes(self) -> dict[str, Shape]:
        return {path: leaf.shape for path, leaf in self.leaves.items()}


def names_of_axes(
    make: Callable[[dict[str, int]], Any],
    widths: Mapping[str, int],
    check: Callable[..., Any] | None = None,
) -> PyTree:
    """As ``axes.infer``, which says what is asked for."""
    base = _first_look(make, widths)
    found: dict[str, list[str | None]] = {
        path: [None] * len(shape) for path, shape in base.shapes.items()
    }
    probes = {}
    for group, width in widths.items():
        probes[group] = _other_looks(make, widths, group)
        for path, axis in _axes_of(group, width, base.shapes, probes[group]):
            other = found[path][axis]
            if other is not None:
                raise InputError(
                    f"groups {other!r} and {group!r} are both axis {axis} of leaf {path}. If their "
                    "neurons are the same ones, make them one group."
                )
            found[path][axis] = group
    names = base.tree.unflatten([tuple(of_leaf) for of_leaf in found.values()])
    if check is not None:
        shapes = base.tree.unflatten(list(base.leaves.values()))
        if "widths" not in inspect.signature(check).parameters:
            order.check(check, shapes, names)
        else:
            order.check(functools.partial(check, widths=dict(widths)), shapes, names)
            order.check_other_widths(check, functools.partial(_shapes_at, make), shapes, names)
    return names


def _shapes_at(make: Callable[[dict[str, int]], Any], widths: dict[str, int]) -> PyTree:
    seen = look(make, widths)
    return seen.tree.unflatten(list(seen.leaves.values()))


def _first_look(make: Callable[[dict[str, int]], Any], widths: Mapping[str, int]) -> Look:
    try:
        return look(make, dict(widths))
    except KeyError as error:
        if error.args[0] in widths:
            raise
        raise InputError(
            f"make raised KeyError({error}); the groups of widths are {sorted(widths)}"
        ) from error


def look(make: Callable[[dict[str, int]], Any], widths: dict[str, int]) -> Look:
    """The shapes of what ``make`` gives, or of what the ``init`` gives that it gives."""
    seen: dict[str, Any] = {}

    def arrays(key):
        tree: Any
        made = make(widths)
        init = made[0] if isinstance(made, tuple) and len(made) == 2 else made
        params = init(key) if _is_function(init) else made
        refuse_collections(params)
        paths, tree = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_box)
        leaves = [leaf.unbox() if is_box(leaf) else leaf for _, leaf in paths]
        is_array = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]
        marks = [object() if one else None for one in is_array]
        seen["tree"] = jax.tree.structure(tree.unflatten(marks))
        both = list(zip(paths, leaves, is_array, strict=True))
        seen["paths"] = [path_name(path) for (path, _), _, one in both if one]
        return [leaf for _, leaf, one in both if one]

    leaves = jax.eval_shape(arrays, jax.random.key(0))
    return Look(dict(zip(seen["paths"], leaves, strict=True)), seen["tree"])


def _other_looks(
    make: Callable[[dict[str, int]], Any], widths: Mapping[str, int], group: str
) -> dict[int, Look]:
    """The model where this group has other widths: twice, half, and one more, where it can."""
    width, found, refused = widths[group], {}, ""
    for other in (2 * width, width // 2, width + 1):
        if other in (0, width) or other in found:
            continue
        try:
            found[other] = look(make, {**widths, group: other})
        except Exception as error:  # whatever a stranger's model raises
            refused = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
    if not found:
        raise InputError(
            f"the model takes no other width of group {group!r} than {width} (twice, half and one "
            f"more were tried): {refused}. If another group has to be as wide (a residual sum), "
            "make them one group."
        )
    return found


def _axes_of(
    group: str, width: int, shapes: Mapping[str, Shape], probes: Mapping[int, Look]
) -> Iterator[tuple[str, int]]:
    """Where the group's axes are: path of the leaf and number of the axis."""
    nothing = True
    for other, seen in probes.items():
        if different := seen.shapes.keys() ^ shapes.keys():
            raise InputError(
                f"with {other} in place of {width} of group {group!r} there are other leaves, "
                f"{min(different)} for one. Stack what is repeated: one leaf with an axis over the "
                "repetitions, as jax.vmap of the init makes it, and a scan over it."
            )
    for path, shape in shapes.items():
        for axis, size in enumerate(shape):
            sizes = {
                other: _size(seen.shapes[path], axis, shape, path) for other, seen in probes.items()
            }
            if set(sizes.values()) == {size}:
                continue
            nothing = False
            if size != width or any(found != other for other, found in sizes.items()):
                raise InputError(_no_axis_of_its_own(group, width, path, axis, size, sizes))
            yield path, axis
    if nothing:
        raise InputError(
            f"group {group!r} changes no parameter: the model is the same for {width} and for "
            f"{', '.join(map(str, probes))}. Does make use widths[{group!r}]?"
        )


def _is_function(made: Any) -> bool:
    """Whether it is a function and no tree (a module of Equinox is both a tree and callable)."""
    return callable(made) and jax.tree_util.all_leaves([made])


def is_box(leaf: Any) -> bool:
    """Whether it is a leaf of Flax that carries the names of its axes."""
    return hasattr(leaf, "unbox") and hasattr(leaf, "names")


def refuse_collections(variables: PyTree) -> None:
    """Complains about what a Flax ``init`` returns beside parameters.

    Raises:
      InputError: collections besides ``params`` (running statistics, caches).
    """
    if isinstance(variables, Mapping) and "params" in variables and len(variables) > 1:
        others = sorted(set(variables) - {"params"})
        raise InputError(
            f"the model has variables that are no parameters: {', '.join(others)}. Use layers "
            "without running statistics (ist_jax.models.normalise), or pass {'params': ...} alone."
        )


def path_name(path: Any) -> str:
    """A leaf's path as errors name it; ``path`` is JAX's, of ``tree_leaves_with_path``."""
    return jax.tree_util.keystr(path) or ONLY_LEAF


def _size(found: Shape, axis: int, shape: Shape, path: str) -> int:
    if len(found) != len(shape):
        raise InputError(
            f"leaf {path} has {len(shape)} axes at one width and {len(found)} at another"
        )
    return found[axis]


def _no_axis_of_its_own(
    group: str, width: int, path: str, axis: int, size: int, sizes: Mapping[int, int]
) -> str:
    other, found = next((w, n) for w, n in sizes.items() if n != size)
    each, rest = divmod(found - size, other - width)
    told = f"axis {axis} of leaf {path} is {size} with {width} of group {group!r} "
    told += f"and {found} with {other}"
    if rest or any(n - size != each * (w - width) for w, n in sizes.items()):
        told += ": its size does not grow with the group's width. Give it a size that does (as "
        return f"{told}qkv_features = size * heads of an attention), or leave the group out."
    if size != each * width:
        return f"{told}: it holds something else beside the group's. Give each a leaf of its own."
    major, minor = f"({group!r}, {each})", f"({each}, {group!r})"
    return (
        f"{told}, {each} for each neuron. Split it: axes.unfuse(make, {{{path!r}: form}}), where "
        f"form has {major} for this axis if entry n * {each} + j is of neuron n, {minor} if entry "
        f"j * {width} + n is, and None for an axis that stays."
    )
