"""The options of tasks (``config.task.options``), by the kind of data that they are for."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.run import options, values
from ist_jax.tasks import blockwise


class ManyLabels(NamedTuple):
    """Of sparse examples with several labels, the task of model ``xmc``.

    Attributes:
      loss: ``logistic`` or ``softmax``.
      sampled: labels that IST trains beside a round's own; 0: all labels.
      block: labels whose logits exist at once.
      propensity: A and B of propensity-scored precision.
    """

    loss: str = "logistic"
    sampled: int = 0
    block: int = 8192
    propensity: tuple[float, float] = (0.55, 1.5)


OPTIONS: Mapping[str, Callable[..., Any]] = {"xmc": ManyLabels}  # by the model; others have none


def many_labels(config: ConfigDict) -> ManyLabels:
    """Those of a config."""
    return ManyLabels(**config.task.options)


def check(model: str, given: ConfigDict) -> None:
    """Complains about options that the task of that model does not have, and about their values.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    kind, key = OPTIONS.get(model, lambda: None), "config.task.options"
    by_name.check_options(kind, options.plain(given), f"the task of model {model!r}", key)
    values.check_options("task.options", given, by_name.options_of(kind))
    loss = given.get("loss", ManyLabels().loss)
    if loss not in blockwise.KINDS:
        raise InputError(
            f"{key}.loss must be {' or '.join(map(repr, blockwise.KINDS))}, found {loss!r}"
            f"{by_name.near(loss, blockwise.KINDS)}"
        )
    if len(found := given.get("propensity", (1, 1))) != 2:
        raise InputError(f"{key}.propensity must be two numbers, found {found}")
