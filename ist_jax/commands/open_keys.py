"""Words of a command that set a key of an open group: options and widths, which any name may have.

    --config.optimizer.options.b1=0.95
    --config.optimizer.options='{"b1": 0.95, "nesterov": true}'
    --config.method_options.resist.min_depth=2

A value is a literal of Python or JSON, and any other text is itself. All at once replaces what the
config had; one at a time leaves the others. (Other keys are ml_collections' own business: they are
known before.)
"""

import ast
import json
import re
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import overlay, values

LONGEST = 100_000  # characters of a value


class Word(NamedTuple):
    """``key`` as in the config, without its first part; ``value`` as it was found."""

    key: str
    value: str


def split(argv: list[str]) -> tuple[list[str], list[Word]]:
    """The words of a command without those that set keys of open groups, and those."""
    rest: list[str] = []
    ours: list[Word] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        key = re.sub(r"^--?", "", flag)
        if equals and flag.startswith("-") and _group(key):
            ours.append(Word(key.removeprefix("config."), value))
        else:
            rest.append(word)
    return rest, ours


def put(config: ConfigDict, words: list[Word]) -> None:
    """Sets what the words say: groups as a whole first, then single keys.

    Raises:
      InputError: a group that is no mapping, a value that is no literal, or a config without that
        group.
    """
    for word in sorted(words, key=lambda word: f"config.{word.key}" not in values.OPEN):
        group = _group(f"config.{word.key}")
        value = overlay.tree(_literal(word.value))
        found = config
        for step in group.split(".")[1:-1]:
            found = found.get(step, ConfigDict())
        if group.split(".")[-1] not in found:
            raise InputError(f"--{group}: this config has no such group")
        if f"config.{word.key}" != group:
            overlay.put(config, word.key, ConfigDict(value) if isinstance(value, dict) else value)
        elif isinstance(value, dict):
            overlay.put(config, word.key, ConfigDict(value))
        else:
            raise InputError(
                f"--config.{word.key} must be a mapping, as '{{\"name\": 1}}', or set one of its "
                f"keys: --config.{word.key}.name=1; found {values.shown(value)}"
            )


def _group(key: str) -> str:
    """The open group that a key is of, or is."""
    return next((group for group in values.OPEN if f"{key}.".startswith(f"{group}.")), "")


def _literal(text: str) -> Any:
    if len(text) > LONGEST:
        raise InputError(f"a value of {len(text)} characters is too long for a flag")
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text.strip())
        except Exception:  # of strange text they raise five kinds
            continue
    return text
