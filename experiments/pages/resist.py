"""ResIST beside its paper (Dun et al., UAI 2022): traffic, the ladder of its ablation, codes, time.

    python -m experiments.report --page=resist --out=resist.md runs/resist runs/resist_naive ... \\
        links.json

Runs are those of configs/fashion_resist.py, one of each variant, and of the last one with
``--config.compress``; ``links.json`` has seconds of rounds (benchmarks.behind_links).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pages.moved import PreResNet, moved
from experiments.pages.published import RESIST_ABLATION, RESIST_TRAFFIC
from experiments.pages.runs import Run, commands, time_table
from ist_jax import method
from ist_jax.core.errors import InputError
from ist_jax.run import config_files
from ist_jax.run.markdown import aligned, quantity, spread

LADDER = config_files.module("fashion_resist").LADDER
STEPS = {
    "naive": "every block of the net dealt out",
    "strided": "strided blocks shared",
    "stage": "only the third stage cut",
    "scaled": "branches scaled where all run together",
    "preactivated": "normalised and activated before convolutions",
    "": "a least number of blocks each",
}
FULL = ""  # the last step


def page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    """All of it, as Markdown."""
    known = [(step_of(run), run) for run in runs]
    parts = [
        "# ResIST",
        "Paper: Dun et al., UAI 2022. Numbers in *italics* are the paper's, on CIFAR; ours are on "
        "Fashion-MNIST, with a net that is small enough for two cores, and are compared for their "
        "order only. Mean and standard deviation over seeds.",
        traffic_table(),
        _ladder([(step, run) for step, run in known if not run.config["compress"]]),
        _beside([run for step, run in known if step == FULL]),
        time_table([row for row in rows if "round_s" in row]),
        commands(runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def step_of(run: Run) -> str:
    """The variant of configs/fashion_resist.py that a run is of.

    Raises:
      InputError: it is of none.
    """
    config = run.config
    for step, (groups, how, preactivated, least) in LADDER.items():
        if (
            config["model"]["widths"] == groups
            and config["model"]["options"].get("preactivate") == preactivated
            and config["method_options"].get("resist", {}).get("min_depth", 0) == least
            and how in {name for name, _ in run.lines}
            and config["workers"] == 2
        ):
            return step
    raise InputError(f"{run.folder} is no run of configs/fashion_resist.py or a variant of it")


def traffic_table() -> str:
    """A round of the paper's net, ours and printed."""
    net = PreResNet({"stage3": 22}, blocks=(3, 4, 23, 3))
    rows = [
        ["workers", "least blocks", "ResIST (GB)", "*paper*", "local SGD (GB)", "*paper*"],
        ["---:"] * 6,
    ]
    for workers, (least, theirs, theirs_whole) in RESIST_TRAFFIC.items():
        cut, whole = (
            moved(net, how, workers)[1] / 1e9 for how in (method.resist(least), method.local_sgd())
        )
        rows.append(
            [str(workers), str(least), f"{cut:.4f}", f"*{theirs}*", f"{whole:.3f}",
             f"*{theirs_whole}*"]
        )  # fmt: skip
    count, _ = moved(net, method.local_sgd(), 2)
    return (
        "## Bytes a round\n\nThe paper's net of 101 layers with 100 classes "
        f"({count:,} parameters), all workers, both ways. The paper does not print the least "
        "number of blocks; these are the ones that its bytes stand for.\n\n" + aligned(rows)
    )


def _ladder(known: Sequence[tuple[str, Run]]) -> str:
    rows = [
        ["step", "accuracy (%)", "seeds", "blocks / worker", "sent / round", "*paper (%)*"],
        ["---"] + ["---:"] * 5,
    ]
    for step, what in STEPS.items():
        for run in [run for of, run in known if of == step]:
            how = LADDER[step][1]
            plan, found = run.plans[how], run.last(how)
            theirs = RESIST_ABLATION.get(step)
            rows.append(
                [
                    f"{step or 'resist'}: {what}",
                    spread(found),
                    str(len(found)),
                    str(sum(plan["sub_widths"].values())),
                    quantity(plan["bytes_sent"], "B"),
                    f"*{theirs:.1f}*" if theirs else "",
                ]
            )
    if len(rows) == 2:
        return ""
    return (
        "## One step at a time\n\nTwo workers; each step keeps those before it. Blocks a worker: "
        "the slots of its net; where they are dealt out unevenly, a worker has some that are empty "
        "and computed all the same.\n\n" + aligned(rows) + "\n\n" + _order(known)
    )


def _order(known: Sequence[tuple[str, Run]]) -> str:
    """Whether each step is better than the one before it, and by more than seeds differ."""
    found = {step: run.last(LADDER[step][1]) for step, run in known}
    steps = [step for step in STEPS if found.get(step)]
    told = []
    for before, after in itertools.pairwise(steps):
        gain = 100 * (np.mean(found[after]) - np.mean(found[before]))
        differ = [np.std(found[step], ddof=len(found[step]) > 1) for step in (before, after)]
        within = " (seeds differ by as much)" if abs(gain) <= 100 * max(differ) else ""
        told.append(f"{after or 'resist'} {gain:+.1f}{within}")
    return f"Points that a step adds to the one before it: {', '.join(told)}." if told else ""


def _beside(runs: Sequence[Run]) -> str:
    rows = [
        ["method", "updates in", "accuracy (%)", "seeds", "sent / worker", "received / worker",
         "FLOPs / worker", "training time"],
        ["---", "---"] + ["---:"] * 6,
    ]  # fmt: skip
    for run in sorted(runs, key=lambda run: run.config["compress"]):
        for how in dict.fromkeys(name for name, _ in run.lines):
            if found := run.last(how):
                rows.append(
                    [
                        how,
                        run.config["compress"] or "32 bits",
                        spread(found),
                        str(len(found)),
                        quantity(run.last(how, "comm/bytes_sent")[0], "B"),
                        quantity(run.last(how, "comm/bytes_received")[0], "B"),
                        quantity(run.last(how, "compute/flops")[0], ""),
                        f"{run.median(how, 'time/train_s'):.0f} s",
                    ]
                )
    if len(rows) == 2:
        return ""
    return (
        "## Beside it\n\nThe last step of the ladder, local SGD and two nets as deep as a subnet "
        "that are asked together; and the same with updates in fewer bits. Leaves that all workers "
        "share go to the device in charge of them in the code, and their mean comes back in 8 "
        "bits; blocks, which are few and may have several holders, go as they are. Training "
        "times can be compared only between runs of one day (their dates stand at the end)."
        "\n\n" + aligned(rows)
    )
