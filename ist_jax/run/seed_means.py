"""Curves of a run folder: of each method the mean and the range over its seeds."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ist_jax.run import looks, measure
from ist_jax.run.measure import Measure
from ist_jax.run.metrics import Line

Runs = Mapping[tuple[str, int], list[Line]]  # as ``report.read`` returns them


class Curve(NamedTuple):
    """A method of a folder: mean and range over its seeds, in the measure's unit, at every round.

    Seeds that stopped before the others did are left out; ``seeds`` were kept, of ``started``.
    """

    method: str
    folder: str
    measure: Measure
    seeds: int
    started: int
    x: dict[str, np.ndarray]  # by the names of ``looks.AXES``; means over the seeds
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray

    def shown(self, x: str, logarithmic: bool) -> np.ndarray:
        """Which points have a place on an axis: by bytes, those after which something is sent."""
        if logarithmic:
            return (self.x[x] > 0) & (self.x["steps"] > 0)  # of round 0 no clock says quite 0
        return self.x[x] > (0 if x == "bytes" else -math.inf)


def of(runs: Runs, folder: str = "") -> list[Curve]:
    """The curves of a folder, one for each method that was measured on test data."""
    found = []
    shown = measure.of(row for rows in runs.values() for row in rows)
    for method in dict.fromkeys(method for method, _ in runs):
        started = [rows for (name, _), rows in runs.items() if name == method]
        last = max(rows[-1]["round"] for rows in started)
        kept = [{row["round"]: row for row in rows} for rows in started]
        kept = [rows for rows in kept if last in rows]
        if not all(shown.key() in row for rows in kept for row in rows.values()):
            continue
        rounds = sorted(set.intersection(*(set(rows) for rows in kept)))
        lines = [[rows[number] for number in rounds] for rows in kept]
        x = {name: _table(lines, axis.key).mean(0) for name, axis in looks.AXES.items()}
        values = shown.factor * _table(lines, shown.key())
        edges = values.min(0), values.mean(0), values.max(0)
        found.append(Curve(method, folder, shown, len(kept), len(started), x, *edges))
    return found


def _table(lines: list[list[Line]], key: str) -> np.ndarray:
    return np.array([[line[key] for line in of_seed] for of_seed in lines], float)
