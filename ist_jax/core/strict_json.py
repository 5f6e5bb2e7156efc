"""JSON as its standard has it, for all that is written: no reader has to know NaN or Infinity."""

import json
import math
from collections.abc import Iterator
from typing import Any

from ist_jax.core.errors import InputError


def dumps(value: Any, what: str, **how: Any) -> str:
    """``json.dumps``, with numbers that are finite.

    Args:
      what: is written, for the message.

    Raises:
      InputError: a number in it is NaN or infinite (its place is named).
    """
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        place, number = next(_without_number(value), ("", "nested in itself"))
        raise InputError(f"{what}{place} is {number}, which JSON has no word for") from None


def _without_number(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    inside = value if isinstance(value, dict) else {}
    if isinstance(value, list | tuple):
        inside = dict(enumerate(value))
    for key, part in inside.items():
        yield from _without_number(part, f"{place}[{key!r}]")
