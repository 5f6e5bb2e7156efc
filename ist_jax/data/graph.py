"""A graph whose nodes have features and a label, some of them for training and some held out."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import description
from ist_jax.data.extras import needed

TRAIN, VALID, TEST, NONE = 0, 1, 2, -1  # what a node is for
PARTS = {"training": TRAIN, "validation": VALID, "test": TEST}
MOST_CLASSES = 2**31 - 1  # labels are int32
ARRAYS = ("features", "receivers", "senders", "labels", "part")
DIMS = 256  # of features made from texts
WORD = r"\b\w\w+\b"  # so that names are taken apart at their hyphens


class Graph(NamedTuple):
    """n nodes and e edges that go both ways: each stands there twice, and no other does.

    Attributes:
      name: what tables call it.
      features: float32 [n, F].
      receivers, senders: int32 [e], sorted by receiver and then by sender.
      labels: int32 [n] below ``classes``, -1 for a node without.
      part: int8 [n], what a node is for: ``TRAIN``, ``VALID``, ``TEST`` or ``NONE``.
      classes: how many labels there are.
      origin: ``"real"``, or ``"stand-in"`` for real data in place of the paper's.
      counted: edges that were left out (``loops`` from a node to itself, ``repeated`` ones), nodes
        without an edge (``isolated``), without a label (``unlabelled``), or without features, whose
        features are 0 (``blank``).
      sha256: of all arrays.
    """

    name: str
    features: np.ndarray
    receivers: np.ndarray
    senders: np.ndarray
    labels: np.ndarray
    part: np.ndarray
    classes: int
    origin: str
    counted: Mapping[str, int]
    sha256: str

    def nodes(self, part: int) -> np.ndarray:
        """The nodes of a part, those with a label, sorted."""
        return np.flatnonzero((self.part == part) & (self.labels >= 0))


def build(
    name: str,
    features: np.ndarray,
    ends: np.ndarray,
    labels: np.ndarray,
    part: np.ndarray,
    classes: int | None = None,
    origin: str = "real",
) -> Graph:
    """A graph of edges as they are found: directed or not, repeated, or from a node to itself.

    Args:
      ends: int [2, e], the two ends of each edge. All are taken both ways, and once.

    Raises:
      InputError: arrays that do not fit or are not of numbers, an end, a label or a part out of
        range, a feature that is not finite in 32 bits, a part without nodes that have a label.
    """
    _check_arrays(name, features, ends, labels, part)
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(features, np.float32)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise InputError(f"{name}: node {finite.argmin()} has a feature that is not finite")
    if classes is None:
        classes = min(int(labels.max(initial=-1)) + 1, MOST_CLASSES)
    _check_parts(name, labels, part, classes)
    receivers, senders, loops, repeated = _both_ways(ends, len(features))
    counted = {
        "loops": loops,
        "repeated": repeated,
        "isolated": int(len(features) - len(np.unique(receivers))),
        "unlabelled": int((labels < 0).sum()),
        "blank": int((~features.any(axis=1)).sum()),
    }
    arrays = (features, receivers, senders, labels.astype(np.int32), part.astype(np.int8))
    digest = hashlib.sha256(repr([array.shape for array in arrays]).encode())
    for array in arrays:
        digest.update(array.data)
    return Graph(name, *arrays, classes, origin, counted, digest.hexdigest())


def _check_arrays(
    name: str, features: np.ndarray, ends: np.ndarray, labels: np.ndarray, part: np.ndarray
) -> None:
    n = len(features)
    if features.ndim != 2 or {labels.shape, part.shape} != {(n,)} or ends.shape[:1] != (2,):
        raise InputError(
            f"{name}: features [n, F], labels [n], parts [n] and edges [2, e] must fit; found "
            f"{list(features.shape)}, {list(labels.shape)}, {list(part.shape)}, {list(ends.shape)}"
        )
    whole = {"edges": ends, "labels": labels, "parts": part}
    for what, array in whole.items():
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"{name}: {what} must be whole numbers, found {array.dtype}")
    if features.dtype.kind not in "biuf":
        raise InputError(f"{name}: features must be numbers, found {features.dtype}")
    outside = np.flatnonzero(((ends < 0) | (ends >= n)).any(axis=0))
    if outside.size:
        one = ends[:, outside[0]].tolist()
        raise InputError(f"{name}: edge {outside[0]} joins {one}; nodes are 0 to {n - 1}")


def _check_parts(name: str, labels: np.ndarray, part: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < -1) | (labels >= classes))
    if wrong.size:
        raise InputError(
            f"{name}: node {wrong[0]} has label {labels[wrong[0]]}, expected 0 to {classes - 1} "
            "(-1: none)"
        )
    strange = np.flatnonzero(~np.isin(part, (*PARTS.values(), NONE)))
    if strange.size:
        raise InputError(
            f"{name}: node {strange[0]} is of part {part[strange[0]]}; there are "
            f"{', '.join(f'{number} ({what})' for what, number in PARTS.items())}, {NONE} (none)"
        )
    for what, number in PARTS.items():
        if not ((part == number) & (labels >= 0)).any():
            raise InputError(f"{name}: no node of the {what} part has a label")


def _both_ways(ends: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Receivers and senders of edges taken both ways and once; loops and repeated ones left out."""
    ends = ends.astype(np.int64)
    loops = ends[0] == ends[1]
    low, high = np.sort(ends[:, ~loops], axis=0)
    once = np.unique(low * n + high)
    low, high = np.divmod(once, n)
    both = np.sort(np.concatenate([once, high * n + low]))
    receivers, senders = (half.astype(np.int32) for half in np.divmod(both, n))
    return receivers, senders, int(loops.sum()), int((~loops).sum()) - len(once)


