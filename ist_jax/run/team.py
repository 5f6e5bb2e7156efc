"""Several processes that train one net: how they find each other, agree, and fail together.

One process (number 0) keeps the address where all meet, writes logs and prints. Before anything is
compiled they compare what they were started with; whatever one of them cannot do is told to all,
and whoever waits for another that has gone says so in the end.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax._src import distributed  # its key-value store is the only way to talk before compiling
from jax._src import xla_bridge as clients
from jax._src.lib import _jax as jaxlib
from jax.extend.backend import register_backend_factory
from ml_collections import ConfigDict

import ist_jax
from ist_jax.core.errors import InputError
from ist_jax.run import compare
from ist_jax.run.meeting import Address, meet

MOST = 2**16  # processes
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
            text = _word_of(f"ist_jax/{topic}/{other}", patience)
            if text is None:
                raise InputError(
                    f"process {self.number} waited {patience} s for process {other} "
                    f"({topic}). Is it running? Its own output says what became of it."
                )
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


def _word_of(name: str, patience: float) -> str | None:
    """Waits for it, a second at a time: JAX hears no Ctrl-C while it waits."""
    ends = time.monotonic() + patience
    while (left := ends - time.monotonic()) > 0:
        try:
            return _store().blocking_key_value_get(name, max(1, int(1000 * min(left, 1))))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    return None


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
    listen = None
    if coordinator is not None and count is not None and number is not None:
        if not 1 <= count <= MOST:
            raise InputError(f"--processes must be at least 1 and at most {MOST}, found {count}")
        if not 0 <= number < count:
            raise InputError(f"--process must be 0 to {count - 1}, found {number}")
        address = Address.read(coordinator, "--coordinator")
        coordinator = str(address)
        listen = str(address.to_listen_at()) if number == 0 else None
        meet(address, count, number, patience)
        if address.is_loopback:
            _stay_on(address.host)
    os.environ.update(grpc_proxy="")  # for gRPC alone, before http_proxy and https_proxy: none
    jax.config.update("jax_check_proxy_envs", False)  # a warning of what cannot be now
    try:
        _initialise(
            patience,
            coordinator_address=coordinator,
            num_processes=count,
            process_id=number,
            coordinator_bind_address=listen,
        )
    except ValueError as error:
        raise InputError(
            f"--distributed found no cluster that says where to meet ({error}). Give "
            "--coordinator=host:port --processes=N --process=0, 1, ..."
        ) from None
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"the processes did not come together: {str(error).splitlines()[0]}. Are all started, "
            "with the same --coordinator?"
        ) from None
    found = distributed.global_state  # jax.process_index() would start the devices too early
    return Team(found.process_id, found.num_processes, patience)


def _initialise(patience: int, **how: Any) -> None:
    """JAX's own meeting, in a thread, for it listens to no Ctrl-C and aborts when time is over."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            jax.distributed.initialize(**how, initialization_timeout=patience + 60)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        print(
            f"error: the processes did not come together within {patience} s: one of them has "
            "gone. Its own output says what became of it.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)  # JAX cannot be stopped otherwise
    if raised:
        raise raised[0]


def _stay_on(host: str) -> None:
    """Has the processes send each other arrays over this host; else JAX asks what the name of the
    machine stands for, which may be an address that other machines see, or nothing.
    """

    def client() -> Any:
        gloo = jaxlib.make_gloo_tcp_collectives(distributed_client=_store(), hostname=host)
        return clients.make_cpu_client(collectives=gloo)

    if jax.config.values["jax_cpu_collectives_implementation"] == "gloo":
        register_backend_factory("cpu", client, priority=0, fail_quietly=False)


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
    found = hashlib.sha256()
    for path in sorted(pathlib.Path(ist_jax.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
