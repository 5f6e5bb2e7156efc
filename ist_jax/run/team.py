"""Several processes that train one net: how they exchange messages, agree, and fail together.

One process (number 0) keeps the address where all meet, writes logs and prints. Before anything is
compiled they compare what they were started with. What one of them cannot do, all hear of; a
process that waits in vain for another says so in the end.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax._src import distributed  # its key-value store is the only way to talk before compiling
from ml_collections import ConfigDict

import ist_jax
from ist_jax.core.errors import InputError
from ist_jax.run import compare

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
        store().key_value_set(f"ist_jax/{topic}/{self.number}", json.dumps(value))
        values = []
        for other in range(self.size):
            text = _message(f"ist_jax/{topic}/{other}", patience)
            if text is None:
                raise InputError(
                    f"process {self.number} waited {patience} s for process {other} "
                    f"({topic}). Is it running? Its own output says what became of it."
                )
            values.append(json.loads(text))
        return values

    def publish(self, topic: str, value: Any) -> None:
        """Leaves a message on this topic in place of this process's last one."""
        name = f"ist_jax/{topic}/{self.number}"
        store().key_value_set(name, json.dumps(value), allow_overwrite=True)

    def published(self, topic: str) -> list[Any]:
        """The newest message of each process, without waiting; None of one that left none."""
        found = {
            int(name.rpartition("/")[2]): json.loads(text)
            for name, text in store().key_value_dir_get(f"ist_jax/{topic}/")
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
            mistakes = self.share(topic, mistake, patience)
        except InputError:
            if mistake is None:
                raise
            mistakes = []  # the others have gone
        for number, other in enumerate(mistakes or [mistake]):
            if other is not None:
                own = not mistakes or number == self.number
                raise InputError(other if own else f"process {number} stopped: {other}")


def store() -> Any:
    """JAX's key-value store, which process 0 keeps: processes leave messages in it."""
    return distributed.global_state.client


def _message(name: str, patience: float | int) -> str | None:
    """Waits for it, a second at a time: JAX hears no Ctrl-C while it waits."""
    ends = time.monotonic() + patience
    while (left := ends - time.monotonic()) > 0:
        try:
            return store().blocking_key_value_get(name, max(1, int(1000 * min(left, 1))))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    return None


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
