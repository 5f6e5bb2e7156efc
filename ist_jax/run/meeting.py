"""Processes find each other at one address, before JAX does: JAX aborts if one is missing.

Process 0 listens at its own address, and at no other. The others connect and say
which process they are. Anyone else may connect too (a port scanner, a health check): nothing that
they say or do not say ends the meeting or makes it longer.
"""

import contextlib
import selectors
import socket
import time

from ist_jax.core.errors import InputError
from ist_jax.run.address import Address

GO = b"go"
MOST_STRANGERS = 64  # that may be silent at once; of more, the one that came first is sent away
LINE = 1000  # bytes of an answer at most
MOST_NAMED = 10  # missing processes


def meet(address: Address, count: int, number: int, patience: int) -> None:
    """Waits until all processes are there.

    Args:
      address: where process 0 can be reached.
      count, number: how many processes there are, and which this is.
      patience: seconds to wait for them.

    Raises:
      InputError: in all that have met: another number of processes, two with one number, or one
        that did not come. Or nobody at the address in time, or an address that cannot be.
    """
    ends = time.monotonic() + patience
    if number:
        return _knock(address, count, number, ends, patience)
    with contextlib.ExitStack() as opened:
        door = _Door(_listen(address.to_listen_at(), opened), count, opened)
        try:
            door.wait(ends, patience)
        except InputError as error:
            door.answer(b"no " + str(error).encode())
            raise
        door.answer(GO)


class _Door:
    """Who has come to process 0, and who has not."""

    def __init__(self, listening: list[socket.socket], count: int, opened: contextlib.ExitStack):
        self._count = count
        self._guests: dict[socket.socket, int] = {}  # their numbers
        self._strangers: dict[socket.socket, bytes] = {}  # and what each has said so far
        self._events = opened.enter_context(selectors.DefaultSelector())
        for one in listening:
            self._events.register(one, selectors.EVENT_READ, self._welcome)
        opened.callback(self._close)

    def wait(self, ends: float | int, patience: int) -> None:
        while len(self._guests) < self._count - 1:
            if (left := ends - time.monotonic()) <= 0:
                raise InputError(
                    f"the processes did not come together within {patience} s: no word of "
                    f"{self._missing()}. Are all started, with the same --coordinator?"
                )
            for key, _ in self._events.select(left):
                key.data(key.fileobj)

    def answer(self, text: bytes) -> None:
        """To all guests, who then hang up first, so that the port is free at once."""
        ends = time.monotonic() + 1
        for guest in self._guests:
            with contextlib.suppress(OSError):  # it has hung up
                guest.sendall(text + b"\n")
        for guest in self._guests:
            guest.settimeout(max(0.01, ends - time.monotonic()))
            with contextlib.suppress(OSError):
                guest.recv(1)

    def _welcome(self, listening: socket.socket) -> None:
        try:
            stranger, _ = listening.accept()
        except OSError:  # it has gone again, or there are too many files: then this is not a rush
            return time.sleep(0.05)
        stranger.setblocking(False)
        self._strangers[stranger] = b""
        self._events.register(stranger, selectors.EVENT_READ, self._hear)
        if len(self._strangers) > MOST_STRANGERS:
            self._send_away(next(iter(self._strangers)))

    def _hear(self, stranger: socket.socket) -> None:
        if stranger not in self._strangers:  # sent away by what came in the same moment
            return
        try:
            said = stranger.recv(64)
        except OSError:
            said = b""
        heard = self._strangers[stranger] + said
        self._strangers[stranger] = heard
        if not said or len(heard) > len(_hello(2**16, 2**16)):
            self._send_away(stranger)
        elif heard.endswith(b"\n"):
            self._recognise(stranger, heard)

    def _recognise(self, stranger: socket.socket, heard: bytes) -> None:
        numbers = [int(word) for word in heard.split() if word.isdigit()]
        number, count = numbers if len(numbers) == 2 else (0, 0)
        if not 0 < number < count or heard != _hello(number, count):
            return self._send_away(stranger)
        taken = number in self._guests.values()
        del self._strangers[stranger]
        self._guests[stranger] = number
        self._events.modify(stranger, selectors.EVENT_READ, self._lose)
        if count != self._count:
            raise InputError(
                f"the processes were not started alike: --processes is {self._count} in process 0 "
                f"and {count} in process {number}"
            )
        if taken:
            raise InputError(
                f"two processes were started with --process={number}: give each its own"
            )

    def _lose(self, guest: socket.socket) -> None:
        """A guest says nothing while it waits: it has hung up, and may come again."""
        del self._guests[guest]
        self._forget(guest)

    def _send_away(self, stranger: socket.socket) -> None:
        del self._strangers[stranger]
        self._forget(stranger)

    def _forget(self, connection: socket.socket) -> None:
        self._events.unregister(connection)
        connection.close()

    def _missing(self) -> str:
        here = set(self._guests.values())
        missing = [str(n) for n in range(1, self._count) if n not in here]
        more = len(missing) - MOST_NAMED
        return ", ".join(missing[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

    def _close(self) -> None:
        for connection in (*self._guests, *self._strangers):
            connection.close()


def _hello(number: int, count: int) -> bytes:
    return b"ist_jax: process %d of %d\n" % (number, count)


def _listen(address: Address, opened: contextlib.ExitStack) -> list[socket.socket]:
    """A socket for each address that the name stands for here; one that works is enough."""
    listening, problem = [], OSError("nothing to listen at")
    for family, host in address.found():
        both = host == "::" and socket.has_dualstack_ipv6()  # IPv4 too, as gRPC has it
        try:
            one = socket.create_server(
                (host, address.port), family=family, backlog=128, dualstack_ipv6=both
            )
        except OSError as error:
            problem = error
        else:
            one.setblocking(False)
            listening.append(opened.enter_context(one))
    if not listening:
        raise InputError(
            f"process 0 cannot listen at {address} ({problem.strerror or problem}). It must be an "
            "address of this machine with a free port. If others reach it under that address all "
            f"the same, set JAX_COORDINATOR_BIND_ADDRESS=0.0.0.0:{address.port}"
        )
    return listening


def _knock(address: Address, count: int, number: int, ends: float | int, patience: int) -> None:
    problem: object = "it does not let us in"
    while (left := ends - time.monotonic()) > 0:
        try:
            with socket.create_connection(address, timeout=min(left, 1)) as door:
                door.sendall(_hello(number, count))
                answer = _line(door, ends)
        except (OSError, UnicodeError) as error:
            problem = error
        else:
            if answer == GO:
                return
            if answer.startswith(b"no "):
                raise InputError(answer[3:].decode(errors="replace"))
            problem = "what answers there is not process 0, or it has begun without us"
        time.sleep(0.1)
    raise InputError(
        f"no coordinator at {address} within {patience} s ({problem}). Start process 0 first, "
        "or check the address, the port, and what lies between."
    )


def _line(door: socket.socket, ends: float | int) -> bytes:
    """What is said until the line ends, the other hangs up, or time is over."""
    heard = b""
    while not heard.endswith(b"\n") and len(heard) < LINE:
        door.settimeout(max(0.01, ends - time.monotonic()))
        said = door.recv(LINE)
        if not said:
            break
        heard += said
    return heard.rstrip(b"\n")
