"""Flax NNX modules as trees of parameters with named axes.

Names are given as NNX gives them, ``nnx.with_partitioning(init, (None, "hidden0"))``. They name
neurons, not devices: build the module under ``nnx.use_eager_sharding(False)``, or NNX asks for a
mesh. It is then split into its parameters, which the core cuts, and the rest, which stays as it is;
a subnet is the same module merged with narrower parameters, so its layers must take their sizes
from their arrays.

``functions`` needs neither: a subnet is a module built at the subnet's widths, so layers may keep
sizes in attributes, and ``axes.infer`` finds the names.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp

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
        (path, leaf) for path, leaf in nnx.to_flat_state(rest) if not isinstance(leaf, nnx.RngState)
    ]
    _refuse(model, changing, "Use layers without running statistics.")
    arrays = nnx.to_pure_dict(params)
    is_param = lambda leaf: isinstance(leaf, nnx.Variable)
    leaves = jax.tree.leaves(params, is_leaf=is_param)
    names = jax.tree.unflatten(jax.tree.structure(arrays), [_names(leaf) for leaf in leaves])
    axes.widths(arrays, names)

    def merge(given: PyTree) -> nnx.Module:
        return nnx.merge(graph, _filled(params, given), rest)

    return arrays, names, merge


def functions(
    build: Callable[[dict[str, int], nnx.Rngs], nnx.Module],
) -> Callable[[Mapping[str, int]], tuple[Callable[..., PyTree], Callable[..., Any]]]:
    """A module as two pure functions, at any widths: ``make(widths) -> (init, apply)``.

    ``init(key)`` gives the parameters, a dict. ``apply(params, x, train=False, key=None)`` calls
    the module of these widths on ``x``; with ``train``, layers that drop out do, by ``key``.

    With batch normalisation, ``apply`` also takes ``statistics=None``. Without statistics it
    standardises by those of the batch, and returns ``(outputs, statistics)``; with them it uses
    them, and returns the outputs. They are of one batch: a layer's momentum is not used.

    Args:
      build: ``(widths, rngs) -> `` the module.

    Raises:
      InputError: from ``make``, a module with other state; from ``apply``, a module that draws
        random numbers in training without a key.

    Example:
      >>> make = functions(lambda widths, rngs: nnx.Linear(3, widths["h"], rngs=rngs))
      >>> init, apply = make({"h": 4})
      >>> apply(init(jax.random.key(0)), jnp.ones((2, 3))).shape
      (2, 4)
    """

    def make(widths: Mapping[str, int]) -> tuple[Callable[..., PyTree], Callable[..., Any]]:
        built = lambda rngs: build(dict(widths), rngs)
        parts = _Parts(nnx.eval_shape(lambda: built(nnx.Rngs(0))))
        init = lambda key: nnx.to_pure_dict(nnx.state(built(nnx.Rngs(key)), nnx.Param))
        return init, parts.with_statistics if parts.statistics else parts.without

    return make


class _Parts:
    """A module of shapes alone, split: what it takes to call it on other arrays."""

    def __init__(self, module: nnx.Module):
        kinds = (nnx.Param, nnx.BatchStat, nnx.RngState, ...)
        self.graph, *parts = nnx.split(module, *kinds)
        self.params, self.statistics, self.draws, rest = parts
        changing = nnx.to_flat_state(rest)
        _refuse(module, changing, "Only parameters, BatchStat and random numbers can be kept.")

    def with_statistics(
        self,
        params: PyTree,
        x: Any,
        *,
        train: bool = False,
        key: Any = None,
        statistics: PyTree = None,
    ) -> Any:
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.statistics)
        used = start if statistics is None else _filled(self.statistics, statistics)
        module = self._module(params, used, train, key)
        average = {"use_running_average": statistics is not None, "momentum": 0.0}
        module.set_attributes(nnx.BatchNorm, **average, raise_if_not_found=False)
        outputs = module(x)
        if statistics is not None:
            return outputs
        return outputs, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    def without(self, params: PyTree, x: Any, *, train: bool = False, key: Any = None) -> Any:
        return self._module(params, self.statistics, train, key)(x)

    def _module(self, params: PyTree, statistics: PyTree, train: bool, key: Any) -> Any:
        tree: Any
        leaves, tree = jax.tree.flatten(self.draws)
        if train and leaves and key is None:
            raise InputError("the module draws random numbers: apply(..., train=True, key=key)")
        key = jax.random.key(0) if key is None else key
        is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        draws = [
            jax.random.fold_in(key, n) if is_key(leaf) else jnp.zeros(leaf.shape, leaf.dtype)
            for n, leaf in enumerate(leaves)
        ]
        module = nnx.merge(
            self.graph, _filled(self.params, params), statistics, tree.unflatten(draws)
        )
        module.set_attributes(deterministic=not train, raise_if_not_found=False)
        return module


def _refuse(module: nnx.Module, changing: Any, advice: str) -> None:
    if changing:
        names = ", ".join("/".join(map(str, path)) for path, _ in changing)
        raise InputError(
            f"{type(module).__name__} has state that is not a parameter: {names}. {advice}"
        )


def _filled(state: Any, arrays: PyTree) -> Any:
    """The state with these arrays in it, in the order of ``nnx.to_pure_dict``."""
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(arrays))


def _names(param: nnx.Variable) -> axes.AxisNames:
    """The names that ``nnx.with_partitioning`` left on a parameter."""
    metadata = param.get_metadata()
    found = (
        metadata.get("out_sharding") or metadata.get("sharding_names") or metadata.get("sharding")
    )
    return tuple(found) if found else (None,) * param.ndim
