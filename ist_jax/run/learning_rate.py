"""The learning rate of every step: the schedule that a config names, and a warm-up before it.

``constant``, ``cosine`` and ``steps`` (a tenth, from half and again from three quarters) need no
more. Any other schedule is a function: optax's by its name, or ``"module:function"``. It is called
with ``schedule_options``, and with what they leave out:

* the learning rate of the config is its ``peak_value``, or if it has none its ``value``,
  ``init_value``, ``learning_rate`` or ``lr``: the first that it has, and it must have one;
* where that is the peak, ``init_value`` is 0;
* ``decay_steps``, ``transition_steps``, ``total_steps`` and ``steps`` are the number of steps that
  are trained, those of the warm-up left out.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError, first_line
from ist_jax.run import options, values
from ist_jax.run.bounds import ANY

RATE = ("peak_value", "value", "init_value", "learning_rate", "lr")
STEPS = ("decay_steps", "transition_steps", "total_steps", "steps")
KEY = "config.optimizer.schedule"
Rate = float | Callable[[Any], Any]


def make(wanted: ConfigDict, steps: int) -> Rate:
    """The rate of so many steps: a number, or a function of the step.

    Args:
      wanted: ``config.optimizer``.

    Raises:
      InputError: an unknown schedule or option, one that is missing, or values that the schedule
        refuses; a warm-up that leaves no step.
    """
    warm = wanted.warm_up_steps
    if warm and warm >= steps:
        raise InputError(
            f"config.optimizer.warm_up_steps={warm} leaves none of {steps} steps (config.rounds or "
            "epochs, times local_steps)"
        )
    after = _named(wanted, steps - warm)
    if not warm:
        return after
    then = after if callable(after) else optax.constant_schedule(after)
    # Nothing may be computed yet: the devices are not made before a config is checked.
    return optax.join_schedules([lambda step: then(0) * (step + 1) / warm, then], [warm])


@functools.cache
def known() -> dict[str, Callable[..., Any]]:
    """Optax's schedules that have a learning rate among their arguments, by name."""
    found = {
        name: function
        for name, function in vars(optax.schedules).items()
        if isinstance(function, FunctionType) and name.endswith(("_schedule", "_decay"))
    }
    return {name: function for name, function in found.items() if _rate_of(function)}


def _simple(rate: float, steps: int) -> dict[str, Callable[[], Rate]]:
    return {
        "constant": lambda: rate,
        "cosine": lambda: optax.cosine_decay_schedule(rate, steps),
        "steps": lambda: optax.piecewise_constant_schedule(
            rate, {steps // 2: 0.1, 3 * steps // 4: 0.1}
        ),
    }


def _named(wanted: ConfigDict, steps: int) -> Rate:
    simple, given = _simple(float(wanted.lr), steps), options.plain(wanted.schedule_options)
    function = by_name.found(wanted.schedule, {**simple, **known()}, KEY)
    if wanted.schedule in simple:
        by_name.check_options(function, given, f"schedule {wanted.schedule!r}", f"{KEY}_options")
        return function()
    filled = given | _filled(wanted, function, given, steps)
    by_name.check_options(function, filled, f"schedule {wanted.schedule!r}", f"{KEY}_options")
    usual = options.examples(function)
    values.check_options("optimizer.schedule_options", given, usual, ANY)
    try:
        schedule = function(**filled)
        shape = jax.eval_shape(schedule, 0).shape
    except Exception as error:  # a stranger's function
        raise InputError(
            f"{KEY}={wanted.schedule!r} fails with {values.shown(filled)} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    if shape:
        raise InputError(f"{KEY}={wanted.schedule!r} must give a number, found shape {shape}")
    return schedule


def _filled(
    wanted: ConfigDict, function: Callable[..., Any], given: dict[str, Any], steps: int
) -> dict[str, Any]:
    """What a schedule is called with, beside the options."""
    takes, rate = by_name.options_of(function), _rate_of(function)
    if rate is None:
        raise InputError(
            f"{KEY}={wanted.schedule!r} must take the learning rate as one of {', '.join(RATE)}"
        )
    if rate in given:
        raise InputError(
            f"{KEY}_options.{rate} is the learning rate: set config.optimizer.lr in its place"
        )
    start = {"init_value": 0.0} if rate == "peak_value" and "init_value" in takes else {}
    number = {name: steps for name in STEPS if name in takes}
    return {
        name: value
        for name, value in {rate: float(wanted.lr), **start, **number}.items()
        if name not in given
    }


def _rate_of(function: Callable[..., Any]) -> str | None:
    takes = by_name.options_of(function)
    return next((name for name in RATE if name in takes), None)
