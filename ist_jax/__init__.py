"""Independent Subnet Training and its family.

In reading order: ``axes`` (which axes are neurons), ``partition`` (who trains which), ``decompose``
(subnets out of the net, and back), ``local`` (J steps of a subnet), ``method`` (what makes the
baselines different), ``plan`` (what is known before a round), ``one_round`` (all of it, once),
``trainer`` (``build``, and what it gives).

Nothing is imported before it is used: ``import ist_jax`` is enough for ``ist_jax.decompose``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time ``__getattr__`` finds them
    from ist_jax import (
        axes,
        checkpoint,
        compress,
        cost,
        data,
        decompose,
        depth,
        export,
        local,
        method,
        models,
        partition,
        pruning,
        sketch,
        tasks,
        theory,
        trainer,
    )
    from ist_jax.core.errors import CheckpointError, InputError
    from ist_jax.one_call import fit, load
    from ist_jax.run.trained import Run
    from ist_jax.sharded.placement import mesh
    from ist_jax.sharded.state import State
    from ist_jax.trainer import Report, Trainer, build

__version__ = "0.2.0"

_OF_MODULES = {
    "CheckpointError": "core.errors",
    "InputError": "core.errors",
    "Report": "trainer",
    "Run": "run.trained",
    "State": "sharded.state",
    "Trainer": "trainer",
    "build": "trainer",
    "fit": "one_call",
    "load": "one_call",
    "mesh": "sharded.placement",
}
__all__ = [
    "CheckpointError",
    "InputError",
    "Report",
    "Run",
    "State",
    "Trainer",
    "axes",
    "build",
    "checkpoint",
    "compress",
    "cost",
    "data",
    "decompose",
    "depth",
    "export",
    "fit",
    "load",
    "local",
    "mesh",
    "method",
    "models",
    "partition",
    "pruning",
    "sketch",
    "tasks",
    "theory",
    "trainer",
]


def __getattr__(name: str) -> Any:
    if name in _OF_MODULES:
        found = getattr(importlib.import_module(f"ist_jax.{_OF_MODULES[name]}"), name)
        globals()[name] = found
        return found
    if name in __all__:  # the rest are modules
        return importlib.import_module(f"ist_jax.{name}")
    raise AttributeError(f"module 'ist_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
