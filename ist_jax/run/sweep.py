"""A sweep: values of some keys of a config, and all their combinations. Pure functions, no JAX.

    --sweep optimizer.lr=0.03,0.1,0.3 --sweep workers=2,4

Every combination is a run in a folder of its own, ``lr=0.03,workers=2``; ``sweep.json`` above them
says which keys and values there are, and in which order.
"""

import ast
import difflib
import itertools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from ml_collections import ConfigDict

from ist_jax.core import paths, strict_json
from ist_jax.core.errors import InputError
from ist_jax.run import compare, overlay, schema, values

Values = Mapping[str, tuple[Any, ...]]  # of each key, in their order

NAME = "sweep.json"
FORMAT = 1
ROWS = ("seeds", "methods")
FREE = ("data.batch", "data.split", "data.skew")
IDLE = (  # keys, or what keys begin with, that do not change what is learnt
    *("mesh.", "checkpoint.", "link_", "lottery.", "trackers", "round_timeout_s", "eval_every"),
    *("top", "data.path", "data.cache"),
)
GRAPH = "graph"  # the model of graphs, which have validation nodes of their own


class Combination(NamedTuple):
    """A value for each key of a sweep, and the name of its folder."""

    name: str
    settings: dict[str, Any]

    @property
    def words(self) -> str:
        """As tables have it."""
        return ", ".join(f"{key}={shown(self.settings[key])}" for key in self.settings)


