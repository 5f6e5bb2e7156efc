"""Accuracy where workers fail, and where their number changes half way: digits, three seeds.

    python -m benchmarks.robustness --out=docs/results/robustness.png

*drop*: every worker misses every round with the chance given (``config.faults="drop:30%"``), and
whoever is there goes on. *nan*: the worker is there and its data is spoilt (``nan:30%``), so that
it computes and sends what is then left out.
"""

import argparse
import contextlib
import io
import pathlib
import tempfile
from typing import Any

import numpy as np

from ist_jax.run import config_files, looks, report, training

SHARES = (0, 10, 20, 30, 40, 50)  # per cent
METHODS = ("ist", "local_sgd", "data_parallel")
# Drawn over the curve that it should follow.
SPOILT: dict[str, Any] = {"color": "k", "linestyle": ":", "marker": "x"}
KINDS = {"drop": METHODS, "nan": ("ist",)}


def accuracies(
    folder: pathlib.Path, changes: dict[str, Any], resume: bool = False
) -> dict[str, np.ndarray]:
    """The last accuracy of each seed in per cent, by method."""
    config = config_files.load("quickstart")
    config.checkpoint.every, config.eval_every = 0, config.rounds
    config.on_worker_failure = config.on_nonfinite = "drop"
    config.update_from_flattened_dict(changes)
    with contextlib.redirect_stdout(io.StringIO()):  # a table for each run
        training.run(config, folder, resume=resume)
    found = report.results(folder / report.METRICS)
    return {
        name: np.array([100 * line["accuracy/test"] for line in result["last"]])
        for name, result in found.items()
    }


def failing(folder: pathlib.Path) -> dict[tuple[str, str], list[np.ndarray]]:
    """(kind, method) to the accuracies at each share."""
    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    for kind, methods in KINDS.items():
        for share in SHARES:
            where = folder / f"{kind}{share}"
            changes = {"methods": methods, "faults": f"{kind}:{share}%"}
            for name, found in accuracies(where, changes).items():
                curves.setdefault((kind, name), []).append(found)
    return curves


def elastic(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """30 rounds with 8 workers, saved, and 30 more with others, beside runs that do not change."""
    found = {}
    kept = {"optimizer.momentum": 0.5, "optimizer_state": "keep"}
    for name, more in {"SGD": {}, "momentum kept": kept}.items():
        changes = {"methods": ("ist",), "workers": 8, **more}
        for count in (4, 8, 16):
            alike = accuracies(folder / f"{name}{count}", changes | {"workers": count})
            found[f"{name}, {count} throughout"] = alike["ist"]
        for after in (4, 16):
            where = folder / f"{name}8{after}"
            accuracies(where, changes | {"rounds": 30, "checkpoint.every": 30})
            resumed = accuracies(where, changes | {"workers": after}, resume=True)
            found[f"{name}, 8 then {after}"] = resumed["ist"]
    return found


def figure(curves: dict[tuple[str, str], list[np.ndarray]], out: pathlib.Path) -> None:
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(8, 4.2), layout="constrained")
    panel = canvas.subplots()
    for (kind, name), found in curves.items():
        label = name if kind == "drop" else f"{name}, spoilt data"
        middle = [np.mean(one) for one in found]
        look = looks.look(name)
        style: dict[str, Any] = look._asdict() if kind == "drop" else SPOILT
        panel.plot(SHARES, middle, label=label, **style)
        if kind == "drop":
            low, high = [np.min(one) for one in found], [np.max(one) for one in found]
            panel.fill_between(SHARES, low, high, color=look.color, alpha=0.15, linewidth=0)
    panel.set(xlabel="worker-rounds that fail (%)", ylabel="test accuracy (%)")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    canvas.savefig(out, dpi=200)


def _told(found: np.ndarray) -> str:
    return f"{found.mean():.2f} ± {found.std(ddof=1):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the figure, a PNG file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        curves = failing(pathlib.Path(folder))
        changed = elastic(pathlib.Path(folder))
    figure(curves, options.out)
    print("\n| failing (%) | " + " | ".join(f"{name}, {kind}" for kind, name in curves) + " |")
    print("| ---: |" + " ---: |" * len(curves))
    for row, share in enumerate(SHARES):
        print(f"| {share} | " + " | ".join(_told(found[row]) for found in curves.values()) + " |")
    print("\n| workers | accuracy (%) |\n| --- | ---: |")
    for name, found in changed.items():
        print(f"| {name} | {_told(found)} |")


if __name__ == "__main__":
    main()