def size_in_words(nodes: int, edges: int, counted: Mapping[str, int]) -> str:
    """A graph's size, and what was left out or is unlike the rest, where there is any."""
    named = {
        "loops": "edges from a node to itself left out",
        "repeated": "repeated edges left out",
        "isolated": "nodes without an edge",
        "unlabelled": "nodes without a label",
        "blank": "nodes without features",
    }
    some = [f"{counted[key]:,} {what}" for key, what in named.items() if counted.get(key)]
    return ", ".join([f"{nodes:,} nodes, {edges:,} edges", *some])


def write(graph: Graph, folder: Path) -> dict[str, Any]:
    """The arrays in a folder that exists; what else ``mapped`` needs of it."""
    for what in ARRAYS:
        np.save(folder / f"{what}.npy", getattr(graph, what))
    return {"classes": graph.classes, "counted": dict(graph.counted)}


def mapped(name: str, origin: str, folder: Path, about: Mapping[str, Any]) -> Graph:
    """A graph that ``write`` has written, mapped from its files."""
    arrays = [np.load(folder / f"{what}.npy", mmap_mode="r") for what in ARRAYS]
    digest = description.digest_of_set(folder)
    return Graph(*(name, *arrays, about["classes"], origin, about["counted"], digest))


def split(keys: Sequence[str]) -> np.ndarray:
    """A part for each node by the SHA-1 of a key: 60 % training, 20 % validation, 20 % test.

    Nodes that resemble each other (packages of one source) should have the same key.
    """
    tenth = np.array([int(hashlib.sha1(key.encode()).hexdigest()[:8], 16) % 10 for key in keys])
    return np.select([tenth < 6, tenth < 8], [TRAIN, VALID], TEST).astype(np.int8)


def of_texts(texts: Sequence[str], dims: int = DIMS) -> np.ndarray:
    """Features float32 [n, dims] of texts: tf-idf of words that two have, by truncated SVD.

    They are as large as 1 on average. No label is looked at.

    Raises:
      InputError: texts without two words that two of them have.
    """
    with needed("commands"):  # slow imports
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        find = TfidfVectorizer(min_df=2, sublinear_tf=True, token_pattern=WORD)
        weights = find.fit_transform(texts)
    except ValueError as error:  # not a word is left
        raise InputError(f"features cannot be made of {len(texts)} texts: {error}") from None
    if min(weights.shape) < 2:
        raise InputError(
            f"features cannot be made of {len(texts)} texts with {weights.shape[1]} words that two "
            "of them have: it takes two of each"
        )
    found = TruncatedSVD(min(dims, weights.shape[1] - 1), random_state=0).fit_transform(weights)
    return (found / np.sqrt(np.mean(np.square(found)))).astype(np.float32)
