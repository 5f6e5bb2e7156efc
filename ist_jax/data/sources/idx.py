"""The idx format of MNIST and its successors, gzipped.

Four bytes of magic number (0, 0, type, number of axes), the sizes as big-endian uint32, the values
in C order. Only unsigned bytes (type 8) are read; no one publishes others. A reader takes no more
memory than the header declares, whatever the file unpacks to.
"""

import math
import struct
from pathlib import Path

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files

UNSIGNED_BYTE = 8
LARGEST = 2**28  # bytes; five times MNIST, and a gigabyte once they are float32
AT_ONCE = 2**24  # so that a damaged header takes no memory that its values do not


def read(path: Path, ndim: int) -> np.ndarray:
    """The array in a ``.gz`` idx file, uint8 with ``ndim`` axes.

    Raises:
      InputError: the file is not gzip, not idx, cut short, too long, or has another number of axes.
    """
    with files.opened(path, ".gz") as file:
        header = file.read(4 + 4 * ndim)
        magic = struct.pack(">BBBB", 0, 0, UNSIGNED_BYTE, ndim)
        if len(header) < 4 + 4 * ndim or header[:4] != magic:
            raise InputError(
                f"{path} is not an idx file of unsigned bytes with {ndim} axes: it begins with "
                f"{header[:4].hex() or 'nothing'}, expected {magic.hex()}"
            )
        shape = struct.unpack(f">{ndim}I", header[4:])
        if math.prod(n or 1 for n in shape) > LARGEST:  # also beside an axis of 0
            raise InputError(
                f"{path} claims {shape} values, more than {LARGEST}: it is damaged. Install or "
                "copy it again."
            )
        size = math.prod(shape)
        values = bytearray()
        while some := file.read(min(size + 1 - len(values), AT_ONCE)):
            values += some
    if len(values) != size:
        raise InputError(
            f"{path} should hold {size} values ({shape}), found "
            f"{'more' if len(values) > size else len(values)}: it is damaged. Install or copy it "
            "again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
