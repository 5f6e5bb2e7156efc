"""Texts as arrays: words counted into a fixed number of features, or bytes as tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import own, subwords
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed

MOST_FEATURES = 2**22
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


def language(
    name: str,
    parts: Sequence[tuple[Any, str]],
    length: int,
    share: float = 0.2,
    vocabulary: int = 0,
) -> Dataset:
    """A text, token by token: int32 [n, length], and the token after each, int32 [n, length].

    Windows do not overlap; what is left at the end is no window, and is not used.

    Args:
      parts: texts for training and for test, each with its place; or one, whose end is for test.
      share: for test then, of the windows, or of the letters.
      vocabulary: so many pieces of words, which are found in the training part; 0: bytes.

    Raises:
      InputError: fewer tokens than one window needs, or than one for each part.
    """
    tokenizer = ""
    if vocabulary:
        if len(parts) == 1:  # before there are tokens, which are found in the first part
            where, text = parts[0]
            end = int(len(text) * (1 - share))
            parts = [(where, text[:end]), (where, text[end:])]
        tokenizer = subwords.trained(parts[0][1], vocabulary)
    of_all: dict[str, Any] = {"classes": vocabulary or subwords.BYTES, "tokenizer": tokenizer}
    pairs = [_windows(subwords.encoded(tokenizer, text), length, where) for where, text in parts]
    if len(pairs) == 2:
        return Dataset(name, *pairs[0], *pairs[1], **of_all)
    x, y = pairs[0]
    if len(x) < 2:
        where = parts[0][0]
        raise InputError(f"{where} is one example of {length} tokens; training and test need two")
    end = len(x) - min(max(1, round(share * len(x))), len(x) - 1)
    return Dataset(name, x[:end], y[:end], x[end:], y[end:], **of_all)


def _windows(tokens: np.ndarray, length: int, where: Any) -> tuple[np.ndarray, np.ndarray]:
    own.check_size((2, len(tokens)), where, "Split the file")
    return views(tokens.astype(np.int32), length, where)


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
