"""npz files, whose arrays are no larger than what is there of them."""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """An npz file for ``numpy.load``, once the sizes that it declares have been looked at.

    Raises:
      InputError: no such file, an array that declares more than is there, arrays that unpack to
        more than ``files.most``; or any failure inside, as a damaged archive can fail in any way.
    """
    try:
        with files.opened(path, "") as file:
            _check(file, files.most(path))
            file.seek(0)
            yield file
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {error!s:.200}") from None


def _check(file: BinaryIO, allowed: int) -> None:
    with zipfile.ZipFile(file) as packed:
        members = packed.infolist()
        if sum(member.file_size for member in members) > allowed:
            raise ValueError(f"it unpacks to more than {allowed} bytes")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename} is packed in a way that NumPy does not use")
            with packed.open(member) as array:
                version = np.lib.format.read_magic(array)
                if version not in HEADERS:
                    raise ValueError(f"{member.filename} is an array of version {version}")
                shape, _, kind = HEADERS[version](array)
            if kind.hasobject:
                raise ValueError(
                    f"{member.filename} holds Python objects (dtype object), which are never "
                    "unpickled. Save arrays of numbers, or of texts of one dtype"
                )
            if math.prod(shape) * kind.itemsize > member.file_size:
                raise ValueError(f"{member.filename} declares {shape} of {kind}: more than it has")
