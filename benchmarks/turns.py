"""Processes that train in turns, each on a computer of its own behind a link of a given rate.

Methods take turns, so that other load on the machine falls on all alike; a turn is a round, or as
many as take three seconds, since the first after a pause is slower. A round is timed from its start
to the last worker's end, and bytes are those that the interface of the worker that received most
has counted. Rates take turns too: everything is compiled once.
"""

import json
import math
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.network import Network, network

TURN_S, MOST_ROUNDS = 3.0, 16  # of a turn
ROOT = pathlib.Path(__file__).parent.parent


class Peers(NamedTuple):
    """Processes of one library, a worker each.

    Attributes:
      module: what they run, in ``benchmarks.peers``.
      python: with which interpreter.
      methods: what they are asked for.
      settings: what they are told besides (``protocol.Task``).
    """

    module: str
    python: str
    methods: tuple[str, ...]
    settings: dict[str, Any]


class Round(NamedTuple):
    """Seconds; bytes that the worker that received most received, and those it expected."""

    seconds: float
    received: int
    expected: int


Rounds = dict[tuple[float | None, str], list[Round]]  # at a rate, of a method


def measure(
    peers: Sequence[Peers],
    workers: int,
    rates: Sequence[float | None],
    turns: int,
    longest: float = math.inf,
    latency_ms: float = 0.0,
) -> Iterator[Rounds]:
    """After every turn of all methods at a rate, all rounds so far.

    Args:
      rates: of the links, in 10^9 bits a second each way; as fast as the machine if None.
      longest: seconds; a method that took longer for a round takes no more turns at that rate, and
        none at those that come after it in ``rates`` for the first time.
      latency_ms: of a message's way from one worker to another.
    """
    found: Rounds = {}
    with network(workers, latency_ms) as links:
        teams: list[tuple[_Team, tuple[str, ...]]] = []
        try:
            for one in peers:
                teams.append((_Team(links, one, port=5000 + len(teams)), one.methods))
                teams[-1][0].wait_until_ready()
            for _ in range(turns):
                for gbps in rates:
                    links.limit(gbps)
                    for team, methods in teams:
                        for method in methods:
                            before = found.get((gbps, method)) or _all(found, method)
                            if max((one.seconds for one in before), default=0.0) <= longest:
                                found.setdefault((gbps, method), []).extend(_turn(team, method))
                    yield found
        finally:
            for team, _ in teams:
                team.end()


def _all(found: Rounds, method: str) -> list[Round]:
    """Its rounds at every rate."""
    return [one for key, rounds in found.items() if key[1] == method for one in rounds]


def row(key: tuple[float | None, str], rounds: Sequence[Round]) -> dict[str, Any]:
    """What was measured of a method at a rate: medians, and all of it."""
    seconds, received, expected = zip(*rounds, strict=True)
    return {
        "gbps": key[0],
        "method": key[1],
        "round_s": round(statistics.median(seconds), 4),
        "round_s_all": [round(one, 4) for one in seconds],
        "bytes_received": int(statistics.median(received)),
        "bytes_received_all": list(received),
        "bytes_expected_all": list(expected),  # 0: it cannot tell
    }


class _Team:
    """The processes of some peers."""

    def __init__(self, links: Network, peers: Peers, port: int):
        self._module = peers.module
        threads = max(1, len(os.sched_getaffinity(0)) // links.computers)
        told = {
            **peers.settings,
            "methods": peers.methods,
            "workers": links.computers,
            "address": f"{links.address(0)}:{port}",
            "threads": threads,
        }
        module = f"benchmarks.peers.{peers.module}"
        self._processes: list[Any] = [
            links.start(
                rank,
                [peers.python, "-m", module, json.dumps({**told, "rank": rank})],
                cwd=ROOT,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "net0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
                text=True,
            )
            for rank in range(links.computers)
        ]

    def wait_until_ready(self) -> None:
        for process in self._processes:
            if (said := _answer(process)) != "ready":
                raise RuntimeError(f"{self._module} said {said!r}")

    def round(self, method: str) -> Round:
        started = time.perf_counter()
        for process in self._processes:
            process.stdin.write(f"{method}\n")
            process.stdin.flush()
        received = [int(_answer(process)) for process in self._processes]
        seconds = time.perf_counter() - started
        expected = [int(_answer(process)) for process in self._processes]
        return Round(seconds, *max(zip(received, expected, strict=True)))

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def _turn(team: _Team, method: str) -> list[Round]:
    rounds: list[Round] = []
    while len(rounds) < MOST_ROUNDS and sum(one.seconds for one in rounds) < TURN_S:
        rounds.append(team.round(method))
    return rounds


def _answer(process: Any) -> str:
    """The next line a process says."""
    text = process.stdout.readline()
    if not text:
        raise RuntimeError(f"a worker stopped with code {process.wait()}; VERBOSE=1 shows why")
    return text.strip()
