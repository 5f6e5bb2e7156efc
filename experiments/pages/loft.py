"""LoFT: bytes beside its paper's, how filters are ranked while training goes on, pruned nets.

    python -m experiments.report --page=loft --out=loft.md runs/fashion_loft ...

Runs are those of configs/fashion_loft.py, after ``python -m experiments.lottery``.
"""

import json
import pathlib
from typing import Any

import numpy as np

from experiments.pages.moved import PreResNet, moved
from experiments.pages.published import LOFT_TRAFFIC
from experiments.pages.runs import Run, commands
from ist_jax import method
from ist_jax.core.errors import InputError
from ist_jax.run import curves, folder, looks, lottery, report
from ist_jax.run.markdown import aligned

NETS = {"PreResNet-18": (2, 2, 2, 2), "PreResNet-34": (3, 4, 6, 3)}


def page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    """All of it, as Markdown; benchmarks add nothing."""
    parts = [
        "# LoFT",
        "Paper: Dun et al., LoFT. Inner filters of the blocks are dealt out while a net is "
        "trained; then it is pruned by their norms, and trained on. Mean and standard deviation "
        "over seeds.",
        traffic_table(),
        *(_of(run) for run in runs),
        commands(runs),
        "After each of them, for the pruned nets, `python -m experiments.lottery` with the same "
        "flags.",
    ]
    return "\n\n".join(parts) + "\n"


def traffic_table() -> str:
    """A round of the paper's nets: LoFT's bytes as a share of local SGD's."""
    rows = [
        ["net", "parameters", "workers", "LoFT (GB)", "local SGD (GB)", "share"],
        ["---"] + ["---:"] * 5,
    ]
    for name, blocks in NETS.items():
        filters = {
            f"filters{stage}_{block}": 64 * 2 ** (stage - 1)
            for stage in (2, 3, 4)
            for block in range(1, blocks[stage - 1])
        }
        for workers in (2, 4):
            net = PreResNet(filters, blocks=blocks)
            count, cut = moved(net, method.loft(), workers)
            _, whole = moved(net, method.local_sgd(), workers)
            share = f"{cut / whole:.4f}"
            rows.append(
                [name, f"{count:,}", str(workers), f"{cut / 1e9:.4f}", f"{whole / 1e9:.4f}", share]
            )
            if (name, workers) == ("PreResNet-18", 4):
                ours, rounds = cut / whole, LOFT_TRAFFIC[1] / (whole / 1e9)
    theirs = LOFT_TRAFFIC[0] / LOFT_TRAFFIC[1]
    return (
        "## Bytes a round\n\nNets for CIFAR100, all workers, both ways.\n\n"
        f"{aligned(rows)}\n\nThe paper prints {LOFT_TRAFFIC[0]} and {LOFT_TRAFFIC[1]} GB "
        f"for PreResNet-18 and 4 workers, a share of {theirs:.4f}: {abs(ours / theirs - 1):.1%} "
        f"from ours. Its local SGD comes to {rounds:.1f} of our rounds."
    )


def lines_of(run: Run) -> list[dict[str, Any]]:
    """What experiments.lottery found of a run.

    Raises:
      InputError: nothing yet, or not all: its times stand at the end.
    """
    try:
        text = (run.folder / folder.LOTTERY).read_text()
        lines = [json.loads(line) for line in text.splitlines()]
    except (OSError, ValueError):
        lines = []
    if not lines or "timed" not in lines[-1]:
        raise InputError(f"{run.folder} has not all pruned nets yet: python -m experiments.lottery")
    return lines


def _of(run: Run) -> str:
    lines, config = lines_of(run), run.config
    parts = [
        f"## {run.folder.name}: {run.told}, {config['workers']} workers",
        report.table([run.folder]),
        _tickets(lines),
        lottery.table(lines),
        _verdict(lines),
        "How far the ranking of the filters is from the last one, after so many rounds, and "
        "(behind the stroke) from the one before; round 0 is the net as it began:",
        _distances(lines),
    ]
    return "\n\n".join(parts)


