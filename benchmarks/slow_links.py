"""Rounds over slow links: this library beside PyTorch, both over gloo, in one run.

    python -m benchmarks.slow_links --workers 4 --gbps 1 --net speech_2layer --rounds 3 \\
        --json out.json

Every worker is a process on a computer of its own (``network``: namespaces, links of the given
rate). Methods take turns, so that other load on the machine falls on all alike; a turn is a round,
or as many as take three seconds, since the first after a pause is slower. A round is timed from its
start to the last worker's end, and bytes are those that the interface of the worker that received
most has counted. Without ``--gbps`` the links are as fast as the machine.

PyTorch is needed for its half only: ``pip install torch==2.13.0`` (in any environment:
``--torch-python``). Without it, this library's methods run alone.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.network import Network, NotPossible, network
from benchmarks.peers.protocol import NETS
from ist_jax.core import strict_json

TURN_S, MOST_ROUNDS = 3.0, 16  # of a turn
ROOT = pathlib.Path(__file__).parent.parent
OURS: tuple[str, ...] = ("ist", "ist_balanced", "local_sgd", "data_parallel", "compute")
PYTORCH: tuple[str, ...] = ("torch_ist_server", "torch_local_sgd", "torch_ddp")
OVERLAP: tuple[str, ...] = ("steps", "passes", "in_turn", "side_by_side", "in_one_loop")


class Team(NamedTuple):
    """The processes of one library, a worker each."""

    processes: list[Any]

    def round(self, method: str) -> tuple[float, int, int]:
        """Seconds; bytes that the worker that received most received, and those it expected."""
        started = time.perf_counter()
        for process in self.processes:
            process.stdin.write(f"{method}\n")
            process.stdin.flush()
        received = [int(_answer(process)) for process in self.processes]
        seconds = time.perf_counter() - started
        expected = [int(_answer(process)) for process in self.processes]
        return seconds, *max(zip(received, expected, strict=True))


def measure(
    net: str,
    workers: int,
    gbps: float | None,
    rounds: int,
    local_steps: int,
    batch: int,
    torch: str,
    only: Sequence[str],
    once: Sequence[str],
) -> Iterator[list[dict]]:
    """After every turn of all methods the rows so far, a method each; medians over the rounds."""
    seconds: dict[str, list[float]] = {}
    received: dict[str, list[int]] = {}
    expected: dict[str, list[int]] = {}
    with network(workers) as links:
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        settings = {"net": net, "local_steps": local_steps, "batch": batch, "threads": threads}
        teams: list[tuple[Team, tuple[str, ...]]] = []
        try:
            for module, python, methods in (
                ("ours", sys.executable, OURS),
                ("pytorch", torch, PYTORCH),
                ("overlap", sys.executable, OVERLAP),
            ):
                methods = tuple(method for method in methods if method in only)
                if python and methods:
                    settings["methods"] = methods
                    team = _start(links, module, python, settings, port=5000 + len(teams))
                    teams.append((team, methods))
                    for process in team.processes:
                        if (said := _answer(process)) != "ready":
                            raise RuntimeError(f"{module} said {said!r}")
            if gbps:
                links.limit(gbps)
            for turn in range(rounds):
                for team, methods in teams:
                    for method in [m for m in methods if turn == 0 or m not in once]:
                        spent = 0.0
                        for _ in range(MOST_ROUNDS):
                            took, most, told = team.round(method)
                            seconds.setdefault(method, []).append(took)
                            received.setdefault(method, []).append(most)
                            expected.setdefault(method, []).append(told)
                            if (spent := spent + took) >= TURN_S:
                                break
                yield [
                    {
                        "method": method,
                        "workers": workers,
                        "gbps": gbps,
                        "net": net,
                        "local_steps": local_steps,
                        "round_s": round(statistics.median(times), 4),
                        "round_s_all": [round(t, 4) for t in times],
                        "bytes_received": int(statistics.median(received[method])),
                        "bytes_received_all": received[method],
                        "bytes_expected_all": expected[method],  # 0: it cannot tell
                    }
                    for method, times in seconds.items()
                ]
        finally:
            for team, _ in teams:
                for process in team.processes:
                    process.kill()
                    process.wait()


def table(rows: list[dict]) -> str:
    """Rows with ratios to the first of them (IST, unless it is left out)."""
    first = rows[0]
    lines = [
        f"| method | s / round | x {first['method']} | MB received | x {first['method']} |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in rows:
        times, nbytes = row["round_s"], row["bytes_received"]
        lines.append(
            f"| {row['method']} | {times:.2f} | {times / first['round_s']:.1f} "
            f"| {nbytes / 1e6:.1f} | {nbytes / max(first['bytes_received'], 1):.1f} |"
        )
    return "\n".join(lines)


def _start(links: Network, module: str, python: str, settings: dict, port: int) -> Team:
    processes = []
    for rank in range(links.computers):
        task = dict(
            settings,
            rank=rank,
            workers=links.computers,
            address=f"{links.address(0)}:{port}",
        )
        processes.append(
            links.start(
                rank,
                [python, "-m", f"benchmarks.peers.{module}", json.dumps(task)],
                cwd=ROOT,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "net0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
                text=True,
            )
        )
    return Team(processes)


def _answer(process: Any) -> str:
    """The next line a process says."""
    text = process.stdout.readline()
    if not text:
        raise RuntimeError(f"a worker stopped with code {process.wait()}; VERBOSE=1 shows why")
    return text.strip()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_links",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--gbps", type=float, help="10^9 bits a second, each way; default: no limit"
    )
    parser.add_argument("--net", choices=sorted(NETS), default="speech_2layer")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method")
    parser.add_argument("--local_steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    usual = (*OURS, *PYTORCH)
    every = (*usual, *OVERLAP)
    parser.add_argument("--methods", nargs="+", choices=every, default=usual, metavar="METHOD",
                        help=f"some of {', '.join(every)}; default: all but the last five, "
                        "which see if an exchange can hide behind local steps")  # fmt: skip
    parser.add_argument("--once", nargs="+", choices=every, default=[], metavar="METHOD",
                        help="methods that take part in the first turn only")  # fmt: skip
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args()
    if options.workers < 2 or options.rounds < 1 or (options.gbps or 1) <= 0:
        parser.error("--workers must be at least 2, --rounds at least 1, --gbps positive")
    torch = options.torch_python
    if not set(options.methods) & set(PYTORCH):
        torch = ""
    elif subprocess.run([torch, "-c", "import torch"], capture_output=True).returncode:
        print(f"{torch} has no PyTorch (pip install torch==2.13.0): left out", file=sys.stderr)
        torch = ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    try:
        turns = measure(
            options.net,
            options.workers,
            options.gbps,
            options.rounds,
            options.local_steps,
            options.batch,
            torch,
            options.methods,
            options.once,
        )
        for rows in turns:
            if options.json:
                options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
        print(table(rows))
    except NotPossible as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