def parse(words: Sequence[str], config: ConfigDict) -> dict[str, tuple[Any, ...]]:
    """The values of ``KEY=VALUE,VALUE,...``, of the types that the config's keys have.

    Args:
      words: one for each key.
      config: what the rest is; it has to hold validation data out.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for word in words:
        key, equals, texts = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(f"--sweep {word}: it must look like --sweep optimizer.lr=0.03,0.1,0.3")
        _check_key(key, config)
        if key in found:
            raise InputError(f"--sweep {key} is there twice: give all of its values at once")
        found[key] = _values(key, _split(texts), config)
    _check_validation(config)
    return found


def combinations(given: Values) -> list[Combination]:
    """All of them; the last key changes fastest.

    Raises:
      InputError: a name that no folder can have.
    """
    last = [key.rpartition(".")[2] for key in given]
    short = {
        key: name if last.count(name) == 1 else key for key, name in zip(given, last, strict=True)
    }
    out = []
    for chosen in itertools.product(*given.values()):
        settings = dict(zip(given, chosen, strict=True))
        name = ",".join(f"{short[key]}={_in_a_name(value)}" for key, value in settings.items())
        if len(name.encode()) > paths.LONGEST_NAME:
            raise InputError(f"--sweep: the folder {name[:60]}... would have too long a name")
        out.append(Combination(name, settings))
    return out


def applied(config: ConfigDict, settings: Mapping[str, Any], name: str = "") -> ConfigDict:
    """A config with these values; with a ``name``, its checkpoints are in a folder of their own."""
    made = config.copy_and_resolve_references()
    for key, value in settings.items():
        overlay.put(made, key, value)
    if name and made.checkpoint.folder:
        made.checkpoint.folder = f"{made.checkpoint.folder}/{name}"
    return made


def stored(config: ConfigDict, given: Values) -> str:
    """A sweep as ``sweep.json`` holds it."""
    order = [{"folder": one.name, "settings": _plain(one.settings)} for one in combinations(given)]
    whole = {
        "format": FORMAT,
        "values": _plain(given),
        "order": order,
        "config": json.loads(compare.as_json(config)),
    }
    return strict_json.dumps(whole, NAME, indent=2) + "\n"


def read(folder: pathlib.Path) -> list[Combination]:
    """The combinations of the sweep in a folder, in their order.

    Raises:
      InputError: its ``sweep.json`` cannot be read, or is none.
    """
    path = folder / NAME
    try:
        told = json.loads(path.read_text())
        found = [Combination(one["folder"], dict(one["settings"])) for one in told["order"]]
        keys = list(told["values"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} does not describe a sweep: {error!r}") from None
    for name, settings in found:
        plain = isinstance(name, str) and pathlib.PurePath(name).name == name
        if not plain or list(settings) != keys:
            raise InputError(f"{path} does not describe a sweep: of {values.shown(name)}")
    return found


def same_keys(folder: pathlib.Path, given: Values) -> None:
    """Makes sure that a sweep goes on as what it was; only values may be added.

    Raises:
      InputError: naming what is another.
    """
    names = {one.name for one in combinations(given)}
    for old in read(folder):
        if list(old.settings) != list(given):
            raise InputError(
                f"{folder} holds a sweep of {', '.join(old.settings)}, not of {', '.join(given)}"
            )
        if old.name not in names:
            raise InputError(
                f"{folder} holds a sweep with {old.words}, which is not asked for any more: values "
                "may be added, and none left out"
            )


def shown(value: Any) -> str:
    """A value in a table."""
    return value if isinstance(value, str) else repr(value).replace(" ", "")


def _in_a_name(value: Any) -> str:
    return quote(shown(value), safe="(),:+")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json.loads(json.dumps(value)) for key, value in settings.items()}


def _check_key(key: str, config: ConfigDict) -> None:
    known = compare.flat(config.to_dict())
    where = f"--sweep {key}"
    if (key in known or key.startswith("data.options")) and (why := _refused(key)):
        raise InputError(f"{where}: {why}")
    if key in known or re.match(r"(\w+\.)?(\w+_)?options\.", key):  # open: others look at those
        return
    inside = [other for other in known if other.startswith(f"{key}.")]
    if inside:
        raise InputError(f"{where} is a group of keys; one of them is {inside[0]}")
    free = [other for other in known if not _refused(other)]
    alike = [other for other in free if other.endswith(f".{key.rpartition('.')[2]}")]
    close = alike or difflib.get_close_matches(key, free, n=1)
    hint = f"did you mean {close[0]}?" if close else "ist_jax/run/schema.py has them all"
    raise InputError(f"{where}: there is no such key; {hint}")


def _refused(key: str) -> str:
    """Why a key is not for sweeps; empty if it is."""
    if key in ROWS:
        return f"{key} are rows of every run; set them as --config.{key}=..."
    if key.startswith("data.") and key not in FREE:
        return (
            "runs on other data cannot be compared; of the data only "
            f"{', '.join(FREE)} may be swept"
        )
    if key.startswith(IDLE):
        return f"it does not change what is learnt; set it as --config.{key}=..."
    return ""


def _values(key: str, texts: list[str], config: ConfigDict) -> tuple[Any, ...]:
    usual = compare.flat(schema.default().to_dict())
    example = (compare.flat(config.to_dict()) | usual).get(key)  # None of an option that is new
    found: list[Any] = []
    for text in texts:
        if not text:
            raise InputError(f"--sweep {key}: a value is empty; found {','.join(texts)!r}")
        value = _read(text, example)
        one = applied(config, {key: value})
        values.check(schema.default(), one)
        values.check_widths(one.model.widths)
        if value in found:
            raise InputError(f"--sweep {key}: {shown(value)} is there twice")
        found.append(value)
    return tuple(found)


def _read(text: str, example: Any) -> Any:
    """A value of the example's type; where it cannot be one, the text, for others to refuse."""
    try:
        if isinstance(example, bool):
            return {"true": True, "false": False}.get(text.lower(), text)
        if isinstance(example, int | float):
            return type(example)(text)
        if example is None or (isinstance(example, Sequence) and not isinstance(example, str)):
            found = ast.literal_eval(text)
            return tuple(found) if isinstance(found, tuple | list) else found
    except Exception:  # of strange text ast raises five kinds
        return text
    return text


def _split(text: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _check_validation(config: ConfigDict) -> None:
    if config.model.name != GRAPH and not config.data.validation:
        raise InputError(
            "a sweep picks by validation accuracy, and config.data.validation is 0: add "
            "--config.data.validation=0.1"
        )