def _tickets(lines: list[dict[str, Any]]) -> str:
    how = {(x["epochs"], x["lr"]) for x in lines if "pruned" in x}
    told = " or ".join(f"{epochs:g} epoch(s) at {lr:g}" for epochs, lr in sorted(how))
    return (
        "Filters pruned by their norms or at random, and the smaller net trained on, alone and "
        f"with all data, for {told}. FLOPs are those of a gradient of a batch, whose time is "
        "measured, sizes taking turns."
    )


def _verdict(lines: list[dict[str, Any]]) -> str:
    """What pruning by norms is worth, seed by seed, in points of accuracy after training on."""
    found = {
        (x["method"], x["pruned"], x["by"], x["seed"]): 100 * x["accuracy_tuned"]
        for x in lines
        if "pruned" in x
    }
    rows = [
        ["method", "pruned", "by norms - at random", "by norms - not pruned"],
        ["---", "---:", "---:", "---:"],
    ]
    for name, share in dict.fromkeys((k[0], k[1]) for k in found if k[2] == "random"):
        seeds = [k[3] for k in found if k[:3] == (name, share, "random")]
        ours = np.array([found[name, share, "norms", seed] for seed in seeds])
        drawn = np.array([found[name, share, "random", seed] for seed in seeds])
        whole = np.array([found[name, 0.0, "norms", seed] for seed in seeds])
        more = (ours - drawn, ours - whole)
        cells = [f"{x.mean():+.2f} ± {x.std(ddof=len(x) > 1):.2f}" for x in more]
        rows.append([name, f"{share:.0%}", *cells])
    return "Differences in points, seed by seed (mean ± standard deviation):\n\n" + aligned(rows)


def _distances(lines: list[dict[str, Any]]) -> str:
    lines = [line for line in lines if "round" in line]
    names = list(dict.fromkeys(line["method"] for line in lines))
    rows = [["round", *names], ["---:"] * (1 + len(names))]
    for number in sorted({line["round"] for line in lines}):
        cells = [str(number)]
        for name in names:
            some = [x for x in lines if (x["method"], x["round"]) == (name, number)]
            last = np.mean([x["distance_to_last"] for x in some])
            steps = [x["distance"] for x in some if x["distance"] is not None]
            cells.append(f"{last:.2f} / {np.mean(steps):.2f}" if steps else f"{last:.2f} / -")
        rows.append(cells)
    return aligned(rows)


def figure(runs: list[Run], out: pathlib.Path) -> None:
    """How far rankings are from the last one, and accuracy pruned and trained on, by method."""
    from matplotlib.figure import Figure  # a slow import that tables do not need

    canvas = Figure(figsize=(curves.WIDTH, 1 + 2.4 * len(runs)), layout="constrained")
    panels = canvas.subplots(len(runs), 3, squeeze=False)
    for row, run in zip(panels, runs, strict=True):
        lines = [line for line in lines_of(run) if "method" in line]
        for name in dict.fromkeys(line["method"] for line in lines):
            mine = [line for line in lines if line["method"] == name]
            look = {**looks.look(name)._asdict(), "markersize": 4}
            row[0].plot(*_means(mine, "round", "distance_to_last"), label=name, **look)
            for by, style in (("norms", "-"), ("random", ":")):
                some = [x for x in mine if x.get("by") == by or x.get("pruned") == 0]
                for panel, key in zip(row[1:], ("accuracy", "accuracy_tuned"), strict=True):
                    x, y = _means(some, "pruned", key)
                    label = name if by == "norms" else f"{name}, at random"
                    panel.plot(100 * x, 100 * y, style, label=label, **look)
        row[0].set(xlabel="rounds", title="distance to the last ranking")
        row[1].set(xlabel="filters pruned (%)", title="accuracy (%), pruned")
        row[2].set(xlabel="filters pruned (%)", title="accuracy (%), trained on")
        row[0].set_ylabel(run.folder.name)
        for panel in row:
            panel.title.set_fontsize(10)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][1].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    canvas.savefig(out, dpi=curves.DPI)


def _means(lines: list[dict[str, Any]], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    places = sorted({line[x] for line in lines if x in line})
    means = [np.mean([line[y] for line in lines if line.get(x) == place]) for place in places]
    return np.array(places), np.array(means)
