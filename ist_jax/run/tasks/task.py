"""What a method trains, and what every kind of task makes it of: the config's net and batches."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from flax.core import FrozenDict
from ml_collections import ConfigDict

from ist_jax import method, partition
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.data import Batches
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.models.gcn import ENDS
from ist_jax.run import options

WIDEST = 2**26  # numbers in an array that an evaluation computes, 256 MiB

Compiled = Callable[..., Any]
OfNet = Callable[[Any], dict[str, Any]]


class Task(NamedTuple):
    """What a method trains.

    Attributes:
      model: the whole net.
      first: what it is initialised with.
      external: the groups whose neurons come with the batches, and a worker's slots of each.
      loss: of a subnet's model.
      batches: of a seed and the workers wanted.
      statistics: with a way to compile, a net's that it is evaluated with; none of some nets.
      measure: with a way to compile and the net's statistics, what is measured of a net.
      example: shapes of one local step's batch.
      common: what every step sees beside its batch (``ist_jax.build``), or None.
      gains: of the model where it is evaluated.
    """

    model: nn.Module
    first: Any
    external: Mapping[str, int]
    loss: Callable[[nn.Module], Loss]
    batches: Callable[[int, Sequence[int]], Any]
    statistics: Callable[[Compiled], OfNet]
    measure: Callable[[Compiled, OfNet], OfNet]
    example: Any
    common: Any = None
    gains: Mapping[str, float] = FrozenDict()


def method_of(config: ConfigDict, name: str) -> Method:
    """The method a config means by a name."""
    return method.named(name, **options.of_method(config, name))


def build_net(
    kind: Callable[..., nn.Module],
    config: ConfigDict,
    widths: dict[str, int],
    how: Method,
    **more: Any,
) -> nn.Module:
    """The config's net, or for a narrow method one as wide as a subnet.

    Somebody's own is given of ``more`` and ``normalise`` what its signature takes.

    Raises:
      InputError: options that the net does not take.
    """
    if how.meant.narrow:
        hidden = {g: n for g, n in widths.items() if g not in ENDS}
        cut = method_of(config, how.meant.narrow).draw
        widths = widths | partition.sub_widths(cut, hidden, config.workers)
    more = {"normalise": config.normalise, **more}
    if by_name.is_theirs(config.model.name):
        takes = inspect.signature(kind).parameters
        more = {name: value for name, value in more.items() if name in takes}
    try:
        return kind(widths=widths, **more, **config.model.options)
    except TypeError as error:
        raise InputError(
            f"config.model.options does not fit model {config.model.name!r}: {error}"
        ) from None


def batches(config: ConfigDict, data: Any, count: int, seed: int, own: Sequence[int]) -> Batches:
    """The batches of some of the ``count`` workers.

    Raises:
      InputError: a batch that is larger than the data set.
    """
    if config.data.batch > len(data.train_x):
        raise InputError(
            f"config.data.batch={config.data.batch} is more than all {len(data.train_x)} examples "
            f"of {data.name}"
        )
    return Batches(
        data.train_x,
        data.train_y,
        workers=count,
        classes=data.classes,
        of=own,
        batch=config.data.batch,
        local_steps=config.local_steps,
        seed=seed,
        split=config.data.split,
        skew=config.data.skew if count > 1 else 0.0,
    )
