"""How a benchmark talks to the processes it compares: a method's name in, its bytes out.

A peer prints ``ready`` when everything is compiled, then trains one round of a method for every
line it is sent, and prints the bytes it has received and then those it expected (0: it cannot
tell). Between two rounds it sleeps, so that peers of several kinds can take turns.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, TextIO

NETS = {
    "speech_2layer": (4096, 4096, 35),  # Yuan et al.
    "speech_3layer": (4096, 4096, 4096, 35),
    "tiny": (64, 64, 64, 8),  # to try it out
}

Round = Callable[[], Callable[[], float] | None]  # trains; what it gives back tells the bytes


class Task(NamedTuple):
    """What a peer is one of ``workers`` in."""

    rank: int
    workers: int
    address: str  # host:port where all meet
    threads: int
    methods: list[str]
    answers: TextIO
    net: str = ""
    local_steps: int = 0
    batch: int = 0
    flags: tuple[str, ...] = ()  # of a config, instead of those three


def task() -> Task:
    """The task this process was started with.

    Only answers go to standard output: what libraries print there goes to standard error.
    """
    values = json.loads(sys.argv[1])
    values["answers"] = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return Task(**values)


def start_jax(task: Task) -> None:
    """One CPU device in this process, which has joined the others; before JAX is imported."""
    os.environ["NPROC"] = str(task.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    from ist_jax.run import allocator

    allocator.keep_memory()  # as the command line does
    jax.config.update("jax_num_cpu_devices", 1)
    if task.workers > 1:
        jax.distributed.initialize(task.address, task.workers, task.rank)


def serve(task: Task, make: Mapping[str, Callable[[], Round]]) -> None:
    """Makes every method's round and runs it once, then what is asked for, till nothing more is."""
    rounds = {method: make[method]() for method in task.methods}
    for run in rounds.values():
        run()
    print("ready", file=task.answers, flush=True)
    for line in sys.stdin:
        before = _received()
        tell = rounds[line.strip()]()
        print(_received() - before, file=task.answers, flush=True)
        print(int(tell() if tell else 0), file=task.answers, flush=True)


def _received() -> int:
    """Bytes that have come in over the network, of all interfaces but loopback."""
    counters = pathlib.Path("/sys/class/net").glob("*/statistics/rx_bytes")
    return sum(int(path.read_text()) for path in counters if path.parts[-3] != "lo")
