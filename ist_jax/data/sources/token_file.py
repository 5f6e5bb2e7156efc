"""A text that is numbers already: ``train.bin`` and ``val.bin``, uint16, as nanoGPT writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files, options, own, subwords
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import text_features

DTYPE = np.dtype("<u2")
LAYOUT = (
    "a folder with train.bin and val.bin (or test.bin), uint16 numbers one after another, and "
    "where it is known what they stand for, a byte-level tokenizer.json"
)


def load(path: str = "", *, tokens: int = 256, vocabulary: int = 50257) -> Dataset:
    """Tokens uint16 [n, tokens], and the token after each of them; both mapped from the files.

    Args:
      path: the folder.
      tokens: the length of an example. Examples do not overlap.
      vocabulary: how many different tokens there are; GPT-2's by default.

    Raises:
      InputError: a file that is missing, of an odd length, or shorter than an example; a token
        beyond the vocabulary.
    """
    options.whole("tokens", tokens, 1, text_features.LONGEST)
    options.whole("vocabulary", vocabulary, 2, 2**16)
    folder = own.place(path, "token_file", LAYOUT)
    held = next((f for f in (folder / "val.bin", folder / "test.bin") if f.exists()), None)
    parts = [folder / "train.bin", held or folder / "val.bin"]
    if missing := [file for file in parts if not file.is_file()]:
        raise InputError(f"no {missing[0]}; token_file reads {LAYOUT}")
    both = [_mapped(file, vocabulary) for file in parts]
    pairs = zip(both, parts, strict=True)
    train, test = (text_features.views(its, tokens, file) for its, file in pairs)
    sha256 = "".join(files.digest(file)[:32] for file in parts)
    tokenizer = None
    if (folder / subwords.NAME).is_file():
        tokenizer = subwords.read(folder / subwords.NAME)
        subwords.pieces(tokenizer, vocabulary)
    of_all: dict[str, Any] = {"classes": vocabulary, "sha256": sha256, "tokenizer": tokenizer}
    return Dataset(folder.name or "token_file", *train, *test, **of_all)


def _mapped(file: Path, vocabulary: int) -> np.ndarray:
    if file.stat().st_size % DTYPE.itemsize:
        raise InputError(f"{file} has an odd number of bytes: it is no file of uint16 numbers")
    if not file.stat().st_size:
        raise InputError(f"{file} is empty")
    found = np.memmap(file, DTYPE, "r")
    if (most := int(found.max())) >= vocabulary:
        raise InputError(
            f"{file} has token {most}, and data.options.vocabulary={vocabulary} knows 0 to "
            f"{vocabulary - 1}"
        )
    return found
