"""A switch whose links take time: every packet is handed on so many milliseconds after it came.

    python -m benchmarks.relay --latency_ms 20 NAMESPACE NAMESPACE ...

``network`` starts it where links have a latency and the kernel has no ``netem``. Each namespace
gets an interface ``net0`` (a TUN device), whose other end is here. A packet goes to the namespace
that its address names: 10.77.0.1 is the first. A line on standard input is a rate in 10^9 bits a
second (0: none), at which each namespace's packets are let in one after another; what would wait
longer than ``QUEUE_S`` is dropped, as a router does. The end of the input is the end.
"""

import argparse
import ctypes
import fcntl
import heapq
import math
import os
import select
import struct
import sys
import time
from collections.abc import Sequence

MTU = 9000  # fewer and longer packets, of which this program can hand on enough
QUEUE_S = 0.1
AT_ONCE = 64  # packets of a namespace, before it is another one's turn
NAMESPACES = "/run/netns"
NEW_NETWORK, SET_INTERFACE, TUN_WITHOUT_HEADER = 0x40000000, 0x400454CA, 0x1001


class Relay:
    """Packets on their way, and when each is due.

    Args:
      tuns: the files of the namespaces' interfaces.
      latency: in seconds.
    """

    def __init__(self, tuns: Sequence[int], latency: float):
        self._tuns, self._latency = tuns, latency
        self._rate = math.inf  # bytes a second
        self._free = [0.0] * len(tuns)  # when each namespace has let in what came before
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def limit(self, gbps: float) -> None:
        self._rate = gbps * 1e9 / 8 or math.inf

    def take(self, packet: bytes, now: float) -> None:
        """A packet that has come; it waits its turn, or is dropped."""
        to = packet[19] - 1 if packet[0] >> 4 == 4 else -1  # the last byte of its address
        if not 0 <= to < len(self._tuns):
            return
        start = max(now, self._free[to])
        if start - now > QUEUE_S:
            return
        self._free[to] = start + len(packet) / self._rate
        self._count += 1
        heapq.heappush(self._due, (self._free[to] + self._latency, self._count, to, packet))

    def wait(self, now: float) -> float:
        """Seconds until a packet is due; -1 if there is none."""
        return max(0.0, self._due[0][0] - now) if self._due else -1.0

    def hand_on(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, to, packet = heapq.heappop(self._due)
            try:
                os.write(self._tuns[to], packet)
            except BlockingIOError:
                continue  # the namespace takes no more: lost, as on a wire


def interface(namespace: str) -> int:
    """A new interface ``net0`` in a namespace; its file, from which packets are read."""
    libc = ctypes.CDLL(None, use_errno=True)
    inside = os.open(f"{NAMESPACES}/{namespace}", os.O_RDONLY)
    if libc.setns(inside, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    os.close(inside)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, SET_INTERFACE, struct.pack("16sH22x", b"net0", TUN_WITHOUT_HEADER))
    return tun


def serve(relay: Relay, tuns: Sequence[int], orders: int) -> None:
    """Hands packets on until the orders end."""
    events = select.epoll()
    for file in (*tuns, orders):
        events.register(file, select.EPOLLIN)
    while True:
        for file, _ in events.poll(relay.wait(time.monotonic())):
            if file == orders:
                words = os.read(orders, 1 << 12).split()
                if not words:
                    return
                relay.limit(float(words[-1]))
                continue
            for _ in range(AT_ONCE):
                try:
                    packet = os.read(file, 1 << 16)
                except BlockingIOError:
                    break
                relay.take(packet, time.monotonic())
        relay.hand_on(time.monotonic())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("namespaces", nargs="+")
    parser.add_argument("--latency_ms", type=float, required=True)
    options = parser.parse_args()
    tuns = [interface(name) for name in options.namespaces]
    print("ready", flush=True)
    serve(Relay(tuns, options.latency_ms / 1e3), tuns, sys.stdin.fileno())


if __name__ == "__main__":
    main()
