"""Data sets that are found, never downloaded; batches that are a pure function of their place."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ist_jax.data import digits, fashion_mnist, images, speech, xmc
from ist_jax.data.batches import Batches
from ist_jax.data.dataset import Dataset
from ist_jax.errors import InputError

SOURCES: Mapping[str, Callable[..., Any]] = {
    "digits": digits.load,
    "fashion_mnist": fashion_mnist.load,
    "cifar10": images.cifar10,
    "imagenet": images.imagenet,
    "speech_commands": speech.load,
    "speech_synthetic": speech.load_synthetic,
    "xmc": xmc.load,
    "debian_packages": xmc.load_debian,
}


def load(name: str, path: str = "", **options: Any) -> Any:
    """The data set of that name, from ``path`` or the places it is usually found in.

    Args:
      options: of its own ``load``. ``cache`` is where sets are kept that are prepared once;
        ``skip_bad=True`` leaves bad examples out, and tells how many those were.

    Returns:
      A ``Dataset``, or ``xmc.MultiLabel`` for examples with several labels.

    Raises:
      InputError: an unknown name or option; a data set that is missing (what to install is said),
        damaged, or not finite.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(sorted(SOURCES))}")
    known = [*inspect.signature(SOURCES[name]).parameters][1:]
    for option, value in options.items():
        idle = option == "cache" or (option == "skip_bad" and not value)
        if option not in known and not idle:
            raise InputError(
                f"data set {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    return SOURCES[name](path, **{k: v for k, v in options.items() if k in known}).checked()


__all__ = ["SOURCES", "Batches", "Dataset", "load"]
