"""Flax NNX modules as trees of parameters with named axes.

Names are given as NNX gives them, ``nnx.with_partitioning(init, (None, "hidden0"))``. They name
neurons, not devices: build the module under ``nnx.use_eager_sharding(False)``, or NNX asks for a
mesh. It is then split into its parameters, which the core cuts, and the rest, which stays as it is;
a subnet is the same module merged with narrower parameters, so its layers must take their sizes
from their arrays.
"""

from collections.abc import Callable
from typing import Any

import flax.nnx as nnx
import jax

from ist_jax import axes
from ist_jax.core.errors import InputError

PyTree = Any


def split(model: nnx.Module) -> tuple[PyTree, PyTree, Callable[[PyTree], nnx.Module]]:
    """``(params, names, merge)``: plain arrays, the names of their axes, and the way back.

    ``merge(params)`` is a module with these parameters, of the model's own widths or a subnet's.

    Raises:
      InputError: the module has state besides its parameters that changes while training (batch
        statistics, counters): the core would not carry it.
    """
    graph, *(params, rest) = nnx.split(model, nnx.Param, ...)
    changing = [
        "/".join(map(str, path))
        for path, leaf in nnx.to_flat_state(rest)
        if not isinstance(leaf, nnx.RngState)
    ]
    if changing:
        raise InputError(
            f"{type(model).__name__} has state that is not a parameter: {', '.join(changing)}. Use "
            "layers without running statistics."
        )
    arrays = nnx.to_pure_dict(params)
    is_param = lambda leaf: isinstance(leaf, nnx.Variable)
    leaves = jax.tree.leaves(params, is_leaf=is_param)
    names = jax.tree.unflatten(jax.tree.structure(arrays), [_names(leaf) for leaf in leaves])
    axes.widths(arrays, names)

    def merge(given: PyTree) -> nnx.Module:
        state = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(given))
        return nnx.merge(graph, state, rest)

    return arrays, names, merge


def _names(param: nnx.Variable) -> axes.AxisNames:
    """The names that ``nnx.with_partitioning`` left on a parameter."""
    metadata = param.get_metadata()
    found = (
        metadata.get("out_sharding") or metadata.get("sharding_names") or metadata.get("sharding")
    )
    return tuple(found) if found else (None,) * param.ndim
