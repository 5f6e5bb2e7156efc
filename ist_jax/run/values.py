"""What each key of a config may hold: the type that it has in a known config, and bounds.

A key without a bound of its own takes numbers from 0 on. Whole numbers end where int32 does, which
JAX counts in; others lie where float32 still tells them from 0 and from infinity.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError

INT32 = 2**31 - 1
SMALL, LARGE = 1e-30, 1e30
LONGEST = 4096  # characters of a text; paths are no longer
OPEN = ("config.model.widths", "config.model.options", "config.data.options")  # any keys


class Bound(NamedTuple):
    """``least`` to ``most``; with ``above`` the least itself is left out, with ``below`` the most.

    Without ``most`` there is only the end of the type.
    """

    least: float = 0
    most: float | None = None
    above: bool = False
    below: bool = False

    @property
    def in_words(self) -> str:
        if self.most is None:
            return "positive" if self.above else f"at least {self.least}"
        ends = f"above {self.least}" if self.above else f"from {self.least}"
        last = "and below" if self.below else "and at most" if self.above else "to"
        return f"{ends} {last} {self.most}"

    def holds(self, value: int | float) -> bool:
        low = value > self.least if self.above else value >= self.least
        most = math.inf if self.most is None else self.most
        return low and (value < most if self.below else value <= most)


FROM_0, FROM_1, POSITIVE = Bound(0), Bound(1), Bound(0, above=True)
SHARE = Bound(0, 1, above=True, below=True)
SEED = Bound(0, 2**32 - 1)  # jax.random.key takes the last 32 bits: others would be one of these
SIZE = Bound(1, 2**16)  # of what arrays of arrays are made
TRAINING: Mapping[str, Bound] = {
    "seeds": SEED,
    "workers": SIZE,
    "local_steps": FROM_1,
    "rounds": FROM_1,
    "eval_every": FROM_1,
    "statistics_examples": Bound(256),
    "top": FROM_1,
    "shares": POSITIVE,
    "data.batch": FROM_1,
    "data.options.clusters": FROM_1,
    "data.options.clips": FROM_1,
    "data.options.most_features": FROM_1,
    "data.options.size": SIZE,
    "model.widths": FROM_1,
    "model.options.base": FROM_1,
    "model.options.blocks": FROM_1,
    "model.options.stages": FROM_1,
    "model.options.heads": FROM_1,
    "model.options.drop": Bound(0, 1, below=True),
    "model.options.drop_inputs": Bound(0, 1, below=True),
    "model.options.drop_hidden": Bound(0, 1, below=True),
    "optimizer.lr": POSITIVE,
    "optimizer.momentum": Bound(0, 1, below=True),
    "lottery.pruned": SHARE,
    "lottery.epochs": POSITIVE,
    "lottery.lr": POSITIVE,
    "xmc.block": FROM_1,
    "xmc.propensity": Bound(0, 100, above=True),
    "mesh.workers": Bound(0, 4096),
    "mesh.data": Bound(1, 4096),
    "checkpoint.last": FROM_1,
}
FIGURES: Mapping[str, Bound] = {
    "seed": SEED,
    "heterogeneities": Bound(0, 1),
    "condition": FROM_1,
    "spread": FROM_1,
    "share_of_largest": Bound(0, 1, above=True),
    "xi": Bound(0, 1, above=True),
    "sweep.xi": Bound(0, 1, above=True),
    **dict.fromkeys(
        ("workers", "sweep.workers", "dimension", "examples", "width", "sweep.width"), SIZE
    ),
    "kernel_widths": SIZE,
}
MAY_BE_EMPTY = ("config.shares", "config.lottery.pruned", "config.trackers")
# What a tuple holds that is empty where nobody asked.
EXAMPLES: Mapping[str, tuple[Any, ...]] = {"shares": (1.0,), "trackers": ("wandb",)}


def check(
    known: ConfigDict,
    config: ConfigDict,
    bounds: Mapping[str, Bound] = TRAINING,
    other: Bound = FROM_0,
) -> None:
    """Complains about keys that are unknown or missing, and about values of a wrong kind.

    Args:
      known: a config with every key there is, and a value of the right type.
      bounds: of numbers, by key; ``other`` is for the rest.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    _check_keys(known, config, "config")
    for key, example in _leaves(known):
        value = config
        for part in key.split("."):
            value = value[part]
        example = EXAMPLES.get(key, example)
        _check_value(f"config.{key}", example, value, bounds.get(key, other))


