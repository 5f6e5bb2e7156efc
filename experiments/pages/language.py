"""Decoders of text in pieces, beside whole nets, small nets and ensembles, in bits for a byte.

    python -m experiments.report --page=language --out=language.md runs/gcide/*

Runs are those of configs/gcide_study.py, a folder for each variant; ``*.json`` are seconds of
rounds (benchmarks.behind_links).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pages.runs import Run, commands, time_table
from ist_jax.run.markdown import aligned, quantity
from ist_jax.run.measure import BITS

WHOLE = "local_sgd"  # what others are compared with, paired over seeds


def page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    """All of it, as Markdown."""
    parts = [
        "# Language models in pieces",
        "Bits for each byte of test text, of the whole net (or of what a method asks together): "
        "mean and standard deviation over seeds. Learning rates are each method's own, picked on "
        "validation text with one seed. Behind a row stands how much worse it is than "
        f"{WHOLE} of the whole net with the same seed; within two standard errors there is no "
        "difference.",
        _table(runs),
        time_table([row for row in rows if "round_s" in row]),
        commands(runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(runs: Sequence[Run]) -> str:
    head = ["cut", "method", "rate", "bits", "seeds", "behind", "parameters / worker",
            "sent / worker", "FLOPs / worker"]  # fmt: skip
    found = []
    beside = _bits(next((run for run in runs if not run.config["model"]["widths"]), None), WHOLE)
    for run in runs:
        cut = " and ".join(run.config["model"]["widths"]) or "nothing"
        for method in dict.fromkeys(name for name, _ in run.lines):
            bits, plan = _bits(run, method), run.plans[method]
            if not bits:
                continue
            row = [cut, method, f"{run.config['optimizer']['lr']:g}", BITS.spread([*bits.values()])]
            row += [str(len(bits)), behind(bits, beside)]
            row += [f"{plan['parameters']:,}"]
            row += [quantity(run.last(method, "comm/bytes_sent")[0], "B")]
            row += [quantity(run.last(method, "compute/flops")[0], "")]
            found.append((float(np.mean([*bits.values()])), row))
    ordered = [row for _, row in sorted(found, key=lambda pair: pair[0])]
    return aligned([head, ["---", "---", *["---:"] * 7], *ordered])


def behind(bits: dict[int, float], beside: dict[int, float]) -> str:
    """How many bits more than those of the same seeds; empty if there are none in common."""
    differ = np.array([bits[seed] - beside[seed] for seed in bits.keys() & beside.keys()])
    if not differ.size or bits == beside:
        return ""
    if differ.size == 1:
        return f"{differ[0]:+.3f} (one seed)"
    error = differ.std(ddof=1) / np.sqrt(differ.size)
    same = " (no difference)" if abs(differ.mean()) < 2 * error else ""
    return f"{differ.mean():+.3f} ± {error:.3f}{same}"


def _bits(run: Run | None, method: str) -> dict[int, float]:
    """Of every seed that was trained to the end."""
    if run is None:
        return {}
    ends = {seed: lines[-1] for (name, seed), lines in run.lines.items() if name == method}
    return {seed: end[BITS.key()] for seed, end in ends.items() if end["round"] == run.rounds}
