"""Which of the IST paper's workloads a run is, and the runs that make one place in its tables."""

from typing import Any

from experiments import compare
from experiments.pages.runs import Run
from ist_jax.errors import InputError

# What runs for one place need not have in common, since it changes no number of the tables.
FREE = ("methods", "seeds", "data.path", "data.cache", "checkpoint", "tensorboard", "round_timeout")
NETS = {(4096,): "speech_2layer", (4096, 4096): "speech_3layer"}  # hidden layers that are timed


def workload_of(run: Run) -> str:
    """The paper's name for it, or "labels".

    Raises:
      InputError: it belongs to none of the tables.
    """
    model, name = run.config["model"]["name"], run.data["name"]
    if model == "xmc":
        return "labels"
    if model in ("resnet", "vgg"):
        return {"resnet": "ResNet18", "vgg": "VGG12"}[model]
    if name.startswith("speech"):
        return f"speech, {len(run.config['model']['widths']) + 1} layers"
    raise InputError(f"{run.folder} belongs to no table: {model} on {name} ({run.data['origin']})")


def joined(runs: list[Run]) -> list[Run]:
    """Runs as the tables see them: those for one place, with methods or seeds of their own, as one.

    Raises:
      InputError: two of them trained the same method with the same seed, or have other settings;
        or a table would be over different data.
    """
    places: dict[tuple[str, Any], Run] = {}
    for run in runs:
        labels = workload_of(run) == "labels"
        size = run.config["model"]["widths"]["hidden0"] if labels else None
        place = (workload_of(run), (run.config["workers"], size))
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
        first = next(one for one in runs if workload_of(one) == workload_of(run))
        if (first.told, first.data.get("sha256")) != (run.told, run.data.get("sha256")):
            raise InputError(
                f"{first.folder} is on {first.told}, {run.folder} on {run.told}, not the same "
                "data: a page for each"
            )
    return list(places.values())


def link_of(row: dict[str, Any]) -> tuple:
    """What a time of a round is of; two rows with the same were measured twice."""
    keys = ("net", "workers", "gbps", "local_steps", "batch", "method")
    return tuple(row.get(key) for key in keys)
