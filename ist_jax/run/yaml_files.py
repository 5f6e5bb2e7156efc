"""A config in YAML: what differs from the usual values, or from another config.

    base: quickstart:tiny        # optional: a config by its name, and its variant
    workers: 8
    optimizer: {name: adamw, lr: 1e-3, options: {b2: 0.95}}

Read as ``yaml.safe_load`` does, with three differences: a key twice is refused, so is an alias, and
``1e-3`` is a number (in YAML 1.1 it is text). What is wrong is told with file, line and key.
"""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import bounds, overlay, upgrade, values

LARGEST = 1 << 20  # bytes of a file
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")

PLAIN = {"sequence": "tag:yaml.org,2002:seq", "mapping": "tag:yaml.org,2002:map"}


class Document(NamedTuple):
    """What a file says: the config that it derives from, what differs, and in which line."""

    path: Path
    base: str
    changes: dict[str, Any]
    lines: dict[str, int]  # of every key, dots between its steps

    def place(self, key: str) -> str:
        """The first words of a message about a key."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}, line {self.lines.get(key, 1)}: "


def read(path: str | os.PathLike[str]) -> Document:
    """What a file says.

    Raises:
      InputError: a file that cannot be read or is no YAML, a key twice, keys that are no text.
    """
    path = Path(path)
    lines: dict[str, int] = {}
    try:
        tree = _value(path, _root(path), "", lines, set())
    except RecursionError:
        raise InputError(f"{path}: nested too deep") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} must hold keys of a config and their values")
    base = tree.pop("base", "")
    if not isinstance(base, str):
        place = Document(path, "", {}, lines).place("base")
        raise InputError(f"{place}base must be the name of a config, found {values.shown(base)}")
    return Document(path, base, tree, lines)


def lay(config: ConfigDict, document: Document) -> ConfigDict:
    """What a file says laid over a config, in place; gives it back.

    Raises:
      InputError: a key that the config does not have, or a value that it cannot have.
    """
    try:
        changes = upgrade.upgrade({"version": upgrade.VERSION, **document.changes})
    except InputError as error:
        raise InputError(f"{document.place('version')}{error}") from None
    usual = config.copy_and_resolve_references()
    overlay.lay(config, changes, document.place)
    limits, other = bounds.TRAINING, bounds.FROM_0
    if "figure" in config:
        limits, other = bounds.FIGURES, bounds.POSITIVE
    for key, value in _leaves(config, changes):
        try:
            values.check_value(key, usual[key], value, limits.get(key, other))
        except InputError as error:
            raise InputError(f"{document.place(key)}{error}") from None
    return config


def _leaves(config: ConfigDict, changes: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Keys outside of open groups, and what they have become."""
    found: list[tuple[str, Any]] = []
    for key, value in changes.items():
        if not isinstance(value, dict):
            found.append((above + key, config[above + key]))
        elif f"config.{above}{key}" not in values.OPEN:
            found += _leaves(config, value, f"{above}{key}.")
    return found


def _root(path: Path) -> Any:
    """The tree of a file's nodes, which still have their lines."""
    import yaml

    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has more than {LARGEST} bytes: that is no config")
        return yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise InputError(f"{path}{line}: that is no YAML ({problem})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _value(path: Path, node: Any, key: str, lines: dict[str, int], seen: set[int]) -> Any:
    """A node as a plain value; the lines of its keys are noted."""
    if node is None:
        return {}
    here = f"{path}, line {node.start_mark.line + 1}: "
    if id(node) in seen:
        raise InputError(f"{here}aliases (*name) are not taken: write the value again")
    seen.add(id(node))
    if node.id != "scalar" and node.tag != PLAIN[node.id]:
        raise InputError(f"{here}tags ({node.tag}) are not taken")
    inner = functools.partial(_value, path, lines=lines, seen=seen)
    if node.id == "sequence":
        return [inner(part, key) for part in node.value]
    if node.id == "mapping":
        return _mapping(node, key, lines, here, inner)
    return _scalar(node, here)


def _mapping(
    node: Any, above: str, lines: dict[str, int], here: str, inner: Callable[..., Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in node.value:
        if name.id != "scalar":
            raise InputError(f"{here}a key must be a word, found a {name.id}")
        key, line = str(name.value), name.start_mark.line + 1
        full = f"{above}.{key}" if above else key
        if key in found:
            first = lines[full]
            file = here.rpartition(", line")[0]
            raise InputError(f"{file}, line {line}: key {full!r} is in line {first} already")
        lines[full] = line
        found[key] = inner(part, full)
    return found


def _scalar(node: Any, here: str) -> Any:
    import yaml

    if node.tag == "tag:yaml.org,2002:str":
        plain = node.style is None and NUMBER.fullmatch(node.value)
        return float(node.value) if plain else node.value
    if node.tag == "tag:yaml.org,2002:null":
        raise InputError(f"{here}a key needs a value; leave it out for the usual one")
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{here}{getattr(error, 'problem', error)}") from None
    return value if isinstance(value, bool | int | float) else node.value  # a date is text
