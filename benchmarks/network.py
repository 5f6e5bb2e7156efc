"""Computers of one's own: network namespaces joined by links of a given rate.

Each has one interface, a name and an address of its own, and reaches the others through a bridge
that lies in a namespace too: nothing outside is touched. A rate holds each way (``tc tbf``).
Needs root and Debian's ``iproute2``.
"""

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence

PREFIX = "istlink"
HOSTS = pathlib.Path("/etc/netns")  # where ``ip netns exec`` finds a namespace's own /etc files


class NotPossible(RuntimeError):
    """This machine will not make namespaces; the message says what is missing."""


class Network:
    """N computers; rank r is reached at ``address(r)``."""

    def __init__(self, computers: int):
        self._name = f"{PREFIX}-{os.getpid()}"
        self.computers = computers

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
        hub = f"{self._name}-hub"
        hosts = "".join(f"{self.address(r)} {self.name(r)}\n" for r in range(self.computers))
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for rank in range(self.computers):
            name, port = self.name(rank), f"port{rank}"
            _ip("netns", "add", name)
            folder = HOSTS / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "net0")
            _ip("-n", hub, "link", "set", "net0", "netns", name)
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{self.address(rank)}/24", "dev", "net0")
            for interface in ("lo", "net0"):
                _ip("-n", name, "link", "set", "dev", interface, "up")
            # A method that waits for its turn finds its connections as fast as it left them.
            keep = "echo 0 > /proc/sys/net/ipv4/tcp_slow_start_after_idle"
            _ip("netns", "exec", name, "sh", "-c", keep)

    def limit(self, gbps: float) -> None:
        """From now on every link carries at most 10^9 bits a second times this, each way."""
        for rank in range(self.computers):
            _limit(f"{self._name}-hub", f"port{rank}", gbps)
            _limit(self.name(rank), "net0", gbps)

    def remove(self) -> None:
        _remove(f"{self._name}-")


@contextlib.contextmanager
def network(computers: int) -> Iterator[Network]:
    """A network that is gone afterwards; what a crashed run has left is removed first.

    Its links are as fast as the machine, until they are limited.

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
    made = Network(computers)
    atexit.register(made.remove)
    try:
        made.build()
        yield made
    finally:
        made.remove()
        atexit.unregister(made.remove)


def _limit(namespace: str, interface: str, gbps: float) -> None:
    burst = max(int(gbps * 1e9 / 8 / 250), 128 * 1024)  # bytes; what a tick of 4 ms lets through
    rate = f"{int(gbps * 1e6)}kbit"
    _run("tc", "-n", namespace, "qdisc", "add", "dev", interface, "root", "tbf", "rate", rate,
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
