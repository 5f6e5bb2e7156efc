"""Values of a reader's options, checked where it is called: from a config or from Python."""

from collections.abc import Iterable
from typing import Any

from ist_jax.core import by_name
from ist_jax.core.errors import InputError

SEEDS = 2**32


def share(name: str, value: Any) -> float:
    """A number between 0 and 1, neither of them itself."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"data.options.{name} must be above 0 and below 1, found {value!r}")
    return float(value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise InputError(
            f"data.options.{name} must be a whole number from {least} to {most}, found {value!r}"
        )
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InputError(f"data.options.{name} must be True or False, found {value!r}")
    return value


def column(name: str, value: Any, known: Iterable[str], where: Any) -> str:
    """A name that is among those that there are."""
    known = list(known)
    if value not in known:
        raise InputError(
            f"{where} has no column {value!r} (data.options.{name}); it has {shown(known)}"
            f"{by_name.near(value, known)}"
        )
    return value


def usual(name: str, usual_names: Iterable[str], known: Iterable[str], where: Any) -> str:
    """The one column that has a usual name, in small or large letters."""
    known, usual_names = list(known), list(usual_names)
    found = [one for one in known if one.strip().lower() in usual_names]
    if len(found) != 1:
        why = f"columns {shown(found)} could all be it" if found else f"it has {shown(known)}"
        raise InputError(
            f"{where}: no column is known as the {name} ({', '.join(usual_names)}): {why}. Name "
            f"one with data.options.{name}"
        )
    return found[0]


def shown(names: Iterable[str], most: int = 20) -> str:
    """Some names, for a complaint."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(f"{name[:60]!r}" for name in names[:most]) or "none") + more
