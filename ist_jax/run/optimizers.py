"""The optimizer of a config: clipping, weight decay, a schedule and an update, all optax's."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType

import optax
from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError

Make = Callable[..., optax.GradientTransformation]


def make(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """The optimizer of so many steps.

    Raises:
      InputError: an unknown schedule or optimizer, or a momentum where it takes none.
    """
    wanted = config.optimizer
    schedules = {
        "constant": lambda: wanted.lr,
        "cosine": lambda: optax.cosine_decay_schedule(wanted.lr, steps),
        "steps": lambda: optax.piecewise_constant_schedule(
            wanted.lr, {steps // 2: 0.1, 3 * steps // 4: 0.1}
        ),
    }
    if wanted.schedule not in schedules:
        raise InputError(
            f"config.optimizer.schedule must be one of {sorted(schedules)}, found "
            f"{wanted.schedule!r}"
        )
    before = []
    if wanted.clip:
        before.append(optax.clip_by_global_norm(wanted.clip))
    if wanted.weight_decay:
        before.append(optax.add_decayed_weights(wanted.weight_decay))
    more = {"momentum": wanted.momentum} if wanted.momentum else {}
    return optax.chain(
        *before, named(wanted.name, wanted.momentum)(schedules[wanted.schedule](), **more)
    )


def named(name: str, momentum: float | int) -> Make:
    """The function of optax of that name, or ``module:function``: a learning rate, and options.

    Raises:
      InputError: there is none that a learning rate is enough for, or a momentum that it does not
        take.
    """
    make = by_name.found(name, known(), "config.optimizer.name")
    if momentum and "momentum" not in inspect.signature(make).parameters:
        raise InputError(
            f"config.optimizer.momentum is {momentum}, and {name!r} takes none: set it to 0"
        )
    return make


@functools.cache
def known() -> dict[str, Make]:
    """Optax's optimizers that need a learning rate and nothing else, by name.

    ``lbfgs`` is left out: its line search needs more than a gradient, and its history is not reset.
    """
    found: dict[str, Make] = {}
    for name, make in vars(optax).items():
        if not isinstance(make, FunctionType) or name.startswith(("_", "scale_by_")):
            continue
        arguments = [*inspect.signature(make).parameters.values()]
        enough = all(other.default is not other.empty for other in arguments[1:])
        rate_first = [argument.name for argument in arguments[:1]] == ["learning_rate"]
        if rate_first and enough and name != "lbfgs":
            found[name] = make
    return found
