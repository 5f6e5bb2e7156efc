"""Data sets that are found, never downloaded; batches that are a pure function of their place."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.data.batches import Batches
from ist_jax.data.clusters import clustered
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import (
    csv_files,
    debian_graph,
    digits,
    fashion_mnist,
    gcide,
    graph_files,
    huggingface,
    image_folder,
    images,
    npz,
    speech,
    text,
    tfds,
    token_file,
    wordnet,
    xmc,
)

SOURCES: dict[str, Callable[..., Any]] = {
    "npz": npz.load,
    "csv": csv_files.load,
    "image_folder": image_folder.load,
    "text": text.load,
    "token_file": token_file.load,
    "gcide": gcide.load,
    "tfds": tfds.load,
    "huggingface": huggingface.load,
    "digits": digits.load,
    "fashion_mnist": fashion_mnist.load,
    "cifar10": images.cifar10,
    "cifar100": images.cifar100,
    "imagenet": images.imagenet,
    "speech_commands": speech.load,
    "speech_synthetic": speech.load_synthetic,
    "xmc": xmc.load,
    "debian_packages": xmc.load_debian,
    "wordnet": clustered(wordnet.load),
    "debian_graph": clustered(debian_graph.load),
    "ogb": clustered(graph_files.ogb),
    "planetoid": clustered(graph_files.planetoid),
    "reddit": clustered(graph_files.reddit),
}
# Training and test examples, shape of one, classes: enough to plan with.
PUBLISHED: Mapping[str, tuple[int, int, tuple[int, ...], int]] = {
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
    "imagenet": (1_281_167, 50_000, (224, 224, 3), 1000),
    "speech_commands": (84_843, 11_005, (4096,), 35),
}
TEXTS: Mapping[str, tuple[int, int, int]] = {"gcide": (39_135_574, 815_787, 128)}  # bytes, classes


def load(name: str, path: str = "", **options: Any) -> Any:
    """The data set of that name, from ``path`` or the places it is usually found in.

    A name such as ``"my_package.my_data:load"`` is a function of your own: it takes the path and
    options, and returns a ``Dataset``.

    Args:
      options: of its own ``load``. ``cache`` is where sets are kept that are prepared once;
        ``skip_bad=True`` leaves bad examples out, and tells how many those were.

    Returns:
      A ``Dataset``; ``xmc.MultiLabel`` for examples with several labels, ``clusters.Nodes`` for a
      graph.

    Raises:
      InputError: an unknown name or option; a data set that is missing (what to install is said),
        damaged, or not finite.
    """
    source = by_name.found(name, SOURCES, "config.data.name")
    known = [*inspect.signature(source).parameters][1:]
    for option, value in options.items():
        idle = option == "cache" or (option == "skip_bad" and not value)
        if option not in known and not idle:
            near = by_name.hint(option, known, "it has")
            raise InputError(f"data set {name!r} has no option {option!r}{near}")
    return source(path, **{k: v for k, v in options.items() if k in known}).checked()


def register(name: str, load: Callable[..., Any]) -> None:
    """Lets ``data.load(name)`` and ``config.data.name=name`` find a reader, in this process.

    For notebooks: there the function is in no module that could be imported. On the command line,
    name it where it is, ``"my_module:load"``. This is the library's only registry.

    Args:
      load: of a path (first) and options; returns a ``Dataset``.

    Raises:
      InputError: a name that is taken. A function that is defined again, as when a cell runs twice,
        takes its own place.

    Example:
      >>> def load(path="", *, n=8):
      ...     x = np.eye(n, dtype=np.float32)
      ...     return Dataset("eye", x, np.arange(n) % 2, x, np.arange(n) % 2, classes=2)
      >>> register("eye", load)
    """
    if not name.isidentifier():
        raise InputError(f"a data set is registered under a name such as 'mine', found {name!r}")
    where = lambda f: (getattr(f, "__module__", ""), getattr(f, "__qualname__", ""))
    if name in SOURCES and where(SOURCES[name]) != where(load):
        raise InputError(f"the name {name!r} of a data set is taken; choose another")
    SOURCES[name] = load


def outline(name: str, **given: Any) -> Dataset | None:
    """A set of its published size, all of whose numbers are 0 and take no memory; None if unknown.

    Args:
      given: the config's options for it; of these ``size``, pixels of a side, and ``tokens``, of an
        example of text.
    """
    if name in TEXTS and not given.get("vocabulary"):
        length = given.get("tokens", 256)
        *sizes, classes = TEXTS[name]
        token = np.zeros((), np.uint8)
        train, test = [np.broadcast_to(token, (n // length, length)) for n in sizes]
        made = Dataset(name, train, train, test, test, classes, origin="published sizes")
        return made._replace(tokenizer="")
    size = given.get("size")
    if name not in PUBLISHED:
        return None
    *numbers, shape, classes = PUBLISHED[name]
    shape = (size, size, shape[-1]) if size and len(shape) > 1 else shape
    x, y = np.zeros((), np.float32), np.zeros((), np.int32)
    of = lambda n: (np.broadcast_to(x, (n, *shape)), np.broadcast_to(y, (n,)))
    return Dataset(name, *of(numbers[0]), *of(numbers[1]), classes, origin="published sizes")


__all__ = ["PUBLISHED", "SOURCES", "Batches", "Dataset", "load", "outline", "register"]
