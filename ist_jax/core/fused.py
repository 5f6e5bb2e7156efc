"""Axes that hold several entries for each neuron, stored as several axes.

A dense layer of ``4 H`` gates, of ``heads * size`` queries, or over ``7 * 7 * C`` features has an
axis that is longer than its group is wide. So its parameter is stored with that axis split, and
fused again where the model is applied. A *form* says how: one entry for each axis of the model's
own leaf. None leaves the axis as it is. A tuple is the shape that the axis is split into, with the
group's name in place of its width, and -1 for at most one number that follows from the others::

    (None, (4, "h"))       gates first: gate j of neuron n is column j * H + n
    (None, ("heads", -1))  heads first: number j of head n is column n * size + j

Shapes do not tell the two orders apart. The model does: ``axes.infer(make, widths, check=...)``
refuses a wrong order.
"""

import difflib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ist_jax.core.errors import InputError
from ist_jax.core.probes import is_box, path_name

PyTree = Any
Make = Callable[[dict[str, int]], Any]
Form = Sequence[Sequence[str | int] | None]


def unfuse(make: Make, split: Mapping[str, Form]) -> Make:
    """The same model, stored with every fused axis split, so that each group has axes of its own.

    Args:
      make: ``widths -> (init, apply)``, with ``init(key) -> params`` and ``apply(params, x, ...)``.
      split: a form (see the module) for each leaf with a fused axis, by its path as errors print
        it: ``{"['lstm']['w']": (None, (4, "h"))}``.

    Returns:
      Such a function too. Its ``init`` gives split leaves; its ``apply`` takes them, fuses them and
      calls the model's own, whose signature it has.

    Raises:
      InputError: from ``init`` and ``apply``, a leaf that does not have that form, or no leaf; from
        what is returned, a ``make`` that does not return two functions.

    Example:
      >>> zeros = jax.numpy.zeros
      >>> apply = lambda params, x: x @ params["w"]
      >>> make = lambda widths: (lambda key: {"w": zeros((3, 4 * widths["h"]))}, apply)
      >>> init, _ = unfuse(make, {"['w']": (None, (4, "h"))})({"h": 8})
      >>> init(jax.random.key(0))["w"].shape
      (3, 4, 8)
    """

    def unfused(widths: dict[str, int]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        made = make(widths)
        if not isinstance(made, tuple) or len(made) != 2 or not all(map(callable, made)):
            raise InputError(
                f"unfuse needs make(widths) -> (init, apply), two functions; make returned {made!r}"
            )
        init, apply = made

        @functools.wraps(apply)
        def on_split(params: PyTree, *rest: Any, **named: Any) -> Any:
            return apply(fuse(params, split), *rest, **named)

        part = functools.partial(_split, widths=widths)
        return lambda key: _on_leaves(part, init(key), split), on_split

    return unfused


def fuse(params: PyTree, split: Mapping[str, Form]) -> PyTree:
    """The model's own parameters out of the split ones, of any widths.

    Raises:
      InputError: a leaf that does not have that form, or no leaf.
    """
    return _on_leaves(_fuse, params, split)


def _on_leaves(
    function: Callable[[str, Any, Form], Any], params: PyTree, split: Mapping[str, Form]
) -> PyTree:
    tree: Any
    leaves, tree = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_box)
    paths = [path_name(path) for path, _ in leaves]
    for unknown in split.keys() - set(paths):
        close = difflib.get_close_matches(unknown, paths, 1, 0.0) or ["none at all"]
        raise InputError(
            f"split names the leaf {unknown}; the closest of the model's is {close[0]}"
        )
    changed = [
        function(path, leaf.unbox() if is_box(leaf) else leaf, split[path])
        if path in split
        else leaf
        for path, (_, leaf) in zip(paths, leaves, strict=True)
    ]
    return tree.unflatten(changed)


def _split(path: str, leaf: Any, form: Form, widths: Mapping[str, int]) -> Any:
    if len(form) != leaf.ndim:
        raise InputError(
            f"leaf {path} has {leaf.ndim} axes (shape {leaf.shape}), its form {form} has "
            f"{len(form)} entries. Write one for each axis, None where it stays."
        )
    shape: list[int] = []
    for axis, entry in enumerate(form):
        size = leaf.shape[axis]
        where = f"axis {axis} of leaf {path} ({size} entries)"
        shape += [size] if entry is None else _sizes(where, size, entry, widths)
    return leaf.reshape(shape)


def _sizes(where: str, size: int, entry: Any, widths: Mapping[str, int]) -> list[int]:
    """The sizes of the axes that one is split into."""
    parts: list[Any] = list(entry) if isinstance(entry, list | tuple) else [None]
    for part in parts:
        if isinstance(part, str) and part not in widths:
            raise InputError(
                f"the form of {where} names the group {part!r}; the groups are {sorted(widths)}"
            )
        is_size = isinstance(part, int) and (part > 0 or part == -1)
        if not isinstance(part, str) and not is_size:
            raise InputError(
                f"the form of {where} is {entry!r}; expected None or a tuple of groups, sizes and "
                'at most one -1, such as (4, "h")'
            )
    found: list[int] = [widths[part] if isinstance(part, str) else part for part in parts]
    known = math.prod(n for n in found if n != -1)
    rest = size // known if found.count(-1) == 1 else 1
    if found.count(-1) > 1 or known * rest != size:
        raise InputError(f"{where} cannot be split into {entry!r}, which is {found} here")
    return [rest if n == -1 else n for n in found]


def _fuse(path: str, leaf: Any, form: Form) -> Any:
    lengths = [1 if entry is None else len(entry) for entry in form]
    if leaf.ndim != sum(lengths):
        raise InputError(
            f"leaf {path} has {leaf.ndim} axes (shape {leaf.shape}), split as {form} it would have "
            f"{sum(lengths)}. Pass the parameters that the init of unfuse gives."
        )
    shape, axis = [], 0
    for length in lengths:
        shape.append(math.prod(leaf.shape[axis : axis + length]))
        axis += length
    return leaf.reshape(shape)
