"""Several processes that train one net: how they find each other, agree, and fail together.

One process (number 0) keeps the address where all meet, writes logs and prints. Before anything is
compiled they compare what they were started with; whatever one of them cannot do is told to all,
and whoever waits for another that has gone says so in the end.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax._src import distributed  # its key-value store is the only way to talk before compiling
from ml_collections import ConfigDict

from experiments import compare
from ist_jax.errors import InputError

GO = b"go"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Team(NamedTuple):
    """Process ``number`` of ``size``; ``patience`` is how long to wait for another, in seconds."""

    number: int = 0
    size: int = 1
    patience: int = 60

    @property
    def first(self) -> bool:
        return self.number == 0

    def share(self, topic: str, value: Any, patience: int | None = None) -> list[Any]:
        """What every process has to say on a topic, in their order; each topic is shared once."""
        if self.size == 1:
            return [value]
        patience = patience or self.patience
        _store().key_value_set(f"ist_jax/{topic}/{self.number}", json.dumps(value))
        told = []
        for other in range(self.size):
            try:
                text = _store().blocking_key_value_get(f"ist_jax/{topic}/{other}", 1000 * patience)
            except jax.errors.JaxRuntimeError:
                raise InputError(
                    f"process {self.number} waited {patience} s for process {other} "
                    f"({topic}). Is it running? Its own output says what became of it."
                ) from None
            told.append(json.loads(text))
        return told

    def tell(self, topic: str, value: Any) -> None:
        """Leaves word, in place of the last one on this topic."""
        name = f"ist_jax/{topic}/{self.number}"
        _store().key_value_set(name, json.dumps(value), allow_overwrite=True)

    def told(self, topic: str) -> list[Any]:
        """The newest word of each process, without waiting; None of who has not said anything."""
        found = {
            int(name.rpartition("/")[2]): json.loads(text)
            for name, text in _store().key_value_dir_get(f"ist_jax/{topic}/")
        }
        return [found.get(number) for number in range(self.size)]

    def decided(self, topic: str, decide: Callable[[], Any], patience: int | None = None) -> Any:
        """What the first process decides; the others hear of it.

        Raises:
          InputError: in all of them, what ``decide`` raised.
        """
        value = mistake = None
        if self.first:
            try:
                value = decide()
            except InputError as error:
                mistake = str(error)
        value, mistake = self.share(topic, [value, mistake], patience)[0]
        if mistake is not None:
            raise InputError(mistake)
        return value

    @contextlib.contextmanager
    def together(self, topic: str, patience: int | None = None) -> Iterator[None]:
        """Goes on only if every process got through what is inside.

        Args:
          patience: seconds to wait for the slowest, if that may take longer than starting does.

        Raises:
          InputError: in all of them, what was wrong in the first that was not.
        """
        mistake = None
        try:
            yield
        except InputError as error:
            mistake = str(error)
        try:
            told = self.share(topic, mistake, patience)
        except InputError:
            if mistake is None:
                raise
            told = []  # nobody to tell
        for number, other in enumerate(told or [mistake]):
            if other is not None:
                own = not told or number == self.number
                raise InputError(other if own else f"process {number} stopped: {other}")


def _store() -> Any:
    """Where processes leave word for each other: JAX's own, which process 0 keeps."""
    return distributed.global_state.client


def join(coordinator: str | None, count: int | None, number: int | None, patience: int) -> Team:
    """Meets the other processes.

    Args:
      coordinator: ``host:port`` of process 0; None where Slurm, Open MPI or Kubernetes tell.
      count, number: how many processes there are, and which this is; None likewise.
      patience: seconds to wait for them.

    Raises:
      InputError: an address or numbers that cannot be, nobody at the address in time, or nothing
        that tells where to meet.
    """
    given = [value is not None for value in (coordinator, count, number)]
    if any(given) and not all(given):
        raise InputError("--coordinator, --processes and --process belong together: give all three")
    if coordinator is not None and count is not None and number is not None:
        if count < 1:
            raise InputError(f"--processes must be at least 1, found {count}")
        if not 0 <= number < count:
            raise InputError(f"--process must be 0 to {count - 1}, found {number}")
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(f"--coordinator must be host:port, found {coordinator!r}")
        _meet(host, int(port), count, number, patience)
    try:
        jax.distributed.initialize(coordinator, count, number, initialization_timeout=patience)
    except ValueError as error:
        raise InputError(
            f"--distributed found no cluster that says where to meet ({error}). Give "
            "--coordinator=host:port --processes=N --process=0, 1, ..."
        ) from None
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"the processes did not come together within {patience} s: "
            f"{str(error).splitlines()[0]}. Are all started, with the same --coordinator?"
        ) from None
    found = distributed.global_state  # jax.process_index() would start the devices too early
    return Team(found.process_id, found.num_processes, patience)


