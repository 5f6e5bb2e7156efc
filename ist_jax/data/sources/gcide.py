"""GCIDE, an English dictionary of 40 MB, as a text whose next byte is to be said.

Debian: ``dict-gcide`` (the GNU Collaborative International Dictionary of English; GPL-2+: it is
read where it is installed). Entries are split by the digest of their headword, so that all entries
of a word are in one part. Of the test part's windows of 50 bytes 2.6 % stand in the training part
too, of 100 bytes .15 %.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import files, options, prepared, subwords
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import text_features

PLACE = Path("/usr/share/dictd/gcide.dict.dz")
SHA256 = "802beb667e1fb666203e750f1faea60d5c202ac5430c2083c4180494609f10a7"  # of 0.48.5, unpacked
CLASSES = 128
HELD = 5  # of 256 headwords
VERSION = 2  # of what is made of the file


def load(
    path: str = "",
    *,
    tokens: int = 256,
    test_examples: int = 0,
    vocabulary: int = 0,
    cache: str = "",
) -> Dataset:
    """Tokens uint8 [n, tokens], and the token after each of them, uint8 [n, tokens].

    Tokens are bytes, of 128 classes, or pieces of words. Three of its 99 different bytes are beyond
    ASCII; all of those become 127.

    Args:
      path: ``gcide.dict.dz``, packed or not; where Debian has it if empty.
      tokens: the length of an example. Examples do not overlap.
      test_examples: so many of the test part's, evenly spaced over it; 0: all of them.
      vocabulary: so many pieces of words (uint16), which are found in the training part; 0: bytes.
      cache: where the two parts are kept.

    Raises:
      InputError: no file, or another than that of version 0.48.5; an option out of bounds.
    """
    options.whole("tokens", tokens, 1, text_features.LONGEST)
    options.whole("test_examples", test_examples, 0, 2**31 - 1)
    file = expanded(path, "data.path") if path else PLACE
    if not file.is_file():
        raise InputError(
            f"no {file}. On Debian: apt-get install dict-gcide; or set data.path to gcide.dict.dz"
        )

    def fill(out: Path) -> dict:
        both = [
            np.minimum(np.frombuffer(part, np.uint8), CLASSES - 1) for part in parts(read(file))
        ]
        tokenizer = ""
        if vocabulary:
            texts = [part.tobytes().decode("ascii") for part in both]
            tokenizer = subwords.trained(texts[0], vocabulary)
            both = [subwords.encoded(tokenizer, text) for text in texts]
        for name, part in zip(("train", "test"), both, strict=True):
            np.save(out / f"{name}.npy", part)
        return {"sha256": SHA256, "tokenizer": tokenizer}

    name = prepared.name_of(f"gcide{vocabulary or ''}", file.parent)
    source = prepared.digest([file], {"v": VERSION, "vocabulary": vocabulary})
    place, about = prepared.folder(cache, name, source, fill)
    train, test = (
        text_features.views(np.load(place / f"{part}.npy", mmap_mode="r"), tokens, file)
        for part in ("train", "test")
    )
    if 0 < test_examples < len(test[0]):
        chosen = np.linspace(0, len(test[0]) - 1, test_examples).astype(int)
        test = test[0][chosen], test[1][chosen]
    of = f"{about['sha256']} {VERSION} {tokens} {len(test[0])} {about['tokenizer']}"
    digest, classes = hashlib.sha256(of.encode()).hexdigest(), vocabulary or CLASSES
    of_data = {"sha256": digest, "tokenizer": about["tokenizer"]}
    return Dataset("gcide", *train, *test, classes=classes, **of_data)


def read(file: Path) -> bytes:
    """The dictionary, unpacked.

    Raises:
      InputError: it is not that of ``SHA256``.
    """
    data = files.read(file, ".gz" if file.suffix == ".dz" else None)
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise InputError(
            f"{file} is not GCIDE 0.48.5, whose SHA-256 is {SHA256[:12]}...: found {found[:12]}... "
            "Other texts are read by data.name='text' with data.options.tokens"
        )
    return data


def parts(data: bytes) -> tuple[bytes, bytes]:
    """The entries for training and those for test, each in their order.

    An entry begins with a line that is not indented, and its headword is what stands there before
    the pronunciation, in backslashes.
    """
    found: tuple[list[bytes], list[bytes]] = ([], [])
    for entry in re.split(rb"\n(?=[^\s\n])", data):
        if not entry.startswith(b"00-database"):
            headword = entry.split(b"\n", 1)[0].split(b"\\")[0].strip().lower()
            found[hashlib.sha256(headword).digest()[0] < HELD].append(entry)
    train, test = (b"\n".join(part) for part in found)
    return train, test
