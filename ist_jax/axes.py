"""Which axes of which parameters are neurons.

Every axis of a parameter may carry a name. A name is a *group*: the neurons of one hidden layer,
the filters of one convolution, the heads of one attention, the blocks of one stage. Two axes with
the same name list the same neurons in the same order, so cutting a group cuts every leaf that names
it, and neuron i stays neuron i in all of them. ``None`` marks an axis that is never cut.

Names are Flax's own (``nn.with_partitioning(init, ("hidden0", "hidden1"))``), but any pytree will
do: the names of a tree of parameters are a tree of the same shape with a tuple of names for each
leaf.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ist_jax.core import probes
from ist_jax.core.errors import InputError
from ist_jax.core.fused import fuse as fuse
from ist_jax.core.fused import unfuse as unfuse
from ist_jax.core.probes import is_box, path_name

PyTree = Any
AxisNames = tuple[str | None, ...]


class Leaf(NamedTuple):
    """One parameter: where it stands in the tree, its shape and dtype, the names of its axes."""

    path: str
    shape: tuple[int, ...]
    dtype: Any
    names: AxisNames

    def cut_axes(self, groups: Collection[str]) -> list[int]:
        """Its axes that are of one of these groups."""
        return [axis for axis, group in enumerate(self.names) if group in groups]


class Net(NamedTuple):
    """All that is known of a net without its numbers; made once, by ``describe``.

    Attributes:
      leaves: in the order of ``jax.tree.leaves``.
      tree: the structure they stand in.
      widths: neurons of every group, ``{"hidden0": 4096}``, sorted by name.
    """

    leaves: tuple[Leaf, ...]
    tree: Any
    widths: dict[str, int]

    @property
    def shapes(self) -> PyTree:
        """The net as a tree of ``jax.ShapeDtypeStruct``."""
        return self.tree.unflatten(
            [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in self.leaves]
        )

    @property
    def names(self) -> PyTree:
        """The names of its axes, a tuple for each leaf."""
        return self.tree.unflatten([leaf.names for leaf in self.leaves])

    def subnet(self, slots: Mapping[str, int]) -> "Net":
        """What one worker holds: axes of these groups are as long as it has slots."""
        leaves = tuple(
            leaf._replace(
                shape=tuple(
                    slots.get(group or "", n)
                    for n, group in zip(leaf.shape, leaf.names, strict=True)
                )
            )
            for leaf in self.leaves
        )
        return Net(leaves, self.tree, {**self.widths, **slots})


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
    probes.refuse_collections(variables)
    leaves, tree = jax.tree.flatten(variables, is_leaf=is_box)
    arrays = [leaf.unbox() if is_box(leaf) else leaf for leaf in leaves]
    names = [
        tuple(leaf.names) if is_box(leaf) else (None,) * jax.numpy.ndim(leaf) for leaf in leaves
    ]
    return tree.unflatten(arrays), tree.unflatten(names)


def infer(
    make: Callable[[dict[str, int]], Any],
    widths: Mapping[str, int],
    *,
    check: Callable[..., Any] | None = None,
) -> PyTree:
    """Finds the names of a model's axes: those that change with a group's width.

    One group at a time is given other widths (twice, half, one more, where ``make`` takes them), so
    that groups of equal width are told apart. An axis is a group's if it is as long as the group is
    wide each time. Only shapes are looked at, but for ``check``.

    Args:
      make: ``widths -> `` parameters, in any tree; or ``init(key) -> `` parameters; or a pair
        ``(init, apply)``. Leaves that are no arrays get no names.
      widths: neurons of every group that may be cut, ``{"hidden0": 4096}``.
      check: ``check(params, widths=...)``, what the model of those widths says of some input. It is
        asked with random parameters, and again with each group permuted in all leaves that name it,
        which must change nothing. A function of ``params`` alone will do, but it is asked at these
        widths only, where a wrong order of a split axis can hide.

    Returns:
      The names of the axes, a tuple for each parameter.

    Raises:
      InputError: a group that changes nothing, or more or fewer leaves; two groups that change one
        axis, or that are the same neurons; an axis that holds several entries for each neuron
        (``unfuse`` splits it), or others beside them (the leaf is named); a width that is the only
        one ``make`` takes; variables of Flax that are no parameters; a group that ``check`` knows
        by its order.

    Example:
      >>> zeros = jax.numpy.zeros
      >>> make = lambda widths: {"up": zeros((3, widths["h"])), "down": zeros((widths["h"], 2))}
      >>> infer(make, {"h": 8})
      {'down': ('h', None), 'up': (None, 'h')}
    """
    return probes.names_of_axes(make, widths, check)


def widths(params: PyTree, names: PyTree) -> dict[str, int]:
    """The number of neurons of every group, ``{"hidden0": 4096, ...}``, sorted by name.

    Raises:
      InputError: as ``describe``.
    """
    return describe(params, names).widths


def describe(params: PyTree, names: PyTree) -> Net:
    """The shapes of a net, the names of its axes, and the widths of its groups, in one object.

    Args:
      params: the net; leaves need ``shape`` and ``dtype``, nothing more.
      names: the names of its axes.

    Raises:
      InputError: the trees differ in structure, a leaf has more or fewer axes than names, or two
        leaves disagree on a group's width (both paths are named).
    """
    leaves, tree = _leaves(params, names)
    found: dict[str, tuple[int, str]] = {}
    for leaf in leaves:
        for axis, group in enumerate(leaf.names):
            if group is None:
                continue
            width, first = found.setdefault(group, (leaf.shape[axis], leaf.path))
            if width != leaf.shape[axis]:
                raise InputError(
                    f"group {group!r} has two widths: {width} in {first}, {leaf.shape[axis]} in "
                    f"{leaf.path} (axis {axis}). Give the two their own names, or make them equal."
                )
    return Net(leaves, tree, {group: found[group][0] for group in sorted(found)})


def walk(params: PyTree, names: PyTree) -> list[tuple[str, Any, AxisNames]]:
    """Every leaf as ``(path, leaf, names of its axes)``, to look at it.

    Raises:
      InputError: as ``describe``.
    """
    both = zip(describe(params, names).leaves, jax.tree.leaves(params), strict=True)
    return [(leaf.path, value, leaf.names) for leaf, value in both]


def _leaves(params: PyTree, names: PyTree) -> tuple[tuple[Leaf, ...], Any]:
    tree: Any
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    try:
        tuples = tree.flatten_up_to(names)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            "the tree of axis names does not match the parameters: expected one tuple of names for "
            f"each leaf of\n  {tree}\nbut found\n  {jax.tree.structure(names)}\n({error})"
        ) from None
    found = []
    for (key_path, leaf), leaf_names in zip(paths, tuples, strict=True):
        path, shape = path_name(key_path), tuple(leaf.shape)
        leaf_names = _as_names(path, leaf_names, len(shape))
        if len(leaf_names) != len(shape):
            raise InputError(
                f"leaf {path} has {len(shape)} axes (shape {shape}) but {len(leaf_names)} names "
                f"{leaf_names}. Name each axis, with None where it is not cut."
            )
        found.append(Leaf(path, shape, leaf.dtype, leaf_names))
    return tuple(found), tree


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Whether two trees differ in nothing but their leaves."""
    left: Any = jax.tree.structure(a)
    return left == jax.tree.structure(b)


def _as_names(path: str, names: Any, ndim: int) -> AxisNames:
    if names is None:
        return (None,) * ndim
    if isinstance(names, Sequence) and all(n is None or isinstance(n, str) for n in names):
        return tuple(names)
    raise InputError(
        f"the names of leaf {path} must be a tuple of strings and None, one for each axis; found "
        f"{names!r}"
    )
