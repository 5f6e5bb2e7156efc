"""A model of somebody's own that a config names, made ready as ``ist_jax.fit`` does."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import flax.nnx

from ist_jax.core.errors import InputError
from ist_jax.models import frameworks
from ist_jax.models import nnx as our_nnx
from ist_jax.run.job import Job

FEW = 32  # examples that the order of neurons is looked at with; of fewer, a variance may be 0


def net(
    kind: Callable[..., Any], widths: dict[str, int], example: Any, given: Mapping[str, Any]
) -> Any:
    """A model with the interface of a Linen module (``models.frameworks``).

    Args:
      kind: a class of Linen or of NNX, or a function of the widths that returns a module of Linen
        or ``(init, apply)``.
      widths: of each group.
      example: inputs ``[B, ...]``, or their shapes; None if they were not kept.
      given: what else it takes.

    Raises:
      InputError: as ``frameworks.of``; no example.
    """
    if example is None:
        raise InputError(
            "the shape of its inputs was not kept with this run, which an earlier version trained: "
            "its model cannot be made again. Its parameters can be read (ist_jax.checkpoint)"
        )
    if inspect.isclass(kind) and issubclass(kind, flax.nnx.Module):
        kind, given = our_nnx.functions(functools.partial(kind, **given)), {}
    build: Callable[..., Any] = kind
    made = build(widths=widths, **given)
    if isinstance(made, nn.Module) and hasattr(made, "widths"):
        return frameworks.of(made, example)
    normalise, rest = given.get("normalise"), {k: v for k, v in given.items() if k != "normalise"}
    return frameworks.of(functools.partial(kind, **rest), example, widths, normalise)


def check_order(job: Job, x: Any, sequences: Collection[str] = ()) -> None:
    """Refuses a model that knows the neurons that are cut by their order.

    Args:
      x: inputs ``[n, ...]``.
      sequences: groups whose members have an order, as the blocks of a stage.

    Raises:
      InputError: as ``frameworks.check_order``.
    """
    plan = job.trainer.plan
    uncut = plan.net.widths.keys() - plan.slots.keys()
    shapes, names = plan.net.shapes, plan.net.names
    frameworks.check_order(job.whole, x[:FEW], shapes, names, uncut | {*sequences})
