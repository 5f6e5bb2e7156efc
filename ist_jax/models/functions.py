"""A model of any framework, asked as the library asks its own.

A model is a function of its widths, ``make(widths) -> (init, apply)``: ``init(key)`` gives the
parameters, any pytree, and ``apply(params, x)`` the outputs. ``apply`` may take more by name:

* ``train``: whether it trains;
* ``key``: for dropout, while it trains;
* ``statistics``: of a model that standardises over the batch. Without them (None) it takes those of
  its batch, and returns ``(outputs, statistics)``; with them, the outputs alone. The whole net is
  asked with the statistics of training data (``normalise``).

``make`` may take ``normalise`` or ``gains`` by name, as the library's models do, and it may return
a module of Linen in place of the two functions. An attribute ``make.sequences`` names the groups
whose members have an order, as the blocks of a stage.

A subnet is ``make(narrow widths)``, whose parameters are a slice of the whole net's. They stand in
the tree that ``make`` gives at those widths, so a framework may keep sizes in its trees.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ist_jax import axes
from ist_jax.core.errors import InputError
from ist_jax.models import linen

PyTree = Any
Make = Callable[..., Any]
STATISTICS = linen.STATISTICS


class Made(NamedTuple):
    """What ``make`` gives at some widths.

    Attributes:
      init, apply: the functions.
      tree: of the parameters, in which what is no array has a place too.
      others: what is no array by its place among the leaves.
    """

    init: Callable[..., PyTree]
    apply: Callable[..., Any]
    tree: Any
    others: dict[int, Any]


class Functions:
    """A model with the interface of a Linen module: ``init``, ``apply``, ``clone``.

    Args:
      make: as above.
      widths: neurons of each group.
      example: inputs ``[B, ...]``, or their shapes; a module of Linen is initialised with them.
      names: of the axes of its parameters; found by ``axes.infer`` if None.
      flat_names: the same for each leaf, whose tree may hold other sizes at other widths.
      more: what else ``make`` takes by name: ``normalise``, ``gains``.

    Raises:
      InputError: as ``axes.infer``; or ``make`` returns something else.
    """

    def __init__(
        self,
        make: Make,
        widths: Mapping[str, int],
        example: Any = None,
        names: PyTree = None,
        flat_names: list[axes.AxisNames] | None = None,
        **more: Any,
    ):
        self._make, self._example, self._more = make, example, more
        self.widths, self.sequences = dict(widths), getattr(make, "sequences", ())
        self._made = self._at(self.widths)
        self._standardises = STATISTICS in keywords(self._made.apply)
        self.normalise = more.get("normalise", "standardise" if self._standardises else "none")
        if "gains" in keywords(make):
            self.gains = more.get("gains", {})
        if names is None:
            names = axes.infer(lambda widths: self._at(widths).init, self.widths)
        if flat_names is None:
            flat_names = self._arrays.flatten_up_to(names)
        self._flat_names = flat_names

    def clone(self, *, widths: Mapping[str, int], **more: Any) -> "Functions":
        """The same model of other widths; the names of its axes stay."""
        kept: Any = {"names": (), "flat_names": self._flat_names, **self._more, **more}
        return Functions(self._make, widths, self._example, **kept)

    def init(self, rngs: Mapping[str, Any], x: Any = None, *, train: bool = True) -> PyTree:
        """``{"params": parameters}``, boxed with the names of their axes as Linen does."""
        leaves = jax.tree.leaves(self._made.init(rngs["params"]))
        both = zip(filter(_is_array, leaves), self._flat_names, strict=True)
        return {"params": self._arrays.unflatten([nn.Partitioned(*one) for one in both])}

    def apply(
        self,
        variables: Mapping[str, PyTree],
        x: Any,
        *,
        train: bool,
        rngs: Mapping[str, Any] | None = None,
        mutable: Any = (),
    ) -> Any:
        """The outputs; with ``mutable``, ``(outputs, {"statistics": ...})``."""
        asked: dict[str, Any] = {"train": train and not mutable, "key": (rngs or {}).get("dropout")}
        if not train:
            asked[STATISTICS] = variables.get(STATISTICS, {})
        takes = keywords(self._made.apply)
        asked = {name: value for name, value in asked.items() if name in takes}
        found = self._made.apply(self.own(variables), x, **asked)
        outputs, statistics = found if train and self._standardises else (found, {})
        return (outputs, {STATISTICS: statistics}) if mutable else outputs

    @property
    def _arrays(self) -> Any:
        """The tree of the parameters without what is no array."""
        places = range(self._made.tree.num_leaves)
        marks = [None if n in self._made.others else object() for n in places]
        return jax.tree.structure(self._made.tree.unflatten(marks))

    def own(self, variables: Mapping[str, PyTree]) -> PyTree:
        """The parameters in the tree that ``make`` gives, at this model's widths."""
        arrays = iter(jax.tree.leaves(variables["params"]))
        _, _, tree, others = self._made
        places = range(tree.num_leaves)
        return tree.unflatten([others[n] if n in others else next(arrays) for n in places])

    def shapes_at(self, widths: Mapping[str, int]) -> PyTree:
        """Of the parameters that ``init`` gives at other widths."""
        model = self.clone(widths=widths)
        return axes.of(jax.eval_shape(lambda key: model.init({"params": key}), jax.random.key(0)))[
            0
        ]

    def _at(self, widths: Mapping[str, int]) -> Made:
        found = self._make(dict(widths), **self._more)
        if isinstance(found, nn.Module):
            found = linen.functions(found, self._example)
        if not (isinstance(found, tuple) and len(found) == 2 and all(map(callable, found))):
            raise InputError(
                "a model is a function of its widths that returns (init, apply), or a module of "
                f"Linen; it returned {type(found).__name__} (of NNX, ist_jax.models.nnx.functions "
                "makes such a function)"
            )
        init, apply = found
        seen: list[Any] = []

        def look(key):
            seen[:] = jax.tree.flatten(init(key))
            return [leaf for leaf in seen[0] if _is_array(leaf)]

        jax.eval_shape(look, jax.random.key(0))
        leaves, tree = seen
        others = {n: leaf for n, leaf in enumerate(leaves) if not _is_array(leaf)}
        return Made(init, apply, tree, others)


def keywords(function: Callable[..., Any]) -> Collection[str]:
    """The names of what it takes."""
    return inspect.signature(function).parameters


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
