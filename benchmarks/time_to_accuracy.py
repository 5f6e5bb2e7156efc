"""Seconds to an accuracy over slow links: the paper's table 1 beside ours.

    python -m experiments.main --config=configs/speech_2layer.py --config.workers=8 \\
        --workdir=runs/speech_2layer_8
    python -m benchmarks.time_to_accuracy runs/speech_2layer_8 --gbps 1 0.1 --json links.json

A run folder tells the net, the workers, J, and how many rounds each method needed to an accuracy.
Rounds are then timed in processes, one a worker, each on a computer of its own behind a link of the
given rate (``benchmarks.network``; needs root and Debian's ``iproute2``). The accuracy after a
number of rounds does not depend on where they were trained (tests: the same bits on any number of
devices and processes), so that their product is the time to it. ``--whole METHOD`` checks that:
it trains one method in those processes until the run's last round, and tells the time that took.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

from benchmarks.network import NotPossible, network
from benchmarks.peers.protocol import NETS
from benchmarks.slow_links import measure
from experiments import report, vldb
from experiments.published import METHODS
from ist_jax.errors import InputError

INPUTS = 4096


def net_of(run: vldb.Run) -> str:
    """The benchmark's name of a run's net.

    Raises:
      InputError: it is none of those that can be timed.
    """
    hidden = [width for _, width in sorted(run.config["model"]["widths"].items())]
    for name, (inputs, *widths, _) in NETS.items():
        if inputs == INPUTS and hidden == widths:
            return name
    raise InputError(f"{run.folder}: no net with hidden layers {hidden} can be timed: {NETS}")


def timed(run: vldb.Run, gbps: float, turns: int) -> list[dict]:
    """Seconds of a round of each method, behind links of that rate."""
    config = run.config
    methods = tuple(m for m in METHODS if any(name == m for name, _ in run.lines))
    found: list[dict] = []
    for rows in measure(
        net_of(run),
        config["workers"],
        gbps,
        turns,
        config["local_steps"],
        config["data"]["batch"],
        "",
        methods,
        [m for m in methods if m == "data_parallel"],
    ):
        found = rows
    return found


def whole(run: vldb.Run, gbps: float, method: str) -> dict:
    """Trains a method to the run's last round in processes behind links; what the run told."""
    workers = run.config["workers"]
    words = run.command.split()
    with tempfile.TemporaryDirectory() as folder, network(workers) as links:
        flags = [word for word in words[3:] if not word.startswith("--workdir")]
        command = [
            sys.executable,
            "-m",
            "experiments.main",
            *flags,
            f"--config.methods=('{method}',)",
            f"--config.mesh.workers={workers}",
            f"--workdir={folder}/run",
            "--distributed",
            f"--coordinator={links.address(0)}:5900",
            f"--processes={workers}",
            "--patience=300",
        ]
        links.limit(gbps)
        processes = [
            links.start(rank, [*command, f"--process={rank}"], stdout=subprocess.DEVNULL)
            for rank in range(workers)
        ]
        try:
            if any(process.wait() for process in processes):
                raise RuntimeError("a process failed; what it said is above")
            lines = report.read(pathlib.Path(folder) / "run" / report.METRICS)
        finally:
            for process in processes:
                process.kill()
                process.wait()
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
    rows: list[dict] = []
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text())
    try:
        runs = [vldb.read(folder) for folder in options.folders]
        for run in runs:
            for gbps in options.gbps:
                rows += timed(run, gbps, options.rounds)
                if options.whole:
                    rows.append(whole(run, gbps, options.whole))
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")
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
