"""Files that others wrote, opened and unpacked in bounded memory.

A small file can unpack to a thousand times its size, declare any size, or be a pipe that never
ends. What a reader keeps of a file is therefore bounded by the file's own size (``most``), a line
is bounded too, and only regular files are opened.
"""

import contextlib
import gzip
import hashlib
import lzma
import stat
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

from ist_jax.core.errors import InputError, first_line

LONGEST = 2**24  # bytes of a line
LEAST = 2**24  # bytes that any file may take in memory, and
SPREAD = 128  # times its own size that a larger one may: numbers as text, mostly 0, take 80
AT_ONCE = 2**18  # bytes that are unpacked at once
MARK = b"\xef\xbb\xbf"  # which some editors put before a text (a byte order mark)
UNPACK: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


@contextlib.contextmanager
def opened(path: Path, suffix: str | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked. Only read from it inside: other errors would be taken for its.

    Args:
      suffix: how it is packed: ``".gz"``, ``".xz"`` or anything else; its name's if absent.

    Raises:
      InputError: it is not there, not a regular file, or cannot be read or unpacked to its end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} cannot be read: it is no regular file")
        unpack = UNPACK.get(path.suffix if suffix is None else suffix, open)
        with unpack(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None


def most(*paths: Path) -> int:
    """Bytes that what is kept of some files may take."""
    return max(LEAST, SPREAD * sum(path.stat().st_size for path in paths))


def read(path: Path, suffix: str | None = None) -> bytes:
    """A whole file.

    Raises:
      InputError: it cannot be read, or is larger than ``most`` when it is unpacked.
    """
    data = bytearray()
    with opened(path, suffix) as file:
        allowed = most(path)
        while some := file.read(AT_ONCE):
            data += some
            if len(data) > allowed:
                raise InputError(
                    f"{path} unpacks to more than {allowed} bytes, {SPREAD} times its own size: "
                    "it is damaged"
                )
    return bytes(data)


def lines(path: Path, suffix: str | None = None) -> Iterator[bytes]:
    """The lines of a file without their ends; see ``blocks``."""
    for block in blocks(path, suffix):
        yield from block


def blocks(path: Path, suffix: str | None = None) -> Iterator[list[bytes]]:
    """The lines of a file without their ends, many at a time; a byte order mark is dropped.

    Raises:
      InputError: it cannot be read, or a line is longer than ``LONGEST``.
    """
    with opened(path, suffix) as file:
        number, rest = 0, b""
        while some := file.read(AT_ONCE):
            if number == 0 and not rest:
                some = some.removeprefix(MARK)
            *whole, rest = (rest + some).split(b"\n")
            sizes = [*map(len, whole), len(rest)]
            if max(sizes) >= LONGEST:
                number += 1 + sizes.index(max(sizes))
                raise InputError(f"{path}, line {number} is longer than {LONGEST} bytes")
            number += len(whole)
            if whole:
                yield whole
        if rest:
            yield [rest]


def digest(path: Path) -> str:
    """SHA-256 of a file, as it is stored."""
    with opened(path, "") as file:
        return hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()


def shown(text: bytes) -> str:
    """The beginning of a text, for a complaint."""
    start = text[:40].decode("utf-8", "replace").rstrip()
    return repr(start + ("..." if len(text) > 40 else ""))
