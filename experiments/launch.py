"""Starts N processes of one experiment on this machine, to try out what a cluster will do.

    python -m experiments.launch --processes=4 -- --config=configs/quickstart.py --workdir=runs/four

They meet on a free port of this machine. Process 0 prints as usual; of the others, only what they
write to standard error is shown, behind their number. If one fails the rest are stopped, and the
exit code is that of the first that failed. SIGTERM and Ctrl-C have all of them save and stop, with
75; the second time they end at once.
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
from signal import SIGINT, SIGKILL, SIGTERM

SAVED = os.EX_TEMPFAIL  # 75, as experiments.stop has it
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
    for number in (SIGTERM, SIGINT):  # of Ctrl-C, a terminal tells them too
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        return _wait(processes, asked)
    finally:
        _tell(processes, SIGKILL)
        for process in processes:
            process.wait()


def _wait(processes: list[subprocess.Popen], asked: list[int]) -> int:
    """Until all have ended, or were asked twice; after a failure they have ``GRACE`` left, twice.

    JAX listens for SIGTERM in a process of a team, so that it may not end one.
    """
    failed, ends, signals, told, running = 0, float("inf"), [SIGTERM, SIGKILL], False, True
    while running:
        running = None in [process.poll() for process in processes]
        codes = [process.returncode or 0 for process in processes]
        failed = failed or next((code for code in codes if code not in (0, SAVED)), 0)
        if asked and not told:
            _tell(processes, SIGTERM)
            told = True
        if len(asked) > 1:
            return 128 + asked[1]
        if ends == float("inf") and failed:
            ends = time.monotonic() + GRACE
        if time.monotonic() > ends and signals:
            _tell(processes, signals.pop(0))
            ends += GRACE
        time.sleep(0.05)
    code = failed or max(codes)
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