def agree(team: Team, config: ConfigDict, flags: Mapping[str, Any]) -> None:
    """Compares configs, flags, versions and the library's source of all processes.

    Raises:
      InputError: naming what differs, in every process.
    """
    facts = {f"config.{key}": repr(value) for key, value in compare.flat(config.to_dict()).items()}
    facts |= {f"--{name}": value for name, value in flags.items()}
    facts |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    facts |= {"the source of ist_jax": source()}
    facts |= {"python": ".".join(platform.python_version_tuple()[:2])}
    everyone = team.share("configuration", facts)
    for number, other in enumerate(everyone):
        for key in sorted(everyone[0].keys() | other.keys()):
            mine, theirs = everyone[0].get(key, "nothing"), other.get(key, "nothing")
            if mine != theirs:
                raise InputError(
                    f"the processes were not started alike: {key} is {mine} in process 0 and "
                    f"{theirs} in process {number}"
                )


def source() -> str:
    """A digest of the code that runs: two checkouts may carry the same version."""
    root = pathlib.Path(__file__).parent.parent
    found = hashlib.sha256()
    for part in ("ist_jax", "experiments"):
        for path in sorted((root / part).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _meet(host: str, port: int, count: int, number: int, patience: int) -> None:
    """Waits until all are there, on JAX's own port: it would abort if one were missing."""
    ends = time.monotonic() + patience
    if number:
        return _knock(host, port, count, number, ends, patience)
    with contextlib.ExitStack() as opened:
        try:
            door = opened.enter_context(socket.create_server(("", port), backlog=count))
        except OSError as error:
            raise InputError(f"process 0 cannot listen on port {port}: {error}") from None
        guests: dict[int, socket.socket] = {}
        while missing := sorted(set(range(1, count)) - guests.keys()):
            door.settimeout(max(0.01, ends - time.monotonic()))
            try:
                guest, _ = door.accept()
            except TimeoutError:
                raise InputError(
                    f"the processes did not come together within {patience} s: no word of "
                    f"{', '.join(map(str, missing))}. Are all started, with the same --coordinator?"
                ) from None
            opened.enter_context(guest)
            guest.settimeout(1)
            try:
                theirs, expected = map(int, guest.recv(32).split())
            except (OSError, ValueError):  # a stranger who says nothing, or noise
                continue
            if expected != count:
                with contextlib.suppress(OSError):  # it has hung up
                    guest.sendall(b"%d" % count)
                raise InputError(_differ(count, theirs, expected))
            guests[theirs] = guest
        for guest in guests.values():
            guest.sendall(GO)
            guest.settimeout(1)
            with contextlib.suppress(OSError):
                guest.recv(1)  # the guest hangs up first, so that the port is free at once


def _differ(count: int, number: int, expected: int) -> str:
    return (
        f"the processes were not started alike: --processes is {count} in process 0 and {expected} "
        f"in process {number}"
    )


def _knock(host: str, port: int, count: int, number: int, ends: float, patience: int) -> None:
    problem: object = "it does not let us in"
    while time.monotonic() < ends:
        try:
            with socket.create_connection((host, port), timeout=1) as door:
                door.sendall(b"%d %d" % (number, count))
                door.settimeout(max(0.01, ends - time.monotonic()))
                answer = door.recv(16)
                if answer == GO:
                    return
                if answer.isdigit():
                    raise InputError(_differ(int(answer), number, count))
        except OSError as error:
            problem = error
        time.sleep(0.1)
    raise InputError(
        f"no coordinator at {host}:{port} within {patience} s ({problem}). Start process 0 first, "
        "or check the address, the port, and what lies between."
    )
