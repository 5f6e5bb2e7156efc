"""Sets that are prepared once, and mapped from files ever after.

A set is a folder with arrays (``.npy``) and a ``description``. It is made under another name and
renamed when it is whole, so that a preparation that was killed leaves nothing that could be taken
for a set. Of several processes that need a set at once, one prepares it and the others wait. A set
that was made from something else, or whose files are not those it was made with, is made anew. All
digests are checked whenever it is opened: a gigabyte takes about a second.
"""

import contextlib
import fcntl
import hashlib
import importlib
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import description

CACHE = Path("~/.cache/ist_jax")
HEADER = 128  # bytes of an .npy file with few axes
LEFT_S = 24 * 3600.0  # a preparation that has made nothing for so long is dead
EVERY_S = 5.0  # between two lines of progress


def folder(
    cache: str,
    name: str,
    source: str,
    fill: Callable[[Path], dict[str, Any]],
) -> tuple[Path, dict[str, Any]]:
    """The folder of a prepared set, and what ``fill`` returned when it was made.

    Args:
      cache: where sets are kept; ``CACHE`` if empty.
      name: of the set.
      source: digest of what it is made from; another one makes the set anew.
      fill: writes the arrays into an empty folder.

    Raises:
      InputError: the folder cannot be made or written, or a file that ``fill`` reads not be read.
    """
    place = expanded(cache or CACHE, "data.cache") / name
    if (about := description.read(place, source)) is not None:
        return place, about
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.with_name(f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one prepares, the others wait
            return place, _made(place, source, fill)
    except OSError as error:
        source_file = Path(error.filename or place)
        if not source_file.is_relative_to(place.parent):
            raise InputError(f"{source_file} cannot be read: {error.strerror}") from None
        raise InputError(f"{place} cannot be written: {error}. Set data.cache elsewhere.") from None


def _made(place: Path, source: str, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    if (about := description.read(place, source, report_damage=True)) is not None:
        return about  # another process was faster
    fresh = place.with_name(f".{place.name}-{secrets.token_hex(8)}")
    try:
        fresh.mkdir(parents=True)
        _sweep(place)
        about = json.loads(json.dumps(fill(fresh)))
        description.write(fresh, source, about)
        old = place.with_name(f"{fresh.name}-old")
        if place.exists():
            place.rename(old)  # who has it open keeps it
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return about


def name_of(name: str, place: Path) -> str:
    """A name for the set made from a folder: sets from different folders do not meet."""
    return f"{name}_{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:12]}"


def digest(sources: Sequence[Path], also: Mapping[str, Any] | None = None) -> str:
    """Of the names, sizes and times of files, and of settings: what a set is made from."""
    found = []
    for path in sources:
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        found.append([str(path), stat.st_size, stat.st_mtime_ns])
    text = json.dumps([found, sorted((also or {}).items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def aside(function: str, job: Any) -> Any:
    """What a function returns for a job, in a fresh process that has the CPU alone for a device.

    There JAX may be used: here it would take hold of the accelerators, and wait for the other
    processes of a distributed run, before anyone knows whether their data are whole.

    Args:
      function: ``"module:name"``; takes the job, and returns what JSON can hold.
      job: anything that JSON can hold.

    Raises:
      InputError, OSError: as the function did.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import _answer; _answer({function!r})"],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
    )
    if done.returncode:
        raise RuntimeError(f"{function} ended with code {done.returncode} (its output is above)")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise InputError(answer["error"])
    if "errno" in answer:
        raise OSError(*answer["errno"])
    return answer["result"]


def _answer(function: str) -> None:
    """The fresh process's side of ``aside``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of its own
    module, name = function.split(":")
    try:
        found = {"result": getattr(importlib.import_module(module), name)(json.load(sys.stdin))}
    except InputError as error:
        found = {"error": str(error)}
    except OSError as error:
        found = {"errno": [error.errno, error.strerror, error.filename]}
    print(json.dumps(found))


class Growing:
    """An ``.npy`` file, ``[n, *row]``, whose length n is not known before its end."""

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...] = ()):
        self._dtype, self._row, self._length = np.dtype(dtype), row, 0
        self._file = path.open("wb")
        self._file.write(b"\0" * HEADER)

    def append(self, values: np.ndarray) -> None:
        """More values, at the end."""
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self._length += len(values)

    def close(self) -> None:
        """Writes the header, without which no one reads the file."""
        shape = (self._length, *self._row)
        text = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': {shape}}}"
        room = HEADER - 10
        self._file.seek(0)
        head = b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little")
        self._file.write(head + text.ljust(room - 1).encode() + b"\n")
        self._file.close()


class Progress:
    """A line every few seconds: how far, and how long still."""

    def __init__(self, name: str, total: int, what: str):
        self._name, self._total, self._what = name, total, what
        self._started = self._shown = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._shown < EVERY_S or not done:
            return
        self._shown = now
        left = math.ceil((now - self._started) * (self._total - done) / done)
        print(
            f"{self._name}: {done:,} of {self._total:,} {self._what}, {left} s left",
            file=sys.stderr,
            flush=True,
        )


def _sweep(place: Path) -> None:
    """Removes what preparations of this set left that were killed."""
    for left in place.parent.glob(f".{place.name}-*"):
        with contextlib.suppress(OSError):  # another process may remove it too
            if time.time() - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left)
