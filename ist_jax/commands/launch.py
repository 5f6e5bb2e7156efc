"""Starts N processes of one experiment on this machine, to try out what a cluster will do.

    ist-jax launch --processes=4 -- --config=quickstart --workdir=runs/four

They meet on a free port of this machine's loopback, which no other machine sees. Process 0 prints
as usual; of the others, only what they write to standard error is shown, behind their number. If
one fails the rest are stopped, and the exit code is that of the first that failed. SIGTERM and
Ctrl-C have all of them save and stop, with 75; the second time they end at once.
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
from collections.abc import Sequence
from signal import SIGINT, SIGKILL, SIGTERM

from ist_jax.run.address import Address

PROGRAM = "ist-jax launch"
TRAIN = ("ist_jax.commands.cli", "train")  # module and words of a process that trains
SAVED = os.EX_TEMPFAIL  # 75, as ist_jax.run.signals has it
MOST = 1000  # processes on one machine
GIVEN = ("distributed", "coordinator", "processes", "process")  # flags that are not the user's here
GRACE = 10.0  # seconds for the rest to end by themselves: most often all fail for one reason


def main(program: str = PROGRAM, doc: str = "", train: Sequence[str] = TRAIN) -> int:
    options, coordinator = _asked(program, doc or (__doc__ or ""))
    shared = ["--distributed", f"--coordinator={coordinator}", f"--processes={options.processes}"]
    command = [sys.executable, "-m", *train, *options.flags, *shared]
    asked: list[int] = []
    for what in (SIGTERM, SIGINT):  # of Ctrl-C, a terminal tells them too
        signal.signal(what, lambda number, _: asked.append(number))
    processes: list[subprocess.Popen] = []
    try:
        for number in range(options.processes):
            process = subprocess.Popen(
                [*command, f"--process={number}"],
                stdout=None if number == 0 else subprocess.DEVNULL,
                stderr=None if number == 0 else subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            if number:
                threading.Thread(target=_repeat, args=(number, process.stderr), daemon=True).start()
        return _wait(processes, asked)
    finally:
        _tell(processes, SIGKILL)
        for process in processes:
            process.wait()


def _asked(program: str, doc: str) -> tuple[argparse.Namespace, Address]:
    """What was asked for, and where the processes are to meet."""
    parser = argparse.ArgumentParser(
        prog=program, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help=f"how many, 1 to {MOST}")
    parser.add_argument("--address", default="127.0.0.1", help="where they meet, such as ::1")
    parser.add_argument("flags", nargs="+", help="of the training, after --")
    options = parser.parse_args()
    if not 1 <= options.processes <= MOST:
        parser.error(f"--processes must be 1 to {MOST}, found {options.processes}")
    for flag in options.flags:
        if flag.lstrip("-").partition("=")[0] in GIVEN:
            parser.error(f"{flag} is what launch gives itself: leave it out")
    try:
        return options, _free(options.address)
    except (OSError, UnicodeError) as error:
        parser.error(f"--address={options.address} is no address of this machine ({error})")


def _free(host: str) -> Address:
    """A port of that host that nobody listens at."""
    family, _, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as found:
        found.bind(where)
        return Address(host, found.getsockname()[1])


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


def start(program: str = PROGRAM, doc: str = "", train: Sequence[str] = TRAIN) -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
      train: the module that trains, and words that come before its flags.
    """
    sys.exit(main(program, doc, train))
