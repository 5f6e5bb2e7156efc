"""Rounds over slow links: this library beside PyTorch, both over gloo, in one run.

    python -m benchmarks.slow_links --workers 4 --gbps 1 0.1 --net speech_2layer --rounds 5 \\
        --json out.json

Every worker is a process on a computer of its own (``network``: namespaces, links of the given
rate), and all take turns (``turns``). Without ``--gbps`` the links are as fast as the machine.

PyTorch is needed for its half only: ``pip install torch==2.13.0`` (in any environment:
``--torch-python``). Without it, this library's methods run alone.
"""

import argparse
import math
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import turns as turns_of
from benchmarks.network import NotPossible
from benchmarks.peers.protocol import NETS
from ist_jax.core import strict_json

OURS: tuple[str, ...] = ("ist", "ist_balanced", "local_sgd", "data_parallel", "compute")
PYTORCH: tuple[str, ...] = ("torch_ist_server", "torch_local_sgd", "torch_ddp")
OVERLAP: tuple[str, ...] = ("steps", "passes", "in_turn", "side_by_side", "in_one_loop")


def measure(
    net: str,
    workers: int,
    rates: Sequence[float | None],
    turns: int,
    local_steps: int,
    batch: int,
    torch: str,
    only: Sequence[str],
    longest: float,
) -> Iterator[list[dict]]:
    """After every turn of all methods at a rate the rows so far, a rate and method each."""
    settings = {"net": net, "local_steps": local_steps, "batch": batch}
    peers = []
    for module, python, known in (
        ("ours", sys.executable, OURS),
        ("pytorch", torch, PYTORCH),
        ("overlap", sys.executable, OVERLAP),
    ):
        methods = tuple(method for method in known if method in only)
        if python and methods:
            peers.append(turns_of.Peers(module, python, methods, settings))
    about = {"workers": workers, "net": net, "local_steps": local_steps}
    for found in turns_of.measure(peers, workers, rates, turns, longest):
        yield [{**about, **turns_of.row(key, rounds)} for key, rounds in found.items()]


def table(rows: list[dict]) -> str:
    """Rows with ratios to the first of their rate (IST, unless it is left out)."""
    name = rows[0]["method"]
    lines = [
        f"| Gbit/s | method | s / round | x {name} | MB received | x {name} |",
        "| --: | --- | --: | --: | --: | --: |",
    ]
    firsts: dict[float | None, dict] = {}
    for row in sorted(rows, key=lambda row: -(row["gbps"] or math.inf)):
        first = firsts.setdefault(row["gbps"], row)
        times, nbytes = row["round_s"], row["bytes_received"]
        lines.append(
            f"| {row['gbps'] or 'free'} | {row['method']} | {times:.2f} "
            f"| {times / first['round_s']:.1f} "
            f"| {nbytes / 1e6:.1f} | {nbytes / max(first['bytes_received'], 1):.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_links",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gbps", nargs="+", type=float, default=[None], metavar="RATE",
                        help="10^9 bits a second, each way; default: no limit")  # fmt: skip
    parser.add_argument("--net", choices=sorted(NETS), default="speech_2layer")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method")
    parser.add_argument("--local_steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    usual = (*OURS, *PYTORCH)
    every = (*usual, *OVERLAP)
    parser.add_argument("--methods", nargs="+", choices=every, default=usual, metavar="METHOD",
                        help=f"some of {', '.join(every)}; default: all but the last five, "
                        "which see if an exchange can hide behind local steps")  # fmt: skip
    parser.add_argument("--longest", type=float, default=math.inf, metavar="SECONDS",
                        help="a method that took longer for a round takes no more turns at that "
                        "rate, and none at a slower one")  # fmt: skip
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args()
    if options.workers < 2 or options.rounds < 1 or min(rate or 1 for rate in options.gbps) <= 0:
        parser.error("--workers must be at least 2, --rounds at least 1, --gbps positive")
    torch = options.torch_python
    if not set(options.methods) & set(PYTORCH):
        torch = ""
    elif subprocess.run([torch, "-c", "import torch"], capture_output=True).returncode:
        print(f"{torch} has no PyTorch (pip install torch==2.13.0): left out", file=sys.stderr)
        torch = ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    try:
        found = measure(
            options.net,
            options.workers,
            options.gbps,
            options.rounds,
            options.local_steps,
            options.batch,
            torch,
            options.methods,
            options.longest,
        )
        for rows in found:
            if options.json:
                options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
        print(table(rows))
    except NotPossible as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
