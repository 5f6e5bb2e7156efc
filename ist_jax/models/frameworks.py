"""A stranger's model, of whatever framework, made ready for the library."""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import flax.nnx as nnx
import jax
import numpy as np

from ist_jax import axes
from ist_jax.core import order, probes
from ist_jax.core.errors import InputError
from ist_jax.models import nnx as our_nnx
from ist_jax.models import normalise
from ist_jax.models.functions import Functions, keywords

PyTree = Any


def of(
    model: Any, example: Any, widths: Mapping[str, int] | None = None, normalise: str | None = None
) -> Any:
    """A stranger's model, ready to be asked.

    Args:
      model: a module of Linen or NNX with an attribute ``widths``, or a function of the widths.
      example: inputs ``[B, ...]``, or their shapes.
      widths: of each group, for a function; of a module they are its own.
      normalise: how it is to normalise, if it takes ``normalise``; as it does if None.

    Raises:
      InputError: no model, no widths, or a policy that the model does not know.
    """
    example = jax.tree.map(_some, example)
    if isinstance(model, nn.Module):
        return _linen(model, example, widths, normalise)
    if isinstance(model, nnx.Module):
        _check_normalise(False, normalise, model)
        return _nnx(model)
    one_width = not jax.tree_util.all_leaves([model])  # a module of Equinox, which is a tree
    if isinstance(model, type) or one_width or not callable(model):
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise InputError(
            "a model is a module of Linen or NNX with an attribute widths, or a function "
            f"make(widths) that returns (init, apply); found {what}. Of NNX, "
            "ist_jax.models.nnx.functions makes such a function; docs/your_model.md has five "
            "frameworks"
        )
    if not widths:
        raise InputError('a function of the widths needs widths={"group": neurons, ...}')
    _check_normalise("normalise" in keywords(model), normalise, model)
    more: Any = {} if normalise is None else {"normalise": normalise}
    return Functions(model, widths, example, **more)


def check_order(
    net: Any, x: Any, shapes: PyTree, names: PyTree, sequences: Collection[str] = ()
) -> None:
    """Refuses a model that knows its neurons by their order, unless they are a sequence.

    Args:
      net: the whole net's model, as ``of`` gives it; it may say itself which groups are
        ``sequences``.
      x: some inputs ``[B, ...]``.
      shapes, names: of its parameters, and of their axes.

    Raises:
      InputError: as ``axes.infer`` with ``check``.
    """
    rest = {*sequences, *getattr(net, "sequences", ())}

    def answer(params, widths):
        model = net.clone(widths=widths)
        found = normalise.statistics(model, params, x)
        return model.apply({**params, **found}, x, train=False)

    order.check(lambda params: answer(params, net.widths), shapes, names, rest)
    if isinstance(net, Functions):
        order.check_other_widths(answer, net.shapes_at, shapes, names, rest)


def _linen(
    model: nn.Module, example: Any, widths: Mapping[str, int] | None, normalise: str | None
) -> Any:
    _check_normalise(hasattr(model, "normalise"), normalise, model)
    if not hasattr(model, "widths"):
        raise InputError(
            f"{type(model).__name__} has no attribute widths, {{group: neurons}}, to take other "
            "widths by. Give it one, or give a function of the widths that returns the module"
        )
    changed: dict[str, Any] = {"normalise": normalise, "widths": widths and dict(widths)}
    model = model.clone(**{key: value for key, value in changed.items() if value is not None})
    if "train" in keywords(model.__call__):
        variables = jax.eval_shape(
            lambda key: model.init({"params": key, "dropout": key}, example, train=True),
            jax.random.key(0),
        )
        if any(map(probes.is_box, jax.tree.leaves(variables, is_leaf=probes.is_box))):
            return model
    return Functions(lambda widths: model.clone(widths=widths), model.widths, example)


def _nnx(model: nnx.Module) -> Functions:
    params, names, merge = our_nnx.split(model)
    widths = axes.widths(params, names)
    if not widths:
        raise InputError(
            f"no axis of {type(model).__name__} has a name. Give a function of the widths in its "
            "place, which ist_jax.models.nnx.functions makes of a class, or name them "
            "(nnx.with_partitioning)"
        )
    tree: Any
    leaves, tree = jax.tree.flatten(params)
    of_leaves = tree.flatten_up_to(names)

    def make(narrow):
        """The first neurons of each group: what a subnet begins with is never asked."""
        part = lambda leaf, own: leaf[tuple(slice(narrow[n] if n else None) for n in own)]
        cut = [part(leaf, own) for leaf, own in zip(leaves, of_leaves, strict=True)]
        return lambda key: tree.unflatten(cut), lambda params, x: merge(params)(x)

    return Functions(make, widths, names=names)


def _some(part: Any) -> Any:
    """Inputs: as they are, or zeros of that shape."""
    if isinstance(part, jax.ShapeDtypeStruct):
        return np.zeros(part.shape, part.dtype)
    return part


def _check_normalise(takes: bool, normalise: str | None, model: Any) -> None:
    if normalise is not None and not takes:
        name = getattr(model, "__name__", type(model).__name__)
        raise InputError(
            f"normalise={normalise!r}, but {name} takes no normalise, so it would stay as it is. "
            "Leave normalise out, or have the model take it"
        )
