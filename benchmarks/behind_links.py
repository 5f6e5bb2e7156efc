"""Rounds of any config behind slow links: each worker a process on a computer of its own.

    python -m benchmarks.behind_links --config=configs/fashion_resist.py --workers 4 \\
        --methods resist local_sgd --gbps 1 0.1 --rounds 5 --json links.json

Computers and links are ``benchmarks.network``'s (needs root and Debian's ``iproute2``), methods and
rates take turns (``benchmarks.turns``). A method's local steps take their turns too, in all
processes at once and without an exchange, so that it can be told what a round spends on the link.
Flags that start with ``--config`` are those of a config.
"""

import argparse
import datetime
import pathlib
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence

from benchmarks import turns
from benchmarks.network import NotPossible
from benchmarks.peers import of_config
from benchmarks.peers.of_config import STEPS
from experiments.pages.runs import rows_of, time_table
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError


def measure(options: argparse.Namespace, flags: Sequence[str]) -> Iterator[list[dict]]:
    """After every turn at a rate the rows so far, a rate and method each."""
    own = [
        *flags,
        f"--config.workers={options.workers}",
        f"--config.methods={tuple(options.methods)}",
    ]
    asked = tuple(part for name in options.methods for part in (name, name + STEPS))
    peers = turns.Peers("of_config", sys.executable, asked, {"flags": own})
    about = {"flags": list(flags), "workers": options.workers, "latency_ms": options.latency_ms}
    about["date"] = datetime.date.today().isoformat()
    settings = options.workers, options.gbps, options.rounds
    _, jobs = of_config.built(own)
    exchanged = {name: job.exchanged() for name, job in jobs.items()}
    for found in turns.measure([peers], *settings, latency_ms=options.latency_ms):
        rows = []
        for (gbps, method), rounds in found.items():
            if method.endswith(STEPS):
                continue
            row = turns.row((gbps, method), rounds)
            steps = [one.seconds for one in found.get((gbps, method + STEPS), [])]
            row["steps_s"] = round(statistics.median(steps), 4) if steps else None
            row["bytes_received_foretold"], row["waits"] = exchanged[method]
            rows.append({**about, **row})
        yield rows


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.behind_links",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--methods", nargs="+", required=True, metavar="METHOD")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gbps", nargs="+", type=float, default=[1.0, 0.1])
    parser.add_argument("--latency_ms", type=float, default=0.0, help="one way")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each method")
    parser.add_argument("--json", type=pathlib.Path, help="rows are added to this file")
    options, flags = parser.parse_known_args()
    if wrong := [flag for flag in flags if not flag.startswith("--config") or "=" not in flag]:
        parser.error(f"unknown: {wrong[0]} (flags of the config are written --config...=...)")
    if options.workers < 2 or min(options.rounds, *options.gbps) <= 0 or options.latency_ms < 0:
        parser.error("two workers or more, rounds and rates above zero, and no latency below")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    try:
        before = rows_of(options.json) if options.json and options.json.exists() else []
        for now in measure(options, flags):
            rows = before + now
            if options.json:
                options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
        print(time_table(rows))
    except (InputError, NotPossible, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
