"""GIST in the form of its paper's table: F1 by width, depth and number of subnets.

    python -m experiments.report --page=gist --out=gist.md runs/wordnet_sage ...

A run belongs to the table of its data set and kind of net; ``single`` is training the whole net.
"""

import itertools
from typing import Any

import numpy as np

from experiments.pages.published import GIST_AMAZON2M
from experiments.pages.runs import Run, commands, settings_apart
from experiments.pages.runs import joined as runs_joined
from ist_jax.core.errors import InputError
from ist_jax.data.graph import size_in_words
from ist_jax.models.gcn import ENDS
from ist_jax.run.markdown import aligned, quantity, spread

WHOLE = "single"
PLACES = ("workers", "model.widths", "data.split", "optimizer_state", "eval_every", "rounds")
Place = tuple[int, int, str, int]  # layers, subnets (0: none), what is unlike the rest, width
Found = tuple[Place, str, Run]  # and the method
UNLIKE = {"disjoint": "own clusters", "same": "one order", "keep": "Adam kept"}


def page(folded: list[Run], rows: list[dict[str, Any]]) -> str:
    """All of it, as Markdown; ``rows`` are of benchmarks.graph_baselines."""
    tables: dict[tuple[str, str], list[Run]] = {}
    for run in runs_joined(folded, _table_of, _place_of):
        tables.setdefault(_table_of(run), []).append(run)
    parts = [
        "# GIST",
        "Paper: Wolfe et al., GIST. L layers, m subnets (-: the whole net is trained), columns: "
        "hidden features of each layer, of GAT of each head. Micro F1 on the test nodes in "
        "percent, mean and standard deviation over seeds, and the seconds that one machine took to "
        "do the work of all workers. Epochs are divided by m, as in the paper, unless it says that "
        "each subnet has all; the whole net is trained for all. Subnets see all clusters, each in "
        "an order of its own, unless it says: in one order, as in the paper, or clusters of their "
        "own.",
    ]
    for (data, kind), some in tables.items():
        without = [row for row in rows if row.get("data") == some[0].data["name"]]
        usual = min(run.config["epochs"] for run in some)
        places = [(place, name, run) for run in some for name, place in _places(run, usual).items()]
        places.sort(key=lambda found: found[0])
        for one, other in itertools.pairwise(places):
            if one[0] == other[0]:
                folders = f"{one[2].folder} and {other[2].folder}"
                raise InputError(f"{folders} are for the same place in a table")
        parts += [f"## {kind} on {data}", _settings(some, usual), _baselines(without)]
        parts += [_table(places), _beaten(places, without), _costs(places), _equal(places)]
    parts += ["## The paper's, on Amazon2M (hours)", _published(), commands(folded)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table_of(run: Run) -> tuple[str, str]:
    if run.config["model"]["name"] != "graph":
        raise InputError(f"{run.folder} is no run on a graph: {run.config['model']['name']}")
    return run.told, run.config["model"]["options"].get("kind", "sage")


def _place_of(run: Run) -> tuple:
    config = run.config
    widths = tuple(_hidden(run))
    if len(set(widths)) > 1:
        raise InputError(f"{run.folder}: hidden layers of different widths have no column")
    if others := sorted({name for name, _ in run.lines} - {WHOLE, "ist"}):
        raise InputError(f"{run.folder}: {others[0]} has no row, only ist and {WHOLE}")
    if config["workers"] > 1 and run.seeds(WHOLE):
        raise InputError(
            f"{run.folder}: a whole net that is to be trained for all epochs needs workers=1"
        )
    ends = tuple(end for end in ENDS if end in config["model"]["widths"])
    keys = config["workers"], config["data"]["split"], config["optimizer_state"], config["epochs"]
    return (widths, ends, *keys)


def _hidden(run: Run) -> list[int]:
    return [n for group, n in run.config["model"]["widths"].items() if group not in ENDS]


def _settings(runs: list[Run], usual: float) -> str:
    """What all runs of a table have in common.

    Raises:
      InputError: two are not of one table.
    """
    first = next(run for run in runs if run.config["epochs"] == usual)
    for run in runs:
        free = (*PLACES, "epochs") if _each_has_all(run, usual) else PLACES
        if differ := {key for key in settings_apart(first, run) if not key.startswith(free)}:
            raise InputError(
                f"{first.folder} and {run.folder} are in one table, but differ in "
                f"config.{min(differ)}"
            )
    config = first.config
    return (
        f"{config['epochs']:g} epochs, rounds of {config['local_steps']} steps, batches of "
        f"{config['data']['batch']} of {config['data']['options'].get('clusters', 1)} clusters."
    )


def _each_has_all(run: Run, usual: float) -> bool:
    """Whether each subnet is trained for the epochs that are divided otherwise."""
    return run.config["epochs"] == usual * run.config["workers"] > usual


def _places(run: Run, usual: float) -> dict[str, Place]:
    """Where each of its methods stands."""
    widths = _hidden(run)
    workers = {WHOLE: 0, "ist": run.config["workers"]}
    unlike = [UNLIKE.get(run.config["data"]["split"]), UNLIKE.get(run.config["optimizer_state"])]
    unlike += ["each all epochs"] if _each_has_all(run, usual) else []
    unlike += [f"{end} cut" for end in ENDS if end in run.config["model"]["widths"]]
    what = ", ".join(filter(None, unlike))
    return {
        name: (len(widths) + 1, workers[name], what if workers[name] else "", widths[0])
        for name in dict.fromkeys(name for name, _ in run.lines)
        if run.last(name)
    }


def _baselines(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    size = (rows[0][key] for key in ("nodes", "edges", "counted"))
    found = [f"{100 * row['test']:.2f} ({row['hops']} hops)" for row in rows]
    return (
        f"The graph: {size_in_words(*size)}.\n\n"
        "Without a net, logistic regression on a node's features and the means over its "
        f"neighbours (`python -m benchmarks.graph_baselines`): {', '.join(found)} %."
    )


def _beaten(places: list[Found], rows: list[dict[str, Any]]) -> str:
    """How far above a regression the best whole net is, and the best for each m."""
    if not rows:
        return ""
    level, best = max(row["test"] for row in rows), dict[int, tuple[float, float, int]]()
    for (_, m, what, width), method, run in places:
        if not what:
            valid, test = (np.mean(run.last(method, f"accuracy/{of}")) for of in ("valid", "test"))
            best[m] = max(best.get(m, (0.0, 0.0, 0)), (float(valid), float(test), width))
    told = [
        f"{f'm = {m}' if m else 'the whole net'} {100 * (mean - level):+.1f} (hidden {width})"
        for m, (_, mean, width) in sorted(best.items())
    ]
    return (
        "Points above the best regression, at the width that is best on the validation nodes: "
        f"{', '.join(told)}."
    )


def _table(places: list[Found]) -> str:
    told = lambda name, run: f"{spread(run.last(name))} ({run.median(name, 'time/train_s'):.0f})"
    return _shown({place: told(name, run) for place, name, run in places})


def _costs(places: list[Found]) -> str:
    rows = [
        ["L", "m", "hidden", "seeds", "macro F1 (%)", "parameters / worker", "sent / worker",
         "FLOPs / worker"],
        ["---:"] * 8,
    ]  # fmt: skip
    for place, method, run in places:
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


def _equal(places: list[Found]) -> str:
    """Nets that are as large for a worker as a whole net of the table."""
    better = 0
    rows = [
        ["parameters / worker", "whole net, hidden", "F1 (%)", "GIST, m", "hidden", "F1 (%)"],
        ["---:"] * 6,
    ]
    for place, method, run in places:
        count = run.plans[method]["parameters"]
        for other, its, wide in places:
            if place[1] or not other[1] or place[0] != other[0]:
                continue
            if abs(wide.plans[its]["parameters"] / count - 1) < 0.02:
                left = [f"{count:,}", str(place[3]), spread(run.last(method))]
                rows.append([*left, _subnets(other), str(other[3]), spread(wide.last(its))])
                better += np.mean(wide.last(its)) > np.mean(run.last(method))
    if len(rows) == 2:
        return ""
    return (
        "With as many parameters for a worker, which is also as many FLOPs in a step (in all "
        "an m-th of them where epochs are divided), wider with GIST is better in "
        f"{better} of {len(rows) - 2}:\n\n" + aligned(rows)
    )


def _published() -> str:
    return _shown(
        {
            (layers, m, "", width): f"*{f1:.2f} ({hours:g})*"
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
