"""Starts N processes of one experiment on this machine, to try out what a cluster will do.

    python -m experiments.launch --processes=4 -- --config=configs/quickstart.py --workdir=runs/four

They meet on a free port of this machine. Process 0 prints as usual; of the others, only what they
write to standard error is shown, behind their number. If one fails the rest are stopped, and the
exit code is that of the first that failed.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

GRACE = 10.0  # seconds for the rest to end by themselves: most often all fail for one reason


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, required=True, help="how many, at least 1")
    parser.add_argument("flags", nargs="+", help="of experiments.main, after --")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error(f"--processes must be at least 1, found {options.processes}")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    shared = ["--distributed", f"--coordinator={address}", f"--processes={options.processes}"]
    command = [sys.executable, "-m", "experiments.main", *options.flags, *shared]
    processes = [
        subprocess.Popen(
            [*command, f"--process={number}"],
            stdout=None if number == 0 else subprocess.DEVNULL,
            stderr=None if number == 0 else subprocess.PIPE,
            text=True,
        )
        for number in range(options.processes)
    ]
    for number, process in enumerate(processes[1:], start=1):
        threading.Thread(target=_repeat, args=(number, process.stderr), daemon=True).start()
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):  # of Ctrl-C, a terminal tells them too
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        return _wait(processes, asked)
    finally:
        _tell(processes, signal.SIGKILL)


def _wait(processes: list[subprocess.Popen], asked: list[int]) -> int:
    """Until all have ended; after a failure, or if asked to stop, they have ``GRACE`` left, twice.

    JAX listens for SIGTERM in a process of a team, so that it may not end one.
    """
    failed, ends, signals, running = 0, float("inf"), [signal.SIGTERM, signal.SIGKILL], True
    while running:
        running = None in [process.poll() for process in processes]
        failed = failed or next((p.returncode for p in processes if p.returncode), 0)
        if ends == float("inf") and (failed or asked):
            ends = time.monotonic() + (GRACE if failed else 0)
        if time.monotonic() > ends and signals:
            _tell(processes, signals.pop(0))
            ends += GRACE
        time.sleep(0.05)
    code = -asked[0] if asked else failed
    return code if code >= 0 else 128 - code


def _tell(processes: list[subprocess.Popen], what: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.kill(process.pid, what)


def _repeat(number: int, lines) -> None:
    for line in lines:
        print(f"[{number}] {line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
