"""The files of Planetoid (Yang et al., 2016), whose parts must belong together.

``x``, ``tx`` and ``allx`` are features: of training nodes, of test nodes, and of all nodes but
those (training nodes first). ``y``, ``ty`` and ``ally`` are their labels, a 1 among zeros.
``graph`` has the neighbours of every node, and ``test.index`` the number of each row of ``tx``.
Some test nodes may be missing from it (CiteSeer): they have neither features nor a label.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files, graph
from ist_jax.data.graph import NONE, TEST, TRAIN, VALID, Graph
from ist_jax.data.sources import pickled, table

FEATURES, LABELS = ("x", "tx", "allx"), ("y", "ty", "ally")
VALIDATION = 500  # nodes after those for training
GAPS = 2  # times the test nodes, in which their numbers must lie: CiteSeer's leave out 15


def paths(folder: Path, name: str) -> dict[str, Path]:
    """The files of a set, by what they hold."""
    return {
        what: folder / f"ind.{name}.{what}" for what in (*FEATURES, *LABELS, "graph", "test.index")
    }


def read(name: str, found: Mapping[str, Path]) -> Graph:
    """The graph.

    Raises:
      InputError: a file that is not what it should be, or does not fit the others.
    """
    x, tx, allx, y, ty, ally = (pickled.load(found[what]) for what in (*FEATURES, *LABELS))
    _check_shapes(found, (x, tx, allx), (y, ty, ally))
    known = allx.shape[0]
    ids = _test_nodes(found["test.index"], known, tx.shape[0])
    neighbours = pickled.load(found["graph"])
    n = max(len(neighbours), int(ids.max(initial=known - 1)) + 1)
    ends = _ends(found["graph"], neighbours, n)
    allowed = files.most(*(found[what] for what in FEATURES))
    if 4 * n * allx.shape[1] > allowed:
        raise InputError(
            f"{found['allx']} declares {allx.shape[1]} features; of {n} nodes they take more than "
            f"{allowed} bytes, {files.SPREAD} times the files of features: it is damaged"
        )
    features = np.zeros((n, allx.shape[1]), np.float32)
    labels, part = np.full(n, -1, np.int64), np.full(n, NONE, np.int8)
    for nodes, rows in ((np.arange(known), allx.tocoo()), (ids, tx.tocoo())):
        features[nodes[rows.row], rows.col] = rows.data
    _of_one_hot(found["y"], y)
    labels[:known] = _of_one_hot(found["ally"], ally)
    labels[ids] = _of_one_hot(found["ty"], ty)
    part[: x.shape[0]] = TRAIN
    part[x.shape[0] : min(x.shape[0] + VALIDATION, known)] = VALID
    part[ids] = TEST
    return graph.build(name, features, ends, labels, part, y.shape[1])


def _check_shapes(found: Mapping[str, Path], inputs: tuple, labels: tuple) -> None:
    """Complains about features and labels that do not belong together."""
    from scipy import sparse  # slow to import

    for what, rows in zip((*FEATURES, *LABELS), (*inputs, *labels), strict=True):
        kind = sparse.issparse(rows) if what in FEATURES else isinstance(rows, np.ndarray)
        if not kind or rows.ndim != 2:
            raise InputError(
                f"{found[what]}: x, tx and allx must be sparse matrices, y, ty and ally arrays of "
                "rows"
            )
    sizes = [(part.shape[0], of.shape[0]) for part, of in zip(inputs, labels, strict=True)]
    wide = {part.shape[1] for part in inputs}, {of.shape[1] for of in labels}
    if any(a != b for a, b in sizes) or any(len(w) > 1 or 0 in w for w in wide):
        shapes = [rows.shape for rows in (*inputs, *labels)]
        raise InputError(
            f"{found['x'].parent}: features and labels are of different sizes: {shapes}"
        )
    if sizes[0][0] > sizes[2][0]:
        raise InputError(f"{found['x']} has {sizes[0][0]} nodes, of {sizes[2][0]} in allx")


def _test_nodes(file: Path, known: int, count: int) -> np.ndarray:
    """The numbers of the test nodes, which are ``count`` beyond the ``known`` ones."""
    ids = table.read(file, np.int64, 1)[:, 0]
    wrong = (ids < known) | (ids >= known + GAPS * count)
    wrong[np.setdiff1d(np.arange(len(ids)), np.unique(ids, return_index=True)[1])] = True
    if wrong.any() or len(ids) != count:
        line = f", line {wrong.argmax() + 1}: {ids[wrong.argmax()]}" if wrong.any() else ""
        raise InputError(
            f"{file}{line}; test.index must name {count} nodes from {known} on, each once; found "
            f"{len(ids)}"
        )
    return ids


def _ends(file: Path, neighbours: Any, n: int) -> np.ndarray:
    """The ends ``int64 [2, e]`` of the edges in a dictionary of lists."""
    if not isinstance(neighbours, dict) or not all(type(of) is list for of in neighbours.values()):
        raise InputError(f"{file}: graph must be lists of nodes by node")
    if sum(map(len, neighbours.values())) > file.stat().st_size:  # a list may stand for many
        raise InputError(f"{file}: its lists are longer than the file: it is damaged")
    for node, of in neighbours.items():
        for end in (node, *of):
            if type(end) is not int or not 0 <= end < n:
                raise InputError(
                    f"{file}: graph must be lists of nodes by node, numbers from 0 to {n - 1}; "
                    f"found {pickled.shown(end)}"
                )
    if missing := set(range(n)) - neighbours.keys():
        raise InputError(f"{file}: node {min(missing)} has no list of neighbours")
    flat = (end for node, of in neighbours.items() for to in of for end in (node, to))
    return np.fromiter(flat, np.int64).reshape(-1, 2).T


def _of_one_hot(file: Path, rows: np.ndarray) -> np.ndarray:
    """Labels of rows with a one each; -1 for a row of zeros."""
    wrong = ~np.isin(rows, (0, 1)).all(axis=1) | ((rows == 1).sum(axis=1) > 1)
    if wrong.any():
        row = int(wrong.argmax())
        shown = np.array2string(rows[row], threshold=10)
        raise InputError(
            f"{file}, row {row + 1}: a label is one 1 among zeros (all 0: none), found {shown}"
        )
    return np.where(rows.any(axis=1), rows.argmax(axis=1), -1)
