"""What tables and figures show of a net, and what nets and settings are picked by.

Bits for a byte of text where there are any, of which fewer are better; else accuracy.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

VALIDATION = ("validation", "valid")  # the second one of graphs


class Measure(NamedTuple):
    """A measure of a net.

    Attributes:
      name: as in the keys of metrics, ``"accuracy/test"``.
      unit: behind its name, in brackets.
      factor: on what is stored, for the unit.
      digits: behind the point.
      sign: 1 if more is better, -1 if less is.
    """

    name: str
    unit: str
    factor: float
    digits: int
    sign: int

    def key(self, part: str = "test") -> str:
        return f"{self.name}/{part}"

    def title(self, part: str = "") -> str:
        return f"{part} {self.name} ({self.unit})".strip()

    def spread(self, found: Sequence[float | int]) -> str:
        """The mean, and the deviation over seeds if there are several."""
        if not len(found):
            return "-"
        mean = f"{self.factor * np.mean(found):.{self.digits}f}"
        if len(found) == 1:
            return mean
        return f"{mean} ± {self.factor * np.std(found, ddof=1):.{self.digits}f}"


BITS = Measure("bits", "per byte", 1.0, 4, -1)
ACCURACY = Measure("accuracy", "%", 100.0, 2, 1)
MEASURES = (BITS, ACCURACY)


def of(lines: Iterable[Mapping[str, Any]]) -> Measure:
    """The first measure that all these lines of metrics have on test data; else accuracy."""
    lines = list(lines)
    has = lambda one: bool(lines) and all(one.key() in line for line in lines)
    return next((one for one in MEASURES if has(one)), ACCURACY)


def score(measured: Mapping[str, Any]) -> float | None:
    """What nets are picked by, more is better: on validation data, where there is some.

    Without any it is that on test data; None where there is no such measure.
    """
    places = [(one, part) for part in (*VALIDATION, "test") for one in MEASURES]
    found = [one.sign * measured[k] for one, p in places if (k := one.key(p)) in measured]
    return float(found[0]) if found else None
