"""What differs, laid over a config: trees of plain values, as JSON, YAML and flags have them.

In an open group (``values.OPEN``: widths, options) any key may stand. It is replaced as a whole,
since options of one model mean nothing to another. A dot in a key is a step of the tree, as it is
in a flag: ``{"their.package:method": {"least": 2}}`` is ``{"their": {"package:method": ...}}``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import values

Place = Callable[[str], str]  # of a key, for a message's first words: "my.yaml, line 3: "
DEEPEST = 16


def lay(config: ConfigDict, changes: Mapping[str, Any], place: Place = lambda _: "") -> ConfigDict:
    """Changes a config in place; gives it back.

    Args:
      changes: keys of the config and their values; lists become tuples, and so does a single value
        where a tuple is.

    Raises:
      InputError: a key that the config does not have (the nearest are named), a value in place of
        a group or the other way round.
    """
    _lay(config, changes, "", place)
    return config


def put(config: ConfigDict, key: str, value: Any) -> None:
    """Sets a key of an open group, ``"method_options.resist.min_depth"``; steps are made."""
    *above, last = key.split(".")
    for step in above:
        if not isinstance(config.get(step), ConfigDict):
            _set(config, step, ConfigDict())
        config = config[step]
    _set(config, last, value)


def tree(value: Any, depth: int = 0) -> Any:
    """Mappings with dots taken for steps, lists as tuples.

    Raises:
      InputError: nested without end.
    """
    if depth > DEEPEST:
        raise InputError(f"config: nested more than {DEEPEST} deep")
    if isinstance(value, list | tuple):
        return tuple(tree(part, depth + 1) for part in value)
    if not isinstance(value, Mapping | ConfigDict):
        return value
    found: dict[Any, Any] = {}
    for key, part in value.items():
        *above, last = key.split(".") if isinstance(key, str) else (key,)
        inner = found
        for step in above:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise InputError(f"config.{key} is there, and {step} with a value of its own")
        part = tree(part, depth + 1 + len(above))
        _add(inner, last, part)
    return found


def _add(inner: dict[Any, Any], key: Any, part: Any) -> None:
    """Puts a value into a group, which may hold some of its keys already."""
    if key not in inner:
        inner[key] = part
        return
    if not isinstance(part, dict) or not isinstance(inner[key], dict):
        raise InputError(f"config: {key} is there twice")
    for below, value in part.items():
        _add(inner[key], below, value)


def _lay(config: ConfigDict, changes: Mapping[str, Any], above: str, place: Place) -> None:
    for key, value in changes.items():
        full = f"{above}{key}"
        if key not in config:
            raise InputError(f"{place(full)}{values.unknown_key(full, config)}")
        group = isinstance(config[key], ConfigDict)
        if group != isinstance(value, Mapping | ConfigDict):
            raise InputError(f"{place(full)}{values.wrong_kind(full, group, value)}")
        if group and f"config.{full}" not in values.OPEN:
            _lay(config[key], value, f"{full}.", place)
        else:
            _set(config, key, ConfigDict(tree(value)) if group else tree(value))


def _set(config: ConfigDict, key: str, value: Any) -> None:
    with config.unlocked(), config.ignore_type():  # types are for ``values`` to check
        usual = config.get(key)
        if isinstance(usual, tuple) and isinstance(value, str | int | float):
            value = (value,)
        elif isinstance(usual, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, bool) and not isinstance(usual, bool) and key in config:
            del config[key]  # a ConfigDict makes 1.0 of True in place of a number
        config[key] = value
