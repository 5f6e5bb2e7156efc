"""What of an optimizer's state a run carries from one round to the next.

A policy is a pair of pure functions, and the names of the axes of what is carried:

* ``reset``: moments start afresh in every round, as in the papers. Schedules go on counting.
* ``keep``: moments belong to their neurons and travel with them, by the same gather and scatter.
* ``own``: every worker keeps all of its own state, which never moves; for nets that are not cut.

An optax state is a tree of *nodes*, one for each transformation (``ScaleByAdamState``). A leaf of a
node is of the parameters (such as a moment: one for each parameter) or the node's own (a count, a
rate). ``reset`` renews a node that has leaves of the parameters, its own leaves included, and
carries every other node whole: a schedule, a plateau, a count of failures. Own leaves have no
neurons; they are merged over the workers as a shared parameter is, by the mean of floats and the
first holder's value of all else.

Typed PRNG keys are carried under both policies, as numbers. Where workers train apart, each folds
them with its own key of the round, so that no two draw the same noise.

``checks`` refuses an optimizer that a policy would not carry rightly.
"""

import collections
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Key

from ist_jax import axes
from ist_jax.axes import Net
from ist_jax.core.errors import InputError, first_line
from ist_jax.core.keys import fold

PyTree = Any
POLICIES = ("reset", "keep", "own")


class Memory:
    """A policy, ``reset``, ``keep`` or ``own``, for an optimizer; its methods are pure.

    Raises:
      InputError: an unknown policy; from the methods, a state of which it cannot be found what is
        of the parameters.
    """

    def __init__(self, optimizer: optax.GradientTransformation, policy: str):
        if policy not in POLICIES:
            raise InputError(f"optimizer_state must be 'reset', 'keep' or 'own', found {policy!r}")
        self._optimizer, self._keeps = optimizer, policy != "reset"
        self.own = policy == "own"

    def carry(self, state: PyTree) -> PyTree:
        """What of a state is carried to the next round; None in place of what is not."""
        tree: Any
        leaves, tree = jax.tree.flatten(state)
        both = zip(leaves, self._carried(state), strict=True)
        return tree.unflatten([_as_numbers(leaf) if stays else None for leaf, stays in both])

    def resume(self, net: PyTree, carried: PyTree, key: Key[Array, ""] | None = None) -> PyTree:
        """The state with which a worker begins; without a key, PRNG keys go on as they are."""
        tree: Any
        fresh, tree = jax.tree.flatten(self._optimizer.init(net))
        both = enumerate(zip(fresh, tree.flatten_up_to(carried), strict=True))
        return tree.unflatten(
            [new if old is None else _revived(new, old, key, n) for n, (new, old) in both]
        )

    def names(self, net: Net) -> PyTree:
        """The names of the axes of what is carried."""
        tree: Any
        shapes = jax.eval_shape(self._optimizer.init, net.shapes)
        leaves, tree = jax.tree.flatten(shapes)
        stay = self._carried(shapes)
        found = entries(self._optimizer, net) if self._keeps else []
        named = [entry.names for entry in found] or [(None,) * leaf.ndim for leaf in leaves]
        named = [(*n, None) if is_key(leaf) else n for leaf, n in zip(leaves, named, strict=True)]
        return tree.unflatten([n if stays else None for n, stays in zip(named, stay, strict=True)])

    def _carried(self, state: PyTree) -> list[bool]:
        keys = [is_key(leaf) for leaf in jax.tree.leaves(state)]
        if self._keeps:
            return [True] * len(keys)
        outlive = _outlive(self._optimizer, state)
        return [key or stays for key, stays in zip(keys, outlive, strict=True)]


class Node(NamedTuple):
    """One transformation's state: its type, and where it stands in the whole state."""

    kind: str
    path: str


class Entry(NamedTuple):
    """What one leaf of a state is.

    Attributes:
      node: whose it is.
      own: it is the node's own; else it is of the parameters.
      names: of its axes: a parameter's if it belongs to that one and has its shape, else none.
      parameter: the path of that parameter; empty if it is the node's own, or of all together.
      shaped: it has that parameter's shape.
    """

    node: Node
    own: bool
    names: axes.AxisNames
    parameter: str = ""
    shaped: bool = False


