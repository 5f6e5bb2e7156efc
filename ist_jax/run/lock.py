"""One command at a time writes into a run folder.

The kernel holds the lock (``flock``) for as long as the process lives. However it ends, by
``kill -9`` or with the machine, the lock is gone with it; the file that stays hinders nobody, and a
process that is given the same number holds nothing. The text in the file is for messages only.

Between machines it holds where their file system passes locks on: NFS from version 4 (after a crash
the server waits for its lease, 90 s), CephFS, Lustre mounted with ``flock``. On one that knows no
locks a warning says so.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import TextIO

from ist_jax.core.errors import InputError

NAME = "lock"
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def held(folder: pathlib.Path, make: bool = False) -> Iterator[None]:
    """Nobody else has the folder meanwhile.

    Args:
      make: the folder, if it is not there.

    Raises:
      InputError: another command has it (its process and host are named); or the folder cannot be
        written.
    """
    path = folder / NAME
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"--workdir={folder} is a file; it must be a folder")
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        file = _taken(path)
    except OSError as error:
        raise InputError(f"--workdir={folder} cannot be written: {error}") from None
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: who opens it from now on makes a new one


def owner(folder: pathlib.Path) -> str:
    """Who has the folder: the process and its host; empty if nobody."""
    try:
        with (folder / NAME).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(200).strip() or "another command"
    except OSError:  # no such file, or a file system without locks
        return ""
    return ""


def _taken(path: pathlib.Path) -> TextIO:
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                owner = file.read(200).strip() or "another command"
            raise InputError(
                f"{path.parent} is in use: {owner} writes into it. Wait until it is over, stop it, "
                "or choose another --workdir."
            ) from None
        except OSError as error:
            if error.errno not in UNKNOWN:
                file.close()
                raise
            print(
                f"warning: {path.parent} lies in a file system without locks ({error}): nothing "
                "hinders a second command there",
                file=sys.stderr,
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # whoever held it has just removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
