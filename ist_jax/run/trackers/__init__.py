"""Trackers: whoever else is to see the lines of a run, while it is measured.

A tracker is a function ``(config, workdir, run) -> Tracker``, called once for each run (a method
with a seed). ``metrics.jsonl`` is written in any case; ``--resume`` and ``report`` read it alone.
A tracker that fails says so once, and the run goes on.
"""

import contextlib
import importlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError, first_line
from ist_jax.data.extras import needed

Line = dict[str, Any]
# Each is a module here, an extra, and a folder below the run's; and the package that it needs.
TRACKERS = {"mlflow": "mlflow", "tensorboard": "tensorboardX", "wandb": "wandb"}


class Tracker(NamedTuple):
    """Of one run.

    Attributes:
      log: gets every line of metrics.
      close: is called when the run is over, with whether it got to its end.

    Example:
      >>> def mine(config, workdir, run):
      ...     return Tracker(lambda line: print(run, line["round"], line["accuracy/test"]))
      >>> mine(None, None, "ist_0").log({"round": 5, "accuracy/test": 0.9})
      ist_0 5 0.9
    """

    log: Callable[[Line], Any]
    close: Callable[[bool], Any] = lambda ended: None


Start = Callable[[ConfigDict, pathlib.Path, str], Tracker]
Chosen = dict[str, Start]


def names(config: ConfigDict) -> tuple[str, ...]:
    """The trackers that a config asks for, each once."""
    return tuple(dict.fromkeys(config.trackers))


def check(config: ConfigDict) -> None:
    """Names that there are not.

    Raises:
      InputError: naming it, and those that there are.
    """
    for name in names(config):
        if not by_name.is_theirs(name):
            by_name.found(name, dict.fromkeys(TRACKERS, dict), "config.trackers")


def chosen(config: ConfigDict) -> Chosen:
    """The trackers that a config asks for, by name; what they need is imported here.

    Raises:
      InputError: a name that there is not, or a library that is not installed.
    """
    check(config)
    found: Chosen = {}
    for name in names(config):
        if by_name.is_theirs(name):
            found[name] = by_name.found(name, {}, "config.trackers")
            continue
        try:
            with needed(name):
                importlib.import_module(TRACKERS[name])
        except InputError as error:
            raise InputError(f"config.trackers: {error}") from None
        found[name] = importlib.import_module(f"{__name__}.{name}").start
    return found


@contextlib.contextmanager
def tracking(
    trackers: Chosen, config: ConfigDict, workdir: pathlib.Path, run: str
) -> Iterator[Callable[[Line], None]]:
    """Starts the trackers of a run, and closes them when it ends, however it ends.

    Returns:
      what hands a line to all of them. What one of them raises is printed, once, and not raised.
    """
    silent: set[str] = set()  # those that have failed

    def attempt(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            if name not in silent:
                what = f"{type(error).__name__}: {first_line(error)}"
                text = f"\nwarning: tracker {name} failed in {run} ({what}); the run goes on"
                print(text, file=sys.stderr, flush=True)
            silent.add(name)

    started = {name: attempt(name, start, config, workdir, run) for name, start in trackers.items()}
    running = {name: tracker for name, tracker in started.items() if name not in silent}

    def log(line: Line) -> None:
        for name, tracker in running.items():
            attempt(name, tracker.log, dict(line))

    ended = False
    try:
        yield log
        ended = True
    finally:
        for name, tracker in running.items():
            attempt(name, tracker.close, ended)


def numbers(line: Line) -> dict[str, float]:
    """What a line measures: the keys that have a unit or a topic before a stroke."""
    return {key: value for key, value in line.items() if "/" in key}
