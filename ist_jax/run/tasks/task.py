"""What a method trains, and what every kind of task makes it of: the config's net and batches."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from ist_jax import named, partition
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.data import Batches
from ist_jax.method import Method
from ist_jax.models import MODELS
from ist_jax.models.gcn import ENDS
from ist_jax.run import options


def method_of(config: ConfigDict, name: str) -> Method:
    """The method a config means by a name."""
    return named.find(name, **options.of_method(config, name))


def net(config: ConfigDict, how: Method, classes: int, example: Any) -> Any:
    """The whole net of a config, as wide as a method is to train it.

    Args:
      example: inputs ``[B, ...]``, or their shapes; None if they are not known.
    """
    return build_net(
        by_name.found(config.model.name, MODELS, "config.model.name"),
        config,
        dict(config.model.widths),
        how,
        example,
        classes=classes,
        affine=config.model.affine,
        logits=config.model.logits,
    )


def build_net(
    kind: Callable[..., nn.Module],
    config: ConfigDict,
    widths: dict[str, int],
    how: Method,
    example: Any = None,
    **more: Any,
) -> Any:
    """The config's net, or for a narrow method one as wide as a subnet.

    It is given of ``more`` and ``normalise`` what its signature takes.

    Args:
      example: inputs ``[B, ...]`` or their shapes, for a net of somebody's own.

    Raises:
      InputError: options that the net does not take, or what is no net.
    """
    if how.meant.narrow:
        hidden = {g: n for g, n in widths.items() if g not in ENDS}
        cut = method_of(config, how.meant.narrow).draw
        widths = widths | partition.sub_widths(cut, hidden, config.workers)
    more = {"normalise": config.normalise, **more}
    theirs = by_name.is_theirs(config.model.name)
    if not by_name.takes_any(kind):
        takes = by_name.parameters(kind)
        more = {name: value for name, value in more.items() if name in takes}
    given = {**more, **options.plain(config.model.options)}
    try:
        if not theirs:
            return kind(widths=widths, **given)
        from ist_jax.run.tasks.theirs import net  # imports NNX, half a second

        return net(kind, widths, example, given)
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
