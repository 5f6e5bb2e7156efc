"""Configs compared: key by key, also with what a run was."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import strict_json
from ist_jax.core.errors import InputError

# What may be another when a run goes on; anything else would make it another run.
MAY_CHANGE = (
    "workers",
    "rounds",
    "methods",
    "seeds",
    "mesh",
    "checkpoint",
    "data.path",
    "data.cache",
    "faults",
    "on_",
    "round_timeout_s",
    "link_",
    "lottery.",
    "tensorboard",
    "trackers",
)


# Keys that had another name in configs that were written before (version 0.1).
RENAMED = {"optimiser_state": "optimizer_state"}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of any version with the keys of today."""
    return {RENAMED.get(key, key): value for key, value in config.items()}


def of_today(word: str) -> str:
    """A word of a command of any version, with the keys of today: ``--config.KEY=...``."""
    flag, given, value = word.partition("=")
    key = flag.removeprefix("--config.")
    return f"--config.{RENAMED[key]}{given}{value}" if key in RENAMED else word


def as_json(config: ConfigDict, **how: Any) -> str:
    """A config as JSON.

    Raises:
      InputError: one of its numbers is NaN or infinite.
    """
    return strict_json.dumps(json.loads(config.to_json_best_effort()), "config", **how)


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one, its keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def same(config: ConfigDict, stored: str, where: str) -> None:
    """Makes sure that a run goes on as what it was.

    Args:
      stored: its config, as JSON.

    Raises:
      InputError: naming a key that differs and may not.
    """
    try:
        old = flat(current(json.loads(stored)))
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{where}: its config cannot be read") from None
    new = flat(json.loads(as_json(config)))
    for key in sorted(new.keys() | old.keys()):
        if not key.startswith(MAY_CHANGE) and new.get(key) != old.get(key):
            raise InputError(
                f"{where} holds another experiment: config.{key} was "
                f"{old.get(key, 'not there')!r}, now it is {new.get(key, 'not there')!r}"
            )