class _Part:
    """A part of a state as one leaf: all that is made of the parameters, or a leaf of the node."""

    def __init__(self, tree: PyTree, own: bool = False):
        self.tree, self.own, self.leaves = tree, own, jax.tree.leaves(tree)


def entries(optimizer: optax.GradientTransformation, net: Net) -> list[Entry]:
    """What each leaf of ``optimizer.init(params)`` is, in their order."""
    shapes = jax.eval_shape(optimizer.init, net.shapes)
    try:
        parts = _parts(optimizer, shapes)
    except InputError:  # ``checks`` allows that only where nothing is cut
        whole = Node("", "")
        return [Entry(whole, False, (None,) * leaf.ndim) for leaf in jax.tree.leaves(shapes)]
    paths = jax.tree_util.tree_leaves_with_path(net.shapes)
    places = {place: leaf for (place, _), leaf in zip(paths, net.leaves, strict=True)}
    return [entry for node, part in parts for entry in _entries(node, part, places)]


def is_key(leaf: Any) -> bool:
    """Whether it is a typed PRNG key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _entries(node: Node, part: _Part, places: Mapping[Any, axes.Leaf]) -> Iterator[Entry]:
    """Of one part of a state; ``places``: each parameter, by its place in the tree.

    A leaf belongs to the parameter at whose place it stands, or under whose place (a list for each
    axis). A part may lack parameters, as where an optimizer is masked.
    """
    for place, leaf in jax.tree_util.tree_leaves_with_path(part.tree):
        none = (None,) * leaf.ndim
        of = [n for n in range(len(place) + 1) if not part.own and place[:n] in places]
        if not of:
            yield Entry(node, part.own, none)
            continue
        parameter = places[place[: of[0]]]
        shaped = of[0] == len(place) and leaf.shape == parameter.shape
        yield Entry(node, False, parameter.names if shaped else none, parameter.path, shaped)


def _outlive(optimizer: optax.GradientTransformation, state: PyTree) -> list[bool]:
    """For each leaf of a state, whether its node has none of the parameters."""
    parts = _parts(optimizer, state)
    renewed = {node for node, part in parts if not part.own and part.leaves}
    return [node not in renewed for node, part in parts for _ in part.leaves]


def _parts(optimizer: optax.GradientTransformation, state: PyTree) -> list[tuple[Node, _Part]]:
    """The parts of a state with their nodes, in the order of its leaves.

    Optax finds what is of the parameters: what ``init`` makes of a placeholder for all of them.

    Raises:
      InputError: an ``init`` that needs to look into the parameters.
    """
    try:
        collapsed = optax.tree_utils.tree_map_params(
            optimizer,
            _Part,
            state,
            transform_non_params=lambda leaf: _Part(leaf, own=True),
            is_leaf=lambda _: True,
        )
    except Exception as error:  # whatever a stranger's init makes of a placeholder
        raise InputError(
            "it cannot be told which numbers of this optimizer are moments: its init looks into "
            f"the parameters ({first_line(error)}). Use one whose moments have the structure of "
            "the parameters, or optimizer_state='keep' with a method that cuts nothing."
        ) from None
    return list(_walk(collapsed, "", None))


def _walk(tree: PyTree, path: str, node: Node | None) -> Iterator[tuple[Node, _Part]]:
    """A NamedTuple is a node, and so is every container that is not a tuple, a list or a dict.

    Those three belong to the node they stand in; outside of one they are a node if leaves stand
    in them.
    """
    if isinstance(tree, _Part):
        yield node or Node(type(tree.tree).__name__, path), tree
        return
    children = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda child: child is not tree)
    plain = type(tree) in (tuple, list, dict, collections.OrderedDict)
    if not plain or (node is None and any(isinstance(child, _Part) for _, child in children)):
        node = Node(type(tree).__name__, path)
    for key, child in children:
        yield from _walk(child, path + jax.tree_util.keystr(key), node)


def _as_numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _revived(new: Any, old: Any, key: Key[Array, ""] | None, number: int) -> Any:
    """A leaf as the optimizer knows it; a PRNG key, folded with the worker's of this round."""
    if not is_key(new):
        return old
    carried = jax.random.wrap_key_data(old, impl=jax.random.key_impl(new))
    if key is None:
        return carried
    own = jax.random.bits(fold(key, "optimizer", number))
    return jax.random.fold_in(carried, own)
