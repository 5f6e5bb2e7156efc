"""Options of a function, as a config has them: plain values, beside the function's own defaults."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import by_name

OF_A_MODEL = (  # what a task gives a model
    "widths", "classes", "normalise", "affine", "logits", "gains", "external", "parent", "name",
    "rngs",
)  # fmt: skip
OF_A_SOURCE = ("path", "cache", "skip_bad")  # what the config gives a data set besides


def plain(given: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Options as Python has them.

    A mapping whose keys are whole numbers in writing has those numbers: JSON and configs only have
    text there (``{"boundaries_and_scales": {"100": 0.1}}``).
    """
    return {name: _plain(value) for name, value in given.items()}


def examples(function: Callable[..., Any], skip: Collection[str] = ()) -> dict[str, Any]:
    """An example of each option's value: its default. Where that is a whole number, any will do."""
    found = by_name.options_of(function, skip)
    return {
        name: float(usual) if isinstance(usual, int) and not isinstance(usual, bool) else usual
        for name, usual in found.items()
    }


def of_method(config: ConfigDict, name: str) -> dict[str, Any]:
    """The options of a method of a config. Dots in the name of a module are steps of the tree."""
    found = config.method_options
    for step in name.split("."):
        found = found.get(step)
        if not isinstance(found, ConfigDict):
            return {}
    return plain(found)


def _plain(value: Any) -> Any:
    if not isinstance(value, ConfigDict | Mapping):
        return value
    number = all(isinstance(key, str) and key.isdecimal() for key in value)
    return {int(key) if number else key: _plain(part) for key, part in value.items()}
