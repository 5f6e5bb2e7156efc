"""Seconds to an accuracy over slow links: the paper's table 1 beside ours.

    python -m experiments.main --config=configs/speech_2layer.py --config.workers=8 \\
        --workdir=runs/speech_2layer_8
    python -m benchmarks.time_to_accuracy runs/speech_2layer_8 --gbps 1 0.1 --json links.json

Run folders tell the net, the workers, J, and how many rounds each method needed to an accuracy.
Rounds are then timed in processes, one a worker, each on a computer of its own behind a link of the
given rate (``benchmarks.network``; needs root and Debian's ``iproute2``). The accuracy after a
number of rounds does not depend on where they were trained (tests: the same bits on any number of
devices and processes), so that their product is the time to it. ``--whole METHOD`` checks that:
it trains one method in those processes until the run's last round, and tells the time that took.
"""

import argparse
import itertools
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.network import NotPossible, network
from benchmarks.slow_links import measure
from experiments.pages import vldb, workloads
from experiments.pages.published import METHODS
from experiments.pages.runs import Run, read, rows_of
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.run import report

LONGEST = 20.0  # seconds of a round, of a method that takes more than one turn


def net_of(run: Run) -> str:
    """The benchmark's name of a run's net.

    Raises:
      InputError: it is none of those that can be timed.
    """
    hidden = tuple(run.config["model"]["widths"].values())
    if hidden not in workloads.NETS:
        raise InputError(
            f"{run.folder}: no net with hidden layers {list(hidden)} can be timed, only "
            f"{sorted(workloads.NETS)}"
        )
    return workloads.NETS[hidden]


def flags_of(run: Run) -> list[str]:
    """The config's flags of a run's command, with its first seed alone."""
    words, flags = shlex.split(run.command), []
    words = [*itertools.dropwhile(lambda word: not word.startswith("--"), words)]
    for number, word in enumerate(words):
        if word.startswith("--config") and "=" in word:
            flags.append(word)
        elif word.startswith("--config"):
            flags.append(f"{word}={words[number + 1]}")
    seed = min(seed for _, seed in run.lines)
    return [*flags, f"--config.seeds=({seed},)"]


def timed(run: Run, gbps: float, turns: int) -> list[dict]:
    """Seconds of a round of each method, behind links of that rate."""
    config = run.config
    methods = tuple(m for m in METHODS if any(name == m for name, _ in run.lines))
    found: list[dict] = []
    for rows in measure(
        net_of(run),
        config["workers"],
        [gbps],
        turns,
        config["local_steps"],
        config["data"]["batch"],
        "",
        methods,
        LONGEST,
    ):
        found = [{**row, "batch": config["data"]["batch"]} for row in rows]
    return found


def trained(flags: Sequence[str], workers: int, gbps: float | None) -> dict[tuple[str, int], list]:
    """The lines of a run's metrics, trained in processes behind links of that rate.

    Raises:
      RuntimeError: a process failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder, network(workers) as links:
        command = [
            *(sys.executable, "-m", "experiments.main"),
            *flags,
            f"--config.mesh.workers={workers}",
            f"--workdir={folder}/run",
            "--distributed",
            f"--coordinator={links.address(0)}:5900",
            f"--processes={workers}",
            "--patience=300",
        ]
        if gbps:
            links.limit(gbps)
        processes: list[subprocess.Popen] = []
        try:
            for rank in range(workers):
                own = [*command, f"--process={rank}"]
                processes.append(links.start(rank, own, stdout=subprocess.DEVNULL))
            if any(process.wait() for process in processes):
                raise RuntimeError("a process failed; what it said is above")
            return report.read(pathlib.Path(folder) / "run" / report.METRICS)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def whole(run: Run, gbps: float, method: str) -> dict:
    """Trains a method to the run's last round in processes behind links; what the run told."""
    workers = run.config["workers"]
    lines = trained([*flags_of(run), f"--config.methods=('{method}',)"], workers, gbps)
    seed = min(seed for _, seed in lines)
    last = lines[method, seed][-1]
    same = run.lines[method, seed][-1]["accuracy/test"]
    return {
        "whole": method,
        "workers": workers,
        "gbps": gbps,
        "rounds": last["round"],
        "train_s": last["time/train_s"],
        "accuracy": last["accuracy/test"],
        "accuracy_of_the_run": same,
    }


def keep(rows: list[dict], path: pathlib.Path | None) -> None:
    """What was measured so far; the rest takes long."""
    if path:
        path.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_to_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="run folders on speech")
    parser.add_argument("--gbps", nargs="+", type=float, default=[1.0, 0.1])
    parser.add_argument("--rounds", type=int, default=2, help="turns of each method")
    parser.add_argument("--whole", choices=sorted(METHODS), help="also train this one to the end")
    parser.add_argument("--json", type=pathlib.Path, help="rows are added to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    try:
        there = bool(options.json and options.json.exists())
        rows = rows_of(options.json) if there else []
        folded = [read(folder) for folder in options.folders]
        runs = workloads.joined(folded)
        for run, gbps in itertools.product(runs, options.gbps):
            fresh = timed(run, gbps, options.rounds)
            keys = [workloads.link_of(row) for row in fresh]
            rows = [row for row in rows if workloads.link_of(row) not in keys] + fresh
            keep(rows, options.json)
        for run, gbps in itertools.product(folded, options.gbps):
            if options.whole and run.seeds(options.whole):
                rows.append(whole(run, gbps, options.whole))
                keep(rows, options.json)
        print("\n\n".join(vldb.table1(runs, [row for row in rows if "round_s" in row])))
        for row in rows:
            if "whole" in row:
                each = row["train_s"] / row["rounds"]
                print(f"trained to the end: {row}, {each:.2f} s a round")
    except (InputError, NotPossible) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
