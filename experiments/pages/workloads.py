"""Which of the IST paper's workloads a run is, and the runs that make one place in its tables."""

from typing import Any

from experiments.pages.runs import Run
from experiments.pages.runs import joined as runs_joined
from ist_jax.core.errors import InputError

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
      InputError: as ``experiments.pages.runs.joined``.
    """

    def place_of(run: Run) -> tuple:
        labels = workload_of(run) == "labels"
        return run.config["workers"], run.config["model"]["widths"]["hidden0"] if labels else None

    return runs_joined(runs, workload_of, place_of)


def link_of(row: dict[str, Any]) -> tuple:
    """What a time of a round is of; two rows with the same were measured twice."""
    keys = ("net", "workers", "gbps", "local_steps", "batch", "method")
    return tuple(row.get(key) for key in keys)
