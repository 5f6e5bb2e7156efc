"""The idx format of MNIST and its successors, gzipped.

Four bytes of magic number (0, 0, type, number of axes), the sizes as big-endian uint32, the values
in C order. Only unsigned bytes (type 8) are read; no one publishes others.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ist_jax.errors import InputError

UNSIGNED_BYTE = 8
LARGEST = 2**31  # bytes; more than any published set, less than memory
AT_ONCE = 2**24  # so that a damaged header takes no memory that its values do not


def read(path: Path, ndim: int) -> np.ndarray:
    """The array in a ``.gz`` idx file, uint8 with ``ndim`` axes.

    Raises:
      InputError: the file is not gzip, not idx, cut short, too long, or has another number of axes.
    """
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * ndim)
            magic = struct.pack(">BBBB", 0, 0, UNSIGNED_BYTE, ndim)
            if len(header) < 4 + 4 * ndim or header[:4] != magic:
                raise InputError(
                    f"{path} is not an idx file of unsigned bytes with {ndim} axes: it begins with "
                    f"{header[:4].hex() or 'nothing'}, expected {magic.hex()}"
                )
            shape = struct.unpack(f">{ndim}I", header[4:])
            size = math.prod(shape)
            if size > LARGEST:
                raise InputError(
                    f"{path} claims {shape} values, more than {LARGEST}: it is damaged"
                )
            values = bytearray()
            while some := file.read(min(size + 1 - len(values), AT_ONCE)):
                values += some
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}). Install or copy it again.") from None
    if len(values) != size:
        raise InputError(
            f"{path} should hold {size} values ({shape}), found "
            f"{'more' if len(values) > size else len(values)}: it is damaged. Install or copy it "
            "again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
