"""GIST in the form of its paper's table: F1 by width, depth and number of subnets.

    python -m experiments.report --page=gist --out=gist.md runs/wordnet_sage ...

A run belongs to the table of its data set and kind of net; ``single`` is training the whole net.
"""

from typing import Any

from experiments.markdown import aligned, quantity, spread
from experiments.pages.published import GIST_AMAZON2M
from experiments.pages.runs import Run, commands
from ist_jax.errors import InputError

WHOLE = "single"
Place = tuple[int, int, str, int]  # layers, subnets (0: none), what is unlike the paper, width


def page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    """All of it, as Markdown; ``rows`` are of benchmarks.graph_baselines."""
    tables: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.config["model"]["name"] != "graph":
            raise InputError(f"{run.folder} is no run on a graph: {run.config['model']['name']}")
        kind = run.config["model"]["options"].get("kind", "sage")
        tables.setdefault((run.told, kind), []).append(run)
    parts = [
        "# GIST",
        "Paper: Wolfe et al., GIST. L layers, m subnets (-: the whole net is trained), columns: "
        "hidden features of each layer. Micro F1 on the test nodes in percent, mean and standard "
        "deviation over seeds, and the seconds that one machine took to do the work of all "
        "workers. Epochs are divided by m, as in the paper; the whole net is trained for all.",
    ]
    for (data, kind), some in tables.items():
        without = _baselines([row for row in rows if row.get("data") == some[0].data["name"]])
        parts += [f"## {kind} on {data}", without, _table(some), _costs(some), _equal(some)]
    parts += ["## The paper's, on Amazon2M (hours)", _published(), commands(runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _places(run: Run) -> dict[str, Place]:
    """Where each of its methods stands."""
    widths = list(run.config["model"]["widths"].values())
    if len(set(widths)) > 1:
        raise InputError(f"{run.folder}: hidden layers of different widths have no column")
    workers = {WHOLE: 0, "ist": run.config["workers"]}
    unlike = {"own clusters": run.config["data"]["split"] == "disjoint"}
    unlike["Adam kept"] = run.config["optimiser_state"] == "keep"
    what = ", ".join(name for name, so in unlike.items() if so)
    names = [name for name in dict.fromkeys(name for name, _ in run.lines) if name in workers]
    return {
        n: (len(widths) + 1, workers[n], what if workers[n] else "", widths[0])
        for n in names
        if run.last(n)
    }


def _baselines(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    found = [f"{100 * row['test']:.2f} ({row['hops']} hops)" for row in rows]
    return (
        "Without a net, logistic regression on a node's features and the means over its "
        f"neighbours (`python -m benchmarks.graph_baselines`): {', '.join(found)} %."
    )


def _table(runs: list[Run]) -> str:
    cells: dict[Place, str] = {}
    for run in runs:
        for method, place in _places(run).items():
            seconds = run.median(method, "time/train_s")
            cells[place] = f"{spread(run.last(method))} ({seconds:.0f})"
    return _shown(cells)


def _costs(runs: list[Run]) -> str:
    rows = [
        ["L", "m", "hidden", "seeds", "macro F1 (%)", "parameters / worker", "sent / worker",
         "FLOPs / worker"],
        ["---:"] * 8,
    ]  # fmt: skip
    found = [(place, method, run) for run in runs for method, place in _places(run).items()]
    for place, method, run in sorted(found, key=lambda row: row[0]):
        rows.append(
            [
                str(place[0]),
                _subnets(place),
                str(place[3]),
                str(len(run.last(method))),
                spread(run.last(method, "f1_macro/test")),
                f"{run.plans[method]['parameters']:,}",
                quantity(run.last(method, "comm/bytes_sent")[0], "B"),
                quantity(run.last(method, "compute/flops")[0], ""),
            ]
        )
    return aligned(rows)


def _equal(runs: list[Run]) -> str:
    """Nets that are as large for a worker as a whole net of the table."""
    found = [(place, method, run) for run in runs for method, place in _places(run).items()]
    rows = [
        ["parameters / worker", "whole net, hidden", "F1 (%)", "GIST, m", "hidden", "F1 (%)"],
        ["---:"] * 6,
    ]
    for place, method, run in sorted(found, key=lambda row: row[0]):
        count = run.plans[method]["parameters"]
        for other, its, wide in sorted(found, key=lambda row: row[0]):
            if place[1] or not other[1] or place[0] != other[0]:
                continue
            if abs(wide.plans[its]["parameters"] / count - 1) < 0.02:
                left = [f"{count:,}", str(place[3]), spread(run.last(method))]
                rows.append([*left, _subnets(other), str(other[3]), spread(wide.last(its))])
    if len(rows) == 2:
        return ""
    return (
        "With as many parameters for a worker, which is also as many FLOPs in a step (and in all, "
        "since epochs are divided):\n\n" + aligned(rows)
    )


def _published() -> str:
    return _shown(
        {
            (layers, m, "", width): f"*{f1} ({hours})*"
            for (layers, m), of_widths in GIST_AMAZON2M.items()
            for width, (f1, hours) in of_widths.items()
        }
    )


def _shown(cells: dict[Place, str]) -> str:
    widths = sorted({width for *_, width in cells})
    rows = [["L", "m", *map(str, widths)], ["---:"] * (2 + len(widths))]
    for layers, m, what in sorted({place[:3] for place in cells}):
        found = [cells.get((layers, m, what, width), "") for width in widths]
        rows.append([str(layers), _subnets((layers, m, what, 0)), *found])
    return aligned(rows)


def _subnets(place: Place) -> str:
    return ", ".join(filter(None, (str(place[1] or "-"), place[2])))
