"""Run folders as the IST paper's tables need them: which of its workloads, and what came of it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import compare, report
from ist_jax.errors import InputError

# What runs for one place need not have in common, since it changes no number of the tables.
FREE = ("methods", "seeds", "data.path", "data.cache", "checkpoint", "tensorboard", "round_timeout")
NETS = {(4096,): "speech_2layer", (4096, 4096): "speech_3layer"}  # hidden layers that are timed


class Run(NamedTuple):
    """A run folder, as the tables need it."""

    folder: Path
    workload: str  # of TABLE2, or "labels"
    config: dict[str, Any]
    data: dict[str, Any]
    plans: dict[str, Any]
    command: str
    lines: dict[tuple[str, int], list[dict[str, Any]]]

    @property
    def told(self) -> str:
        """The data set, and whether it is the paper's."""
        name = self.data["name"]
        return name if self.data["origin"] == "real" else f"{name} ({self.data['origin']})"

    def seeds(self, method: str) -> list[int]:
        """That it was trained with."""
        return [seed for name, seed in self.lines if name == method]

    def last(self, method: str, key: str = "accuracy/test") -> list[float]:
        """The last value of every seed that was trained to the end."""
        ends = [lines[-1] for (name, _), lines in self.lines.items() if name == method]
        whole = max(line[-1]["round"] for line in self.lines.values())
        return [line[key] for line in ends if line["round"] == whole]

    def rounds_to(self, method: str, level: float) -> float | None:
        """Rounds until the accuracy was first seen to be that, the median over seeds.

        None if a seed never reaches it. It is looked at every ``eval_every`` rounds.
        """
        found = [
            next((line["round"] for line in lines if line["accuracy/test"] >= level), None)
            for (name, _), lines in self.lines.items()
            if name == method
        ]
        reached = [number for number in found if number is not None]
        return float(np.median(reached)) if reached and len(reached) == len(found) else None


def read(folder: Path) -> Run:
    """A run folder.

    Raises:
      InputError: it holds no finished run, or one that belongs to none of the tables.
    """
    try:
        summary = json.loads((folder / report.SUMMARY).read_text())
        config, data = summary["config"], summary["data"]
        widths, model, name = config["model"]["widths"], config["model"]["name"], data["name"]
        origin, command, plans = data["origin"], summary["command"], summary["plans"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no finished run ({error!r})") from None
    if model == "xmc":
        workload = "labels"
    elif model in ("resnet", "vgg"):
        workload = {"resnet": "ResNet18", "vgg": "VGG12"}[model]
    elif name.startswith("speech"):
        workload = f"speech, {len(widths) + 1} layers"
    else:
        raise InputError(f"{folder} belongs to no table: {model} on {name} ({origin})")
    lines = report.read(folder / report.METRICS)
    return Run(folder, workload, config, data, plans, command, lines)


def joined(runs: list[Run]) -> list[Run]:
    """Runs as the tables see them: those for one place, with methods or seeds of their own, as one.

    Raises:
      InputError: two of them trained the same method with the same seed, or have other settings;
        or a table would be over different data.
    """
    places: dict[tuple[str, Any], Run] = {}
    for run in runs:
        size = run.config["model"]["widths"]["hidden0"] if run.workload == "labels" else None
        place = (run.workload, (run.config["workers"], size))
        other = places.setdefault(place, run)
        if other is run:
            continue
        both = f"{other.folder} and {run.folder} are for the same place in a table"
        if twice := other.lines.keys() & run.lines.keys():
            method, seed = min(twice)
            raise InputError(f"{both}, and both trained {method} with seed {seed}")
        one, two = compare.flat(other.config), compare.flat(run.config)
        differ = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
        if run.config["optimizer"]["schedule"] == "constant":  # then more rounds only go on
            differ.discard("rounds")
        if differ := {key for key in differ if not key.startswith(FREE)}:
            raise InputError(f"{both}, but differ in config.{min(differ)}")
        lines, plans = {**other.lines, **run.lines}, {**other.plans, **run.plans}
        places[place] = other._replace(lines=lines, plans=plans)
    for run in runs:
        first = next(one for one in runs if one.workload == run.workload)
        if (first.told, first.data.get("sha256")) != (run.told, run.data.get("sha256")):
            raise InputError(
                f"{first.folder} is on {first.told}, {run.folder} on {run.told}, not the same "
                "data: a page for each"
            )
    return list(places.values())


def rows_of(path: Path) -> list[dict]:
    """What a benchmark wrote.

    Raises:
      InputError: it is no JSON list of rows.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"{path} is no JSON list of rows of a benchmark")
    return found


def link_of(row: dict[str, Any]) -> tuple:
    """What a time of a round is of; two rows with the same were measured twice."""
    keys = ("net", "workers", "gbps", "local_steps", "batch", "method")
    return tuple(row.get(key) for key in keys)
