"""Short recordings in RIFF wave files: one channel of 16-bit PCM.

A wave file is a list of chunks, each with a name of four bytes, a size as little-endian uint32, and
as many bytes (one more if that is odd): ``fmt `` says what the samples are, ``data`` has them, and
others may be anything (IBM and Microsoft, Multimedia Programming Interface and Data Specifications
1.0, 1991). Two newer habits are understood. A longer ``fmt `` names the format by a GUID
(``WAVE_FORMAT_EXTENSIBLE``). A program that writes into a pipe does not know the size yet and
writes the largest one: its samples go on to the end of the file.

A file is never read further than a recording of the expected length can be long, so that a damaged
or foreign one takes no memory.
"""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from ist_jax.core.errors import InputError
from ist_jax.data import files

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
STREAMED = 0x7FFFF000  # and above: sox and espeak-ng write this for a size not known, ffmpeg 2^32-1
OTHER_CHUNKS = 2**16  # bytes that a file may have besides its samples


def read(path: Path, rate: int = 16_000, samples: int = 16_000) -> Int16[np.ndarray, " samples"]:
    """The samples of a file, which must have this many at this rate (in Hz).

    Raises:
      InputError: the file cannot be read, is no wave file, is cut short, or holds anything else
        than one channel of 16-bit PCM with that rate and length. It is named.
    """
    most = 2 * samples + OTHER_CHUNKS
    with files.opened(path, "") as file:
        content = file.read(most + 1)
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise InputError(
            f"{path} is not a wave file: it begins with {content[:12].hex() or 'nothing'}, "
            "expected RIFF....WAVE"
        )
    if len(content) > most:
        raise InputError(
            f"{path} is longer than {most} bytes, far more than {samples} samples need"
        )
    found = _chunks(content, path)
    kind, channels, its_rate, _, _, bits = struct.unpack("<HHIIHH", found[b"fmt "][:16])
    if kind == EXTENSIBLE and _is_pcm(found[b"fmt "]):
        kind = PCM
    if (kind, channels, bits) != (PCM, 1, 16):
        raise InputError(
            f"{path} should hold one channel of 16-bit PCM (format {PCM}), found {channels} of "
            f"{bits} bits (format {kind})"
        )
    if its_rate != rate:
        raise InputError(f"{path} should have {rate} samples a second, found {its_rate}")
    if len(found[b"data"]) != 2 * samples:
        raise InputError(f"{path} should hold {samples} samples, found {len(found[b'data']) / 2:g}")
    return np.frombuffer(found[b"data"], "<i2").astype(np.int16)


def write(path: Path, clip: Int16[np.ndarray, " samples"], rate: int = 16_000) -> None:
    """A file that ``read`` reads."""
    body = clip.astype("<i2").tobytes()
    about = struct.pack("<HHIIHH", PCM, 1, rate, 2 * rate, 2, 16)
    chunks = b"WAVE" + b"".join(
        name + struct.pack("<I", len(content)) + content
        for name, content in ((b"fmt ", about), (b"data", body))
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)


def _is_pcm(about: bytes) -> bool:
    """Whether an extensible format is plain PCM, all 16 bits of which count."""
    return about[18:20] == struct.pack("<H", 16) and about[24:40] == PCM_GUID


def _chunks(content: bytes, path: Path) -> dict[bytes, bytes]:
    """The first ``fmt `` and the first ``data``, both whole."""
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content) and len(found) < 2:
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"data" and size >= STREAMED:
            size = len(content) - at - 8
        if name in (b"fmt ", b"data") and name not in found:
            found[name] = content[at + 8 : at + 8 + size]
            if len(found[name]) < size:
                raise InputError(
                    f"{path} is cut short: its {name.decode()} chunk should have {size} bytes, "
                    f"found {len(found[name])}"
                )
        at += 8 + size + size % 2
    if len(found) < 2 or len(found[b"fmt "]) < 16:
        what = "a whole 'fmt ' chunk" if len(found.get(b"fmt ", b"")) < 16 else "a 'data' chunk"
        raise InputError(f"{path} is a wave file without {what}: it is damaged")
    return found
