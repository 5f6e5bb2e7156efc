"""A part of the training data held out for validation: what settings are picked by.

Of every label the same share is held out, as nearly as whole examples allow: shares are rounded
down, and the labels with the largest remainders get one more each, until the whole part has its
size (Hamilton's rule). At least one example of a label stays for training. Examples without a
single label are drawn at random. The part depends on the labels, the fraction and the seed alone.

Nothing is copied: an array, a mapped file or ``Images`` is looked at through the numbers that stay.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ist_jax.core.errors import InputError
from ist_jax.data.clusters import Nodes

_VALIDATION = 4  # what a seed is used for (batches and sparse have the others)
HALF = Fraction(1, 2)


def hold_out(data: Any, fraction: float, seed: int = 0) -> Any:
    """The data set with a part of its training examples held out: ``validation_x, validation_y``.

    The digest (``sha256``) is then also of which examples these are.

    Args:
      data: a ``Dataset`` or a ``MultiLabel``.
      fraction: of the training examples, 0 <= fraction < 1; 0 changes nothing.
      seed: of the draw.

    Raises:
      InputError: a graph, which has validation nodes of its own; or a fraction of which no example
        comes.

    Example:
      >>> from ist_jax import data
      >>> digits = hold_out(data.load("digits"), 0.1)
      >>> len(digits.train_y), len(digits.validation_y)
      (808, 90)
    """
    if not fraction:
        return data
    key = f"config.data.validation={fraction}"
    if isinstance(data, Nodes):
        raise InputError(
            f"{key}: the graph {data.name} has validation nodes of its own, which are measured as "
            "accuracy/valid; set it to 0"
        )
    if not hasattr(data, "validation_x"):
        raise InputError(f"{key} needs a Dataset or a MultiLabel, found {type(data).__name__}")
    one_each = isinstance(data.train_y, np.ndarray) and data.train_y.ndim == 1
    labels = data.train_y if one_each else None
    stay, held = split(len(data.train_y), labels, fraction, seed)
    if not len(held):
        raise InputError(
            f"{key} of the {len(stay)} training examples of {data.name} is less than one: make it "
            "larger"
        )
    digest = hashlib.sha256(f"{data.sha256} without ".encode() + held.tobytes()).hexdigest()
    return data._replace(
        train_x=_some(data.train_x, stay),
        train_y=_some(data.train_y, stay),
        validation_x=_some(data.train_x, held),
        validation_y=_some(data.train_y, held),
        sha256=data.sha256 and digest,
    )


def split(
    examples: int, labels: Int[np.ndarray, " n"] | None, fraction: float, seed: int
) -> tuple[Int[np.ndarray, " stay"], Int[np.ndarray, " held"]]:
    """The numbers of the examples that stay for training and of those held out, both in order.

    Args:
      labels: one of each example; None where they have none, or several.
    """
    draw, share = np.random.default_rng((seed, _VALIDATION)), Fraction(str(float(fraction)))
    order = draw.permutation(examples)
    if labels is None:
        held = order[: min(int(share * examples + HALF), examples - 1)]
    else:
        _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
        order = order[np.argsort(places[order], kind="stable")]
        starts, quotas = np.cumsum(counts) - counts, _quotas(counts.tolist(), share)
        held = np.concatenate(
            [order[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]
        )
    out = np.zeros(examples, bool)
    out[held] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def measured(data: Any) -> dict[str, tuple[Any, Any]]:
    """The examples that a net is measured on, by what metrics call them."""
    parts = {"test": (data.test_x, data.test_y)}
    if data.validation_x is not None:
        parts["validation"] = data.validation_x, data.validation_y
    return parts


def count(data: Any) -> int:
    """How many examples are held out."""
    held = getattr(data, "validation_x", None)
    return 0 if held is None else len(held)


class Part:
    """Some examples of an array, or of what is indexed like one; read when they are asked for.

    Args:
      whole: all of them.
      numbers: those that are here.
    """

    def __init__(self, whole: Any, numbers: Int[np.ndarray, " some"]):
        self._whole, self._numbers = whole, numbers
        self.shape, self.dtype = (len(numbers), *whole.shape[1:]), whole.dtype

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, chosen: Any) -> Float[np.ndarray, "..."]:
        return self._whole[self._numbers[chosen]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def _some(whole: Any, numbers: np.ndarray) -> Any:
    """Some of them; labels, which are few, as an array."""
    if hasattr(whole, "only"):  # sparse.Rows
        return whole.only(numbers)
    return whole[numbers] if len(whole.shape) == 1 else Part(whole, numbers)


def _quotas(counts: Sequence[int], share: Fraction) -> list[int]:
    """How many of each label are held out, of how many there are."""
    exact = [share * count for count in counts]
    quotas = [int(quota) for quota in exact]
    left = int(sum(exact) + HALF) - sum(quotas)
    by_remainder = sorted(range(len(counts)), key=lambda label: quotas[label] - exact[label])
    able = [label for label in by_remainder if quotas[label] + 1 < counts[label]]
    for label in able[:left]:
        quotas[label] += 1
    return quotas
