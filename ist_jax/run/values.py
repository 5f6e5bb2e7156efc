"""What each key of a config may hold: the type that it has in a known config, and bounds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.run.bounds import FROM_0, FROM_1, INT32, LARGE, SMALL, TRAINING, Bound

LONGEST = 4096  # characters of a text; paths are no longer
OPEN = (  # groups of any keys
    "config.method_options",
    "config.data.options",
    "config.model.widths",
    "config.model.options",
    "config.task.options",
    "config.optimizer.options",
    "config.optimizer.schedule_options",
)


MAY_BE_EMPTY = ("shares", "pruned", "skip", "trackers")
# What a tuple holds that is empty where nobody asked.
HOLDS: Mapping[str, tuple[Any, ...]] = {
    "shares": (1.0,),
    "skip": ("id",),
    "trackers": ("tensorboard",),
}


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
        check_value(key, example, value, bounds.get(key, other))


def check_options(
    where: str,
    given: Mapping[str, Any] | ConfigDict,
    examples: Mapping[str, Any],
    other: Bound = FROM_0,
) -> None:
    """The same for options; those without an example are for others to check."""
    for name, value in given.items():
        if name in examples:
            bound = TRAINING.get(f"{where}.{name}", other)
            check_value(f"{where}.{name}", examples[name], value, bound)


def check_names(where: str, given: Mapping[Any, Any] | ConfigDict) -> None:
    """Keys that a config may make up must be names."""
    for name in given:
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise InputError(f"config.{where}: its keys must be names, found {shown(name)}")


def check_widths(widths: Mapping[str, Any] | ConfigDict) -> None:
    """Of groups."""
    for name, value in widths.items():
        check_value(f"model.widths.{name}", 1, value, FROM_1)


def check_value(key: str, example: Any, value: Any, bound: Bound) -> None:
    """One value, beside one of the right type."""
    last = key.rpartition(".")[2]
    _check_value(f"config.{key}", HOLDS.get(last, example), value, bound)


def unknown_key(key: str, known: Mapping[str, Any] | ConfigDict) -> str:
    """What is wrong with a key that is none of those known in its group."""
    last = key.rpartition(".")[2]
    return f"unknown key config.{shown(key).strip(chr(39))}{by_name.hint(last, known)}"


def wrong_kind(key: str, group: bool, found: Any) -> str:
    """What is wrong with a key that should be a group of keys, or should be none."""
    kind = "a group of keys" if group else "a value"
    return f"config.{key} must be {kind}, found {shown(found)}"


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
    inner = where.removeprefix("config").removeprefix(".")
    above = f"{inner}." if inner else ""
    for key in given:
        if key not in known:
            raise InputError(unknown_key(f"{above}{shown(key).strip(chr(39))}", known))
    for key in known:
        if key not in given:
            raise InputError(f"{where}.{key} is missing; ist_jax/run/schema.py says what it means")
        if isinstance(known[key], ConfigDict) != isinstance(given[key], ConfigDict):
            group = isinstance(known[key], ConfigDict)
            raise InputError(wrong_kind(above + key, group, given[key]))
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
        if not value and not key.endswith(MAY_BE_EMPTY):
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
