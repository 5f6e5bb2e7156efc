"""A config of any version as one of today: what is on disk and in recorded commands stays of use.

A config tells its version (``config.version``); the first did not. ``STEPS[n]`` makes version n + 1
of n. A key that has come since, and whose usual value is what was done before, needs no step: what
is stored is laid over today's defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

import ist_jax
from ist_jax.core.errors import InputError
from ist_jax.run import overlay, schema

VERSION = schema.VERSION
# A method that has no options, and trains on what those of another draw.
LOOKS_AT = {"dense_subnet": "ist", "shallow_ensemble": "resist"}

RENAMED = {"optimiser_state": "optimizer_state"}  # by 0.1, before there were versions
TENSORBOARD = "tensorboard"  # a key of version 1, true or false
# Keys of version 1 that became options of methods: the usual value, and of which.
DRAWN = {
    "assignment": ("permutation", ("ist", "ensemble")),
    "shares": ([], ("ist", "ensemble")),
    "min_depth": (0, ("resist",)),
}
XMC = {"loss": "logistic", "sampled": 0, "block": 8192, "propensity": [0.55, 1.5]}


def upgrade(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with the keys of today.

    Args:
      stored: nested or flat (keys joined by dots), of any version; all keys, or some.

    Returns:
      Nested mappings, without the keys that have come since.

    Raises:
      InputError: it is of a newer version than this library knows.
    """
    config = overlay.tree(stored)
    version = config.pop("version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InputError(f"config.version must be a whole number from 1, found {version!r}")
    if version > VERSION:
        raise InputError(
            f"config.version is {version}, and ist_jax {ist_jax.__version__} knows versions up to "
            f"{VERSION}: use a newer ist_jax"
        )
    for step in STEPS[version - 1 :]:
        config = step(config)
    return config


def config_of(stored: Mapping[str, Any]) -> ConfigDict:
    """The same as a config: what it does not say is as in ``schema.default``.

    Raises:
      InputError: also a key that no version had, or a value in place of a group.
    """
    return overlay.lay(schema.default(), upgrade(stored))


def looked_at(methods: Sequence[str]) -> set[str]:
    """The methods whose options matter where these are trained."""
    return {*methods, *(LOOKS_AT[name] for name in methods if name in LOOKS_AT)}


def moved(key: str, methods: Sequence[str] = ("ist", "resist")) -> list[str]:
    """Where a key of an earlier version stands today; nothing if it had no such key."""
    if key in RENAMED:
        return [RENAMED[key]]
    if key == TENSORBOARD:
        return ["trackers"]
    if key in DRAWN:
        of = [name for name in DRAWN[key][1] if name in looked_at(methods)]
        return [f"method_options.{name}.{key}" for name in of or DRAWN[key][1][:1]]
    group, dot, option = key.partition(".")
    return [f"task.options{dot}{option}"] if group == "xmc" and option in ("", *XMC) else []


def of_today(word: str, methods: Sequence[str] = ("ist", "resist")) -> list[str]:
    """A word of a command of any version, ``--config.KEY=...``, with the keys of today.

    Args:
      methods: that the command trained: a key may have become an option of several.

    Example:
      >>> of_today("--config.xmc.sampled=100"), of_today("--config.seeds=(0,)")
      (['--config.task.options.sampled=100'], ['--config.seeds=(0,)'])
    """
    flag, equals, value = word.partition("=")
    keys = moved(flag.removeprefix("--config."), methods) if flag.startswith("--config.") else []
    if flag == f"--config.{TENSORBOARD}":
        return ["--config.trackers=tensorboard"] if value in ("", "True", "true", "1") else []
    return [f"--config.{key}{equals}{value}" for key in keys] or [word]


def _from_1(config: dict[str, Any]) -> dict[str, Any]:
    """Keys for one method, or one task, became options of those that look at them; TensorBoard
    became one tracker of several."""
    found = {RENAMED.get(key, key): value for key, value in config.items()}
    if found.pop(TENSORBOARD, False):
        found["trackers"] = (TENSORBOARD,)
    methods = looked_at(found.get("methods", ("ist", "ensemble", "resist")))
    options: dict[str, Any] = {}
    for key, (usual, names) in DRAWN.items():
        value = found.pop(key, usual)
        for name in names:
            if name in methods and _json(value) != usual:
                options.setdefault(name, {})[key] = value
    if options:
        found["method_options"] = options
    xmc = found.pop("xmc", {})
    task = {key: value for key, value in xmc.items() if _json(value) != XMC.get(key)}
    if task and found.get("model", {}).get("name", "xmc") == "xmc":
        found["task"] = {"options": task}
    return found


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_1,)
assert len(STEPS) == VERSION - 1
