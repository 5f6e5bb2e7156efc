"""What tokens stand for: a byte each, or pieces of words (byte-level BPE; Sennrich et al., 2016).

A tokenizer is the text of a ``tokenizer.json`` as the ``tokenizers`` package writes it; the empty
text stands for bytes. It is trained on the training part alone, and kept with the net.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from ist_jax.core.errors import InputError
from ist_jax.data import files
from ist_jax.data.extras import needed

BYTES = 256
MOST = 2**16
TRAINED = 2**22  # letters that a tokenizer is trained on
AT_ONCE = 2**14  # lines
NAME = "tokenizer.json"


def trained(text: str, vocabulary: int) -> str:
    """A tokenizer of at most so many tokens, which turns every text into tokens and back.

    It is trained on the first ``TRAINED`` letters.

    Raises:
      InputError: ``tokenizers`` is not installed; fewer tokens than there are bytes.
    """
    if not BYTES <= vocabulary <= MOST:
        raise InputError(
            f"data.options.vocabulary must be 0 (bytes) or from {BYTES} to {MOST}, found "
            f"{vocabulary!r}"
        )
    with needed("text"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    how: Any = trainers.BpeTrainer
    lines = text[:TRAINED].splitlines(keepends=True)
    made.train_from_iterator(
        lines, how(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    )
    return made.to_str()


def read(file: Path) -> str:
    """A tokenizer from its file.

    Raises:
      InputError: it is none.
    """
    text = files.read(file).decode("utf-8", "replace")
    pieces(text, MOST)
    return text


def encoded(tokenizer: str, text: str) -> Integer[np.ndarray, " n"]:
    """The tokens of a text."""
    if not tokenizer:
        return np.frombuffer(text.encode(), np.uint8)
    with needed("text"):
        from tokenizers import Tokenizer

    made, lines = Tokenizer.from_str(tokenizer), text.splitlines(keepends=True)
    parts = [np.zeros(0, np.uint16)]
    for start in range(0, len(lines), AT_ONCE):
        found = made.encode_batch(lines[start : start + AT_ONCE], add_special_tokens=False)
        parts += [np.asarray(line.ids, np.uint16) for line in found]
    return np.concatenate(parts)


def pieces(tokenizer: str, classes: int) -> list[bytes]:
    """What each token stands for; where tokens are bytes, of at most 256.

    Raises:
      InputError: the text is no byte-level tokenizer, or it has more tokens than ``classes``.
    """
    if not tokenizer:
        return [bytes([number]) for number in range(min(classes, BYTES))]
    alphabet = _alphabet()
    try:
        numbers = json.loads(tokenizer)["model"]["vocab"]
        if not 0 <= min(numbers.values()) <= max(numbers.values()) < classes:
            most = max(numbers.values())
            raise InputError(f"{NAME} has token {most}, and there are {classes} tokens")
        found = [b""] * classes  # what no token stands for is none
        for token, number in numbers.items():
            found[number] = bytes(alphabet[letter] for letter in token)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise InputError(
            f"{NAME} is not the file of a byte-level BPE tokenizer, as tokenizers writes it"
        ) from None
    return found


def _alphabet() -> dict[str, int]:
    """The letter that stands for each byte in byte-level BPE: itself if it can be seen (GPT-2)."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(BYTES) if byte not in seen]
    letters = {chr(byte): byte for byte in seen}
    return letters | {chr(BYTES + n): byte for n, byte in enumerate(hidden)}
