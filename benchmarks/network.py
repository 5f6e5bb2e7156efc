"""Computers of one's own: network namespaces joined by links of a given rate.

Each has one interface, a name and an address of its own, and reaches the others through a bridge
that lies in a namespace too: nothing outside is touched. A rate holds each way (``tc tbf``). Where
links are to have a latency, a program (``relay``) stands in the bridge's place, since few kernels
have ``netem``. Needs root and Debian's ``iproute2``.
"""

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import relay

PREFIX = "istlink"
HOSTS = pathlib.Path("/etc/netns")  # where ``ip netns exec`` finds a namespace's own /etc files


class NotPossible(RuntimeError):
    """This machine will not make namespaces; the message says what is missing."""


class Network:
    """N computers; rank r is reached at ``address(r)``, a message after so many milliseconds."""

    def __init__(self, computers: int, latency_ms: float = 0.0):
        self._name = f"{PREFIX}-{os.getpid()}"
        self.computers, self._latency_ms = computers, latency_ms
        self._relay: subprocess.Popen | None = None

    def name(self, rank: int) -> str:
        return f"{self._name}-{rank}"

    def address(self, rank: int) -> str:
        return f"10.77.0.{rank + 1}"

    def start(self, rank: int, command: Sequence[str], **options) -> subprocess.Popen:
        """Starts a command on a computer, as root of that computer's network and name."""
        name = self.name(rank)
        named = ["sh", "-c", f'hostname {name} && exec "$@"', "sh", *command]
        inside = ["ip", "netns", "exec", name, "unshare", "--uts", *named]
        return subprocess.Popen(inside, **options)

    def build(self) -> None:
        hosts = "".join(f"{self.address(r)} {self.name(r)}\n" for r in range(self.computers))
        for rank in range(self.computers):
            _ip("netns", "add", self.name(rank))
            folder = HOSTS / self.name(rank)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        if self._latency_ms:
            self._start_relay()
        else:
            self._add_bridge()
        for rank in range(self.computers):
            name = self.name(rank)
            _ip("-n", name, "addr", "add", f"{self.address(rank)}/24", "dev", "net0")
            for interface in ("lo", "net0"):
                _ip("-n", name, "link", "set", "dev", interface, "up")
            # A method that waits for its turn finds its connections as fast as it left them.
            keep = "echo 0 > /proc/sys/net/ipv4/tcp_slow_start_after_idle"
            _ip("netns", "exec", name, "sh", "-c", keep)

    def limit(self, gbps: float | None) -> None:
        """From now on every link carries at most 10^9 bits a second times this, each way; as much
        as the machine can if None."""
        if self._relay and self._relay.stdin:
            self._relay.stdin.write(f"{gbps or 0}\n")
            self._relay.stdin.flush()
        for rank in range(self.computers):
            if not self._relay:
                _limit(f"{self._name}-hub", f"port{rank}", gbps)
            _limit(self.name(rank), "net0", gbps)

    def connect(self, rank: int, up: bool) -> None:
        """Pulls a computer's cable, or plugs it in again."""
        port = f"port{rank}"
        _ip("-n", f"{self._name}-hub", "link", "set", port, "up" if up else "down")

    def _add_bridge(self) -> None:
        hub = f"{self._name}-hub"
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for rank in range(self.computers):
            port = f"port{rank}"
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "net0")
            _ip("-n", hub, "link", "set", "net0", "netns", self.name(rank))
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")

    def _start_relay(self) -> None:
        names = [self.name(rank) for rank in range(self.computers)]
        command = [sys.executable, relay.__file__, f"--latency_ms={self._latency_ms}", *names]
        pipe = subprocess.PIPE
        self._relay = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        if not (self._relay.stdout and self._relay.stdout.readline()):
            raise NotPossible("no TUN device can be made: links can have no latency here")
        for name in names:
            _ip("-n", name, "link", "set", "net0", "mtu", str(relay.MTU))

    def remove(self) -> None:
        if self._relay:
            self._relay.kill()
            self._relay.communicate()
            self._relay = None
        _remove(f"{self._name}-")


@contextlib.contextmanager
def network(computers: int, latency_ms: float = 0.0) -> Iterator[Network]:
    """A network that is gone afterwards; what a crashed run has left is removed first.

    Its links are as fast as the machine, until they are limited; ``latency_ms`` is that of the way
    from one computer to another.

    Raises:
      NotPossible: no root, no ``iproute2``, or a kernel that refuses.
    """
    for tool in ("ip", "tc", "unshare"):
        if not shutil.which(tool):
            raise NotPossible(f"{tool} is missing: apt-get install iproute2 util-linux")
    if os.geteuid():
        raise NotPossible("making network namespaces needs root")
    for pid in {match[1] for match in re.finditer(rf"{PREFIX}-(\d+)-", _ip("netns", "list"))}:
        if not pathlib.Path(f"/proc/{pid}").exists():
            _remove(f"{PREFIX}-{pid}-")
    made = Network(computers, latency_ms)
    atexit.register(made.remove)
    try:
        made.build()
        yield made
    finally:
        made.remove()
        atexit.unregister(made.remove)


def _limit(namespace: str, interface: str, gbps: float | None) -> None:
    if gbps is None:
        _run("tc", "-n", namespace, "qdisc", "replace", "dev", interface, "root", "pfifo")
        return
    burst = max(int(gbps * 1e9 / 8 / 250), 128 * 1024)  # bytes; what a tick of 4 ms lets through
    rate = f"{int(gbps * 1e6)}kbit"
    _run("tc", "-n", namespace, "qdisc", "replace", "dev", interface, "root", "tbf", "rate", rate,
         "burst", str(burst), "latency", "100ms")  # fmt: skip


def _remove(prefix: str) -> None:
    for name in re.findall(rf"^({re.escape(prefix)}\S+)", _ip("netns", "list"), re.M):
        with contextlib.suppress(NotPossible):
            for pid in _ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", name)
        shutil.rmtree(HOSTS / name, ignore_errors=True)


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotPossible(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
