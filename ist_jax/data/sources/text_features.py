"""Texts as arrays: words counted into a fixed number of features, or bytes as tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import own
from ist_jax.data.extras import needed

MOST_FEATURES = 2**22
BYTES = 256
LONGEST = 2**20  # tokens of an example


def hashed(texts: Sequence[str], features: int, where: Any) -> np.ndarray:
    """Words by their hash, float32 [n, features], each row of length 1 (or 0 without a word).

    Scikit-learn's ``HashingVectorizer``: words of two or more letters in small letters, counted at
    the place that MurmurHash3 gives, with a sign of its own. It learns nothing from the texts, so
    that it is the same for every part and every run.
    """
    own.check_size((len(texts), features), where, "Set data.options.features lower")
    with needed("commands"):
        from sklearn.feature_extraction.text import HashingVectorizer  # a second to import

    return HashingVectorizer(n_features=features, dtype=np.float32).transform(texts).toarray()


def windows(data: bytes, length: int, where: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bytes as tokens int32 [n, length], and the byte after each, int32 [n, length].

    Windows do not overlap; what is left at the end is no window, and is not used.

    Raises:
      InputError: fewer bytes than one window needs.
    """
    n = (len(data) - 1) // length
    if n < 1:
        raise InputError(
            f"{where}: {len(data)} bytes are fewer than the {length + 1} that one example of "
            f"data.options.tokens={length} needs"
        )
    own.check_size((2, n, length), where, "Split the file")
    return views(np.frombuffer(data, np.uint8).astype(np.int32), length, where)


def views(tokens: np.ndarray, length: int, where: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokens ``[n, length]``, and the token after each, as views of an array of all of them.

    Windows do not overlap; what is left at the end is no window, and is not used.

    Raises:
      InputError: fewer tokens than one window needs.
    """
    n = (len(tokens) - 1) // length
    if n < 1:
        raise InputError(
            f"{where}: {len(tokens)} tokens are fewer than the {length + 1} that one example of "
            f"data.options.tokens={length} needs"
        )
    tokens = tokens[: n * length + 1]
    return tokens[:-1].reshape(n, length), tokens[1:].reshape(n, length)
