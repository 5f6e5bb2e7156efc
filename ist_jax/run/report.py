"""Run folders read, and tables of them.

A folder's table shows, for each method, mean and standard deviation over seeds of the last
accuracy (of texts, bits for a byte), and what one worker sent, computed and took.
"""

import pathlib
from collections import defaultdict

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.cost import timing
from ist_jax.run import measure
from ist_jax.run.markdown import aligned, quantity
from ist_jax.run.metrics import parse

METRICS, SUMMARY = "metrics.jsonl", "summary.json"
FIGURES = ("accuracy.png", "comparison.png")  # of one folder, of several


def read(metrics: pathlib.Path) -> dict[tuple[str, int], list[dict]]:
    """The lines of a metrics file by (method, seed), in their order.

    Raises:
      InputError: there is no such file, or a line that is not one of ours (it is named).
    """
    try:
        if metrics.exists() and not metrics.is_file():
            raise InputError(f"cannot read {metrics}: it is no file")
        text = metrics.read_text()
    except FileNotFoundError:
        raise InputError(f"{metrics.parent} is no run folder: it holds no {metrics.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {metrics}: {error}") from None
    runs = defaultdict(list)
    for number, row in enumerate(text.splitlines(), start=1):
        try:
            line = parse(row)
        except ValueError as error:
            raise InputError(f"{metrics}, line {number} is not a metrics line: {error}") from None
        runs[line["method"], line["seed"]].append(line)
    if not runs:
        raise InputError(f"{metrics} is empty: that run has not measured anything yet")
    return dict(runs)


def results(metrics: pathlib.Path) -> dict[str, dict]:
    """For each method: the last line of every seed, and mean and spread of its measures.

    Seeds that stopped before the last round of the file are left out, and listed as unfinished.
    """
    runs = read(metrics)
    last_round = max(lines[-1]["round"] for lines in runs.values())
    out = {}
    for name in dict.fromkeys(method for method, _ in runs):
        ends = [lines[-1] for (method, _), lines in runs.items() if method == name]
        last = [line for line in ends if line["round"] == last_round]
        out[name] = {
            **_means(last),
            "seeds": [line["seed"] for line in last],
            "last": last,
            "unfinished": {
                line["seed"]: line["round"] for line in ends if line["round"] < last_round
            },
        }
    return out


def _means(last: list[dict]) -> dict[str, float | None]:
    """Mean and deviation of accuracy, which are None where there is none; and of bits, if any."""
    out: dict[str, float | None] = {}
    for one in (measure.ACCURACY, measure.BITS):
        found = [line[one.key()] for line in last if one.key() in line]
        if found or one == measure.ACCURACY:
            out[f"{one.name}_mean"] = float(np.mean(found)) if found else None
            out[f"{one.name}_std"] = float(np.std(found, ddof=1)) if len(found) > 1 else None
    return out


def table(folders: list[pathlib.Path]) -> str:
    """A Markdown table, a row for each folder and method."""
    found = {folder: results(folder / METRICS) for folder in folders}
    all_of_them = [line for of in found.values() for one in of.values() for line in one["last"]]
    shown = measure.of(all_of_them)
    rows = [
        ["method", shown.title(), "seeds", "sent / worker", "FLOPs / worker", "training time"],
        ["---", "---:", "---:", "---:", "---:", "---:"],
    ]
    notes = []
    for folder in folders:
        prefix = f"{folder.name}: " if len(folders) > 1 else ""
        for name, result in found[folder].items():
            for seed, stopped in result["unfinished"].items():
                notes.append(f"{prefix}{name}, seed {seed} stopped after round {stopped}: left out")
            if last := result["last"]:
                seconds = float(np.median([line["time/train_s"] for line in last]))
                rows.append(
                    [
                        prefix + name,
                        shown.spread([x[shown.key()] for x in last if shown.key() in x]),
                        str(len(last)),
                        quantity(last[0]["comm/bytes_sent"], "B"),
                        quantity(last[0]["compute/flops"], ""),
                        f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.0f} ms",
                    ]
                )
        if not (folder / SUMMARY).exists():
            notes.append(f"{folder} is an unfinished run")
    return "\n\n".join([aligned(rows), *notes])


def plan_table(plans: dict, rounds: int) -> str:
    """What each method will cost, as a Markdown table; ``plans`` are ``job.Costs``."""
    rows = [
        [
            "method",
            "parameters / worker",
            "of the net",
            "sent / round",
            "all workers, both ways",
            "sent in all",
            "FLOPs / round",
        ],
        ["---"] + ["---:"] * 6,
    ]
    for name, plan in plans.items():
        rows.append(
            [
                name,
                f"{plan.parameters:,}",
                f"{plan.parameters / plan.net_parameters:.1%}",
                quantity(plan.bytes_sent, "B"),
                quantity(plan.bytes_moved, "B", digits=4),
                quantity(plan.bytes_sent * rounds + plan.bytes_once, "B"),
                quantity(plan.flops, ""),
            ]
        )
    return aligned(rows)


def time_table(
    compute: dict[str, float], exchanged: dict[str, timing.Exchanged], link: timing.Link
) -> str:
    """The least seconds of a round where every worker is a machine like this, behind a link."""
    seconds = {name: link.seconds(compute[name], exchanged[name]) for name in compute}
    rows = [
        ["method", "received / round", "computing (s)", "link (s)", "a round (s)", "x ist"],
        ["---"] + ["---:"] * 5,
    ]
    for name in compute:
        nbytes = quantity(exchanged[name].bytes_received, "B")
        ratio = f"{seconds[name] / seconds['ist']:.1f}" if "ist" in seconds else "-"
        waiting = seconds[name] - compute[name]
        times = [f"{value:.3g}" for value in (compute[name], waiting, seconds[name])]
        rows.append([name, nbytes, *times, ratio])
    return (
        f"every worker a machine like this, links of {link.rate * 8 / 1e9:g} Gbit/s, "
        f"{link.latency * 1e3:g} ms, and every machine keeps its part of the net: it receives what "
        "it trains next and what belongs home; at least, measured rounds took 1.1 to 1.3 times as "
        "long, and more with codes:\n"
        f"{aligned(rows)}"
    )
