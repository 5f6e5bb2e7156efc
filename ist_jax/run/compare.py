"""Configs compared: key by key, also with what a run was."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.run import upgrade

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


def read(stored: str, where: str) -> ConfigDict:
    """A stored config of any version, as one of today.

    Args:
      stored: its JSON.

    Raises:
      InputError: it is none, or of a newer version.
    """
    try:
        return upgrade.config_of(json.loads(stored))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InputError(f"{where}: its config cannot be read") from None


def same(config: ConfigDict, stored: str, where: str) -> None:
    """Makes sure that a run goes on as what it was.

    Args:
      stored: its config, as JSON.

    Raises:
      InputError: naming a key that differs and may not.
    """
    was = read(stored, where)
    old, new = (flat(json.loads(as_json(one))) for one in (was, config))
    of = upgrade.looked_at(was.methods) & upgrade.looked_at(config.methods)
    for key in sorted(new.keys() | old.keys()):
        if key.startswith("method_options.") and not key.startswith(
            tuple(f"method_options.{name}." for name in of)
        ):
            continue  # options of a method that only one of the two trains
        if not key.startswith(MAY_CHANGE) and new.get(key) != old.get(key):
            raise InputError(
                f"{where} holds another experiment: config.{key} was "
                f"{old.get(key, 'not there')!r}, now it is {new.get(key, 'not there')!r}"
            )
