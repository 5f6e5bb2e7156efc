"""The tables of the IST paper beside our own runs (Yuan et al., PVLDB 15(8), 2022, tables 1 to 4).

    python -m experiments.report --page=vldb --out=vldb.md runs/speech_2 runs/speech_8 ... \\
        links.json baselines.json

A run folder tells which table it belongs to: its data set, its net and its number of workers.
``links.json`` has seconds of a round over slow links (benchmarks.time_to_accuracy), and
``baselines.json`` what was found without training (benchmarks.xmc_baselines).

The accuracy after a number of rounds does not depend on the machines that trained it, nor does the
time of a round depend on how far training is: a time to an accuracy is their product.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pages.published import METHODS, NODES, SYNTHETIC, TABLE1, TABLE2, TABLE3, TABLE4
from experiments.pages.runs import Run, commands
from experiments.pages.workloads import NETS, joined, link_of, workload_of
from ist_jax.run.markdown import aligned, quantity, spread

PAPERS_GBPS = 1  # the links of the paper's machines
_LEVELS = (
    " The paper's levels are out of reach here. In their place are those which are the same share "
    "of what data parallel training of the two-layer net comes to: 79 and 94 %."
)


def page(folded: list[Run], rows: list[dict[str, Any]]) -> str:
    """All tables, as Markdown."""
    runs = joined(folded)
    parts = [
        "# The paper's workloads",
        "Paper: Yuan et al., PVLDB 15(8), 2022. Numbers in *italics* are the paper's, on its own "
        "data and machines. Ours are on the data that each row names: *synthetic* (made by a "
        "program), a *stand-in* (real, of another kind), or *real*, where Fashion-MNIST stands in "
        "the place of CIFAR10 and ImageNet. All are compared for their ratios and order only. A "
        "value without ± is of one seed.",
        *table1(runs, [row for row in rows if "round_s" in row]),
        _table2(runs),
        _table3(runs),
        _table4(runs, [row for row in rows if "precision_1" in row]),
        commands(folded),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table1(runs: list[Run], links: list[dict]) -> list[str]:
    """A table for each net: seconds to each accuracy, paper and ours, and their ratios."""
    parts = []
    for workload, paper in TABLE1.items():
        own = {run.config["workers"]: run for run in runs if workload_of(run) == workload}
        rates = sorted({row["gbps"] for row in links if row.get("gbps")}, reverse=True)
        blocks = []
        for gbps in rates:
            rows = [
                row
                for level in paper
                for row in _level(own, workload, level, links, gbps)
                if gbps == PAPERS_GBPS or not row[0].startswith("*")
            ]
            if rows:
                head = ["accuracy", *(f"{METHODS[m]}, {n}" for m in METHODS for n in NODES)]
                table = aligned([head, ["---"] + ["--:"] * 9, *rows])
                blocks.append(f"Links of {gbps:g} Gbit/s:\n\n{table}")
        if blocks:
            data = ", ".join(sorted({run.told for run in own.values()}))
            counts = [
                f"{METHODS[m]} {_counts([run.seeds(m) for run in own.values()])}" for m in METHODS
            ]
            parts.append(
                f"## Table 1, {workload}: seconds to an accuracy\n\nData: {data}; medians over "
                f"seeds ({', '.join(counts)}). Rounds to the accuracy times the seconds of a round "
                "(`python -m benchmarks.time_to_accuracy`), all workers on one machine behind "
                "links of their own; a dash: not reached, or not run."
                + (_LEVELS if any(run.data["origin"] != "real" for run in own.values()) else "")
                + "\n\n"
                + "\n\n".join(blocks)
            )
    return parts


def _level(
    own: dict[int, Run], workload: str, level: float, links: list[dict], gbps: float
) -> list[list[str]]:
    """Rows for one of the paper's levels: seconds and ratios to IST, ours and the paper's."""
    real = all(run.data["origin"] == "real" for run in own.values())
    of_ours = level if real else SYNTHETIC[level]
    ours = {(m, n): _seconds(own.get(n), m, of_ours, links, gbps) for m in METHODS for n in NODES}
    theirs = {
        (m, n): seconds
        for m, of_nodes in TABLE1[workload][level].items()
        for n, seconds in zip(NODES, of_nodes, strict=True)
    }
    if not any(ours.values()):
        return []
    places = [(m, n) for m in METHODS for n in NODES]
    return [
        [f"{of_ours}", *(_shown(ours[place]) for place in places)],
        [f"*{level}*", *(f"*{theirs[place]}*" for place in places)],
        [f"{of_ours}, x IST", *(_ratio(ours, *place) for place in places)],
        [f"*{level}, x IST*", *(f"*{_ratio(theirs, *place)}*" for place in places)],
    ]


def _seconds(
    run: Run | None, method: str, level: float, links: list[dict], gbps: float
) -> float | None:
    if run is None or (rounds := run.rounds_to(method, level)) is None:
        return None
    net, config = NETS.get(tuple(run.config["model"]["widths"].values())), run.config
    wanted = (net, config["workers"], gbps, config["local_steps"], config["data"]["batch"], method)
    for row in links:
        if link_of(row) == wanted:
            return rounds * row["round_s"]
    return None


def _ratio(seconds: dict[tuple[str, int], Any], method: str, nodes: int) -> str:
    mine, ist = seconds[method, nodes], seconds["ist", nodes]
    return f"{mine / ist:.1f}" if mine and ist else "-"


def _table2(runs: list[Run]) -> str:
    head = ["workload", "data", "parameters", "rounds", "seeds", *METHODS.values()]
    rows, first, places = [head, ["---", "---"] + ["---:"] * 6], 0, 0
    for workload, paper in TABLE2.items():
        found = [  # where some were trained for fewer rounds, their ends are not to be compared
            run
            for run in sorted(runs, key=lambda run: run.config["workers"])
            if workload_of(run) == workload
            and all(run.last(method) for method in METHODS if run.seeds(method))
        ]
        for run in found:
            name = f"{workload}, {run.config['workers']} workers"
            ends = [run.last(method) for method in METHODS]
            size = f"{max(plan['net_parameters'] for plan in run.plans.values()):,}"
            row = [name, run.told, size, str(run.rounds), _counts(ends)]
            rows.append([*row, *map(spread, ends)])
            if all(ends):
                means = [np.mean(one) for one in ends]
                places, first = places + 1, first + (means[-1] == max(means))
        if found:
            theirs = [f"*{100 * v:.2f}*" for v in paper]
            rows.append([f"*{workload}, 2 workers*", "*paper's*", "", "", "", *theirs])
    if len(rows) == 2:
        return ""
    return (
        f"## Table 2: final accuracy (%)\n\nIST is the best of the three in {first} of our "
        f"{places} rows; in the paper in three of four. Parameters are those of our net.\n\n"
        + aligned(rows)
    )


def _table3(runs: list[Run]) -> str:
    head = [f"{workload}, {m}" for workload in TABLE3 for m in ("IST", "ensemble")]
    rows = [["workers", "seeds", *head], ["---"] + ["---:"] * 5]
    rounds: dict[str, list[str]] = {workload: [] for workload in TABLE3}
    ahead, places = dict.fromkeys(TABLE3, 0), dict.fromkeys(TABLE3, 0)
    for place, nodes in enumerate(NODES):
        own = {
            workload_of(r): r
            for r in runs
            if workload_of(r) in TABLE3 and r.config["workers"] == nodes
        }
        values = [own[w].last(m) if w in own else [] for w in TABLE3 for m in ("ist", "ensemble")]
        for w, run in own.items():
            rounds[w].append(str(run.rounds))
            if run.last("ist") and run.last("ensemble"):
                ahead[w] += np.mean(run.last("ist")) > np.mean(run.last("ensemble"))
                places[w] += 1
        if own:
            rows.append([str(nodes), _counts(values), *map(spread, values)])
        theirs = [TABLE3[w][m][place] for w in TABLE3 for m in ("ist", "ensemble")]
        rows.append([f"*{nodes}*", "", *(f"*{100 * value:.0f}*" for value in theirs)])
    said = [
        f"{w}: after {', '.join(rounds[w])} rounds IST is ahead in {ahead[w]} of {places[w]} places"
        f" (in the paper in {sum(np.greater(TABLE3[w]['ist'], TABLE3[w]['ensemble']))} of 3)."
        for w in TABLE3
        if rounds[w]
    ]
    return "\n\n".join(
        ["## Table 3: IST and the ensemble on speech (%)", " ".join(said), aligned(rows)]
    )


def _table4(runs: list[Run], baselines: list[dict]) -> str:
    found = [run for run in runs if workload_of(run) == "labels"]
    if not found:
        return ""
    keys = [f"{kind}_{k}" for kind in ("precision", "propensity") for k in (1, 3, 5)]
    rows = [
        ["data", "width", "method", "seeds", "P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5",
         "parameters / worker", "sent / worker"],
        ["---", "---:", "---"] + ["---:"] * 9,
    ]  # fmt: skip
    told = {run.data["name"]: run.told for run in found}
    for row in baselines:
        shares = [f"{100 * row[key]:.1f}" for key in keys]
        name = told.get(row["data"], row["data"])
        rows.append([name, "", row["method"], "", *shares, "", ""])
    for run in sorted(found, key=lambda run: run.config["model"]["widths"]["hidden0"]):
        for method in dict.fromkeys(name for name, _ in run.lines):
            if not run.last(method):
                continue
            rows.append(
                [
                    run.told,
                    str(run.config["model"]["widths"]["hidden0"]),
                    f"{METHODS.get(method, method)}, {run.config['workers']} workers",
                    str(len(run.last(method))),
                    *(spread(run.last(method, f"{key}/test"), 1) for key in keys),
                    f"{run.plans[method]['parameters']:,}",
                    quantity(run.last(method, "comm/bytes_sent")[0], "B"),
                ]
            )
    for (method, width), values in TABLE4.items():
        theirs = [f"*{100 * value:.1f}*" for value in values]
        name = f"*{METHODS[method]}, 8 workers*"
        rows.append(["*Amazon-670K*", f"*{width}*", name, "", *theirs, "", "", "", "", ""])
    return (
        "## Table 4: precision of the best labels (%)\n\nPSP: propensity-scored. IST trains a "
        "sample of the labels in each round (`xmc.sampled`), data parallel training all of them in "
        "each step. On Amazon-670K, the paper's data parallel training could not hold more than a "
        "width of 512. Neighbours and popularity: `python -m benchmarks.xmc_baselines`. Debian's "
        "packages are read from apt's lists (`config.data.path`, their folder).\n\n" + aligned(rows)
    )


def _shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f}"


def _counts(values: Sequence[Sequence[Any]]) -> str:
    """How many seeds there are, of those methods that were trained."""
    return " or ".join(map(str, sorted({len(one) for one in values if one})))
