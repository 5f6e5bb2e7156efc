"""Rounds of any config behind slow links: each worker a process on a computer of its own.

    python -m benchmarks.behind_links --config=configs/fashion_resist.py --workers 4 \\
        --methods resist local_sgd --gbps 1 0.1 --rounds 3 --turns 2 --json links.json

Computers and links are ``benchmarks.network``'s (needs root and Debian's ``iproute2``). Methods
take turns. Flags that start with ``--config`` go to ``experiments.main``, which does the training;
what it compiles and what it measures of the net is not timed.
"""

import argparse
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.network import NotPossible, network
from experiments.pages.runs import rows_of, time_table
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.run import report


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


def measure(
    flags: Sequence[str],
    methods: Sequence[str],
    workers: int,
    gbps: float | None,
    rounds: int,
    turns: int,
) -> list[dict]:
    """A row for each method: the median over its turns of the seconds of a round."""
    lines = trained(
        [
            *flags,
            f"--config.methods={tuple(methods)}",
            f"--config.seeds={tuple(range(turns))}",
            f"--config.workers={workers}",
            "--config.epochs=0",
            f"--config.rounds={rounds}",
            f"--config.eval_every={rounds}",
            "--config.checkpoint.every=0",
        ],
        workers,
        gbps,
    )
    found = []
    for method in methods:
        ends = [lines[method, turn][-1] for turn in range(turns)]
        times = [end["time/train_s"] / rounds for end in ends]
        found.append(
            {
                "flags": list(flags),
                "workers": workers,
                "gbps": gbps,
                "method": method,
                "round_s": round(statistics.median(times), 4),
                "round_s_all": [round(seconds, 4) for seconds in times],
                "bytes_sent": ends[0]["comm/bytes_sent"] // rounds,
            }
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.behind_links",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--methods", nargs="+", required=True, metavar="METHOD")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gbps", nargs="+", type=float, default=[1.0, 0.1])
    parser.add_argument("--rounds", type=int, default=3, help="of a turn")
    parser.add_argument("--turns", type=int, default=2, help="of each method")
    parser.add_argument("--json", type=pathlib.Path, help="rows are added to this file")
    options, flags = parser.parse_known_args()
    if wrong := [flag for flag in flags if not flag.startswith("--config") or "=" not in flag]:
        parser.error(f"unknown: {wrong[0]} (flags of the config are written --config...=...)")
    if options.workers < 2 or min(options.rounds, options.turns, *options.gbps) <= 0:
        parser.error("two workers or more, and rounds, turns and rates above zero")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    try:
        rows = rows_of(options.json) if options.json and options.json.exists() else []
        for gbps in options.gbps:
            settings = (options.workers, gbps, options.rounds, options.turns)
            rows += measure(flags, options.methods, *settings)
            if options.json:
                options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
        print(time_table(rows))
    except (InputError, NotPossible, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