def check_options(
    where: str, given: Mapping[str, Any] | ConfigDict, examples: Mapping[str, Any]
) -> None:
    """The same for options; those without an example are for others to check."""
    for name, value in given.items():
        if name in examples:
            bound = TRAINING.get(f"{where}.{name}", FROM_0)
            _check_value(f"config.{where}.{name}", examples[name], value, bound)


def check_names(where: str, given: Mapping[Any, Any] | ConfigDict) -> None:
    """Keys that a config may make up must be names."""
    for name in given:
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise InputError(f"config.{where}: its keys must be names, found {shown(name)}")


def check_widths(widths: Mapping[str, Any] | ConfigDict) -> None:
    """Of groups."""
    for name, value in widths.items():
        _check_value(f"config.model.widths.{name}", 1, value, FROM_1)


def fields_of(model: Callable[..., Any]) -> dict[str, Any]:
    """The options of a model, and what they are where nobody asked."""
    ours = ("widths", "classes", "normalise", "affine", "logits", "gains", "external")
    return {
        name: parameter.default
        for name, parameter in inspect.signature(model).parameters.items()
        if name not in (*ours, "parent", "name")
    }


def options_of(load: Callable[..., Any]) -> dict[str, Any]:
    """The same of a data set."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(load).parameters.items()
        if name not in ("path", "cache", "skip_bad")
    }


def shown(value: Any) -> str:
    """What was found, in short."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write thousands of digits
        text = "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _leaves(known: ConfigDict, above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in known.items():
        if not isinstance(value, ConfigDict):
            found.append((above + key, value))
        elif f"config.{above}{key}" not in OPEN:
            found += _leaves(value, f"{above}{key}.")
    return found


def _check_keys(known: ConfigDict, given: ConfigDict, where: str) -> None:
    """Groups of neurons and options may have any name."""
    if where in OPEN:
        return
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), list(known), n=1)
            hint = (
                f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
            )
            raise InputError(f"unknown key {where}.{shown(key).strip(chr(39))}{hint}")
    for key in known:
        if key not in given:
            raise InputError(f"{where}.{key} is missing; ist_jax/run/schema.py says what it means")
        if isinstance(known[key], ConfigDict) != isinstance(given[key], ConfigDict):
            kind = "a group of keys" if isinstance(known[key], ConfigDict) else "a value"
            raise InputError(f"{where}.{key} must be {kind}, found {shown(given[key])}")
        if isinstance(known[key], ConfigDict):
            _check_keys(known[key], given[key], f"{where}.{key}")


def _check_value(key: str, example: Any, value: Any, bound: Bound) -> None:
    found = f", found {shown(value)}"
    if isinstance(example, bool):
        if not isinstance(value, bool):
            raise InputError(f"{key} must be True or False{found}")
    elif isinstance(example, int | float):
        _check_number(key, isinstance(example, int), value, bound)
    elif isinstance(example, str):
        if not isinstance(value, str):
            raise InputError(f"{key} must be text{found}")
        if len(value) > LONGEST or not value.isprintable():
            raise InputError(f"{key} must be text of one line and {LONGEST} characters{found}")
    elif isinstance(example, Sequence):
        right = isinstance(value, tuple) or (isinstance(value, list) and "options" in key)
        if not right:
            raise InputError(f"{key} must be a tuple, as {_looks(example)}{found}")
        if not value and key not in MAY_BE_EMPTY:
            raise InputError(f"{key} is empty; it must look like {_looks(example)}")
        for part in value:
            try:
                _check_value(key, example[0], part, bound)
            except InputError as error:
                raise InputError(f"{error} in {shown(value)}") from None


def _looks(example: Sequence[Any]) -> str:
    return "(0, 1, 2)" if example == (0,) else shown(tuple(example))


def _check_number(key: str, whole: bool, value: Any, bound: Bound) -> None:
    found = f", found {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InputError(f"{key} must be {'a whole number' if whole else 'a number'}{found}")
    if not bound.holds(value):
        raise InputError(f"{key} must be {bound.in_words}{found}")
    least, most = (-INT32 - 1, INT32) if whole else (-LARGE, LARGE)
    if bound.most is None and not least <= value <= most:
        raise InputError(f"{key} must be at most {most}{found}")
    if not whole and 0 < abs(value) < SMALL:
        raise InputError(f"{key} must not be that near to 0, which float32 takes it for{found}")
