"""Modules of Flax Linen as two functions, whether or not their axes have names."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

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
        rngs = {} if key is None else {"dropout": key}
        how: dict[str, Any] = {"mutable": [STATISTICS]} if train else {}
        variables = {"params": params, STATISTICS: statistics or {}}
        found: Any = module.apply(variables, x, rngs=rngs, **modes(train), **how)
        return (found[0], dict(found[1]).get(STATISTICS, {})) if train else found

    return init, apply
