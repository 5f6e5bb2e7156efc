"""Modules of Flax Linen as two functions, whether or not their axes have names."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.errors import InvalidRngError

from ist_jax import axes

STATISTICS = "statistics"  # the collection of ``normalise.Standardise``


def functions(
    module: nn.Module | Any, example: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``init(key) -> params`` and ``apply(params, x, ...)`` of a module, as ``functions`` has them.

    Args:
      module: its ``__call__`` may take ``train`` or ``deterministic``.
      example: inputs to initialise it with.
    """
    takes = inspect.signature(module.__call__).parameters

    def modes(train: bool) -> Any:
        both = {"train": train, "deterministic": not train}
        return {name: mode for name, mode in both.items() if name in takes}

    def init(key):
        variables: Any = module.init({"params": key, "dropout": key}, example, **modes(True))
        params, _ = axes.of({name: x for name, x in variables.items() if name != STATISTICS})
        return params["params"]

    def apply(params, x, train, key=None, statistics=None):
        if statistics is not None:
            return module.apply({"params": params, STATISTICS: statistics}, x, **modes(train))
        how: Any = modes(True) | {"mutable": [STATISTICS]}
        try:
            rngs: Any = {"rngs": {"dropout": key}} if train else {}
            found: Any = module.apply({"params": params}, x, **rngs, **how)
        except InvalidRngError:  # as in normalise.statistics
            rngs = {"rngs": {"dropout": jax.random.key(0)}}
            found = module.apply({"params": params}, x, **rngs, **how)
        return found[0], dict(found[1]).get(STATISTICS, {})

    return init, apply
