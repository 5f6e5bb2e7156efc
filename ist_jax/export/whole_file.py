"""A file that is whole or not there: written under another name beside it, and renamed."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from ist_jax.core import paths
from ist_jax.core.errors import InputError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives the path to write at; when the block ends without an error, the file is at ``path``.

    Whatever happens meanwhile, an earlier file at ``path`` stays as it was.

    Raises:
      InputError: no file can be made there.
      OSError: it could not be written; nothing is left behind.
    """
    target = _target(path)
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as made:
            mode = stat.S_IMODE(os.fstat(made.fileno()).st_mode)  # as the umask has it
    except OSError as error:
        raise InputError(f"{path}: no file can be made there ({error.strerror})") from None
    try:
        yield part
        part.chmod(mode)
        _to_disk(part)
        part.replace(target)
        _to_disk(target.parent)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _target(path: str | os.PathLike) -> Path:
    found = Path(os.path.realpath(paths.expanded(path, "path")))  # a link stays one
    if not found.parent.is_dir():
        raise InputError(f"{path}: there is no folder {found.parent}. Make it first.")
    if found.is_dir():
        raise InputError(f"{path} is a folder: add the name of a file")
    if found.exists() and not found.is_file():
        raise InputError(f"{path} is a device or a pipe, and no file that could be replaced")
    return found


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
