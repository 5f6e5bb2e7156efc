"""Data sets that are found, never downloaded; batches that are a pure function of their place."""

from collections.abc import Callable, Mapping

from ist_jax.data import digits, fashion_mnist
from ist_jax.data.batches import Batches
from ist_jax.data.dataset import Dataset
from ist_jax.errors import InputError

SOURCES: Mapping[str, Callable[[str], Dataset]] = {
    "digits": digits.load,
    "fashion_mnist": fashion_mnist.load,
}


def load(name: str, path: str = "") -> Dataset:
    """The data set of that name, from ``path`` or the places it is usually found in.

    Raises:
      InputError: an unknown name; a data set that is missing (what to install is said), damaged, or
        not finite.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(sorted(SOURCES))}")
    return SOURCES[name](path).checked()


__all__ = ["SOURCES", "Batches", "Dataset", "load"]
