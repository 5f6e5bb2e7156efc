"""Graphs as others publish them, in a folder: OGB's csv files, Planetoid's, Reddit's npz files."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from ist_jax.data import graph, pickled, prepared
from ist_jax.data.graph import NONE, TEST, TRAIN, VALID, Graph
from ist_jax.errors import InputError

VERSION = 1  # of what is made of the files
OGB = ("edge", "node-feat", "node-label")
PLANETOID = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
REDDIT = ("reddit_data.npz", "reddit_graph.npz")
GAPS = 2  # times the test nodes, in which their numbers must lie: CiteSeer's leave out 15


def ogb(path: str = "", *, cache: str = "") -> Graph:
    """A node property set of the Open Graph Benchmark (Hu et al., 2020): ogbn-arxiv, ogbn-products.

    Args:
      path: its folder, with ``raw/edge.csv.gz`` and so on, and one split in ``split/*``.
    """
    folder = _folder(path, "ogbn_arxiv with raw/edge.csv.gz, raw/node-feat.csv.gz, split/...")
    splits = sorted(folder.glob("split/*/train.csv.gz"))
    if len(splits) != 1:
        raise InputError(f"{folder}/split must have one folder with train.csv.gz; {len(splits)}")
    files = [folder / f"raw/{name}.csv.gz" for name in OGB]
    files += [splits[0].with_name(f"{part}.csv.gz") for part in ("train", "valid", "test")]

    def read() -> Graph:
        ends, features, labels, *parts = (
            _numbers(file, np.float32 if "feat" in file.name else np.int64) for file in files
        )
        part = np.full(len(features), NONE, np.int8)
        for nodes, number in zip(parts, (TRAIN, VALID, TEST), strict=True):
            outside = nodes[(nodes < 0) | (nodes >= len(part))]
            if outside.size:
                raise InputError(f"{splits[0].parent}: node {outside[0]} of {len(part)}")
            twice = nodes[part[nodes] != NONE]
            if twice.size:
                raise InputError(f"{splits[0].parent}: node {twice[0]} is in two parts")
            part[nodes.ravel()] = number
        return graph.build(folder.resolve().name, features, ends.T, labels.ravel(), part)

    return _prepared(folder, files, cache, read)


def planetoid(path: str = "", *, cache: str = "") -> Graph:
    """Cora, CiteSeer or PubMed as Planetoid (Yang et al., 2016) publishes them, with its split.

    Args:
      path: a folder with ``ind.NAME.x``, ``ind.NAME.allx`` and so on, of one set.
    """
    folder = _folder(path, "the files ind.cora.x, ind.cora.tx, ... of one set")
    names = {file.name.split(".")[1] for file in folder.glob("ind.*.*")}
    if len(names) != 1:
        raise InputError(f"{folder} must hold the files of one set; found {sorted(names)}")
    [name] = names
    files = [folder / f"ind.{name}.{part}" for part in PLANETOID]

    def read() -> Graph:
        x, tx, allx, y, ty, ally, neighbours = (pickled.load(file) for file in files[:-1])
        ids = _numbers(files[-1], np.int64).ravel()
        _check_planetoid(folder, (x, tx, allx), (y, ty, ally), neighbours, ids)
        known = allx.shape[0]
        n = max(len(neighbours), int(ids.max(initial=known - 1)) + 1)
        features = np.zeros((n, allx.shape[1]), np.float32)
        labels, part = np.full(n, -1, np.int64), np.full(n, NONE, np.int8)
        features[:known], features[ids] = allx.toarray(), tx.toarray()
        labels[:known], labels[ids] = _of_one_hot(ally), _of_one_hot(ty)
        part[: x.shape[0]] = TRAIN
        part[x.shape[0] : min(x.shape[0] + 500, known)] = VALID
        part[ids] = TEST
        ends = np.array([(a, b) for a, of in neighbours.items() for b in of], np.int64)
        return graph.build(name, features, ends.reshape(-1, 2).T, labels, part, y.shape[1])

    return _prepared(folder, files, cache, read)


def reddit(path: str = "", *, cache: str = "") -> Graph:
    """Reddit's posts (Hamilton et al., 2017), as two npz files.

    Args:
      path: a folder with ``reddit_data.npz`` (feature, label, node_types: 1 training, 2 validation,
        3 test) and ``reddit_graph.npz`` (a SciPy sparse matrix).
    """
    folder = _folder(path, " and ".join(REDDIT))
    files = [folder / name for name in REDDIT]

    def read() -> Graph:
        try:
            with files[0].open("rb") as opened, np.load(opened) as found:
                features, labels, kinds = (found[k] for k in ("feature", "label", "node_types"))
            with files[1].open("rb") as opened:
                matrix = scipy.sparse.load_npz(opened)
            if hasattr(matrix, "check_format"):  # which looks at indices that it will write to
                matrix.check_format(full_check=True)
            matrix = matrix.tocoo()
        except Exception as error:  # a damaged archive can fail in any way
            raise InputError(f"{folder}: {error}") from None
        part = np.select([kinds == 1, kinds == 2, kinds == 3], [TRAIN, VALID, TEST], NONE)
        return graph.build("reddit", features, np.stack([matrix.row, matrix.col]), labels, part)

    return _prepared(folder, files, cache, read)


def _folder(path: str, what: str) -> Path:
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise InputError(f"data.path={path!r} is no folder; it must have {what}")
    return folder


def _prepared(folder: Path, files: list[Path], cache: str, read: Callable[[], Graph]) -> Graph:
    for file in files:
        if not file.exists():
            raise InputError(f"no {file}, which the set is read from")
    name = prepared.name_of(folder.name, folder)
    source = prepared.digest(files, {"version": VERSION})
    fill = lambda out: {**graph.write(made := read(), out), "name": made.name}
    place, told = prepared.folder(cache, name, source, fill)
    return graph.mapped(told["name"], "real", place, told)


def _numbers(file: Path, kind: Any) -> np.ndarray:
    """A row for each line."""
    try:
        data = file.read_bytes()
        lines = (gzip.decompress(data) if file.suffix == ".gz" else data).decode().splitlines()
        if not lines:
            raise ValueError("it is empty")
        return np.loadtxt(lines, kind, delimiter=",", ndmin=2)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: {error}") from None


def _check_planetoid(
    folder: Path, inputs: tuple, labels: tuple, neighbours: Any, ids: np.ndarray
) -> None:
    """Complains about files that do not belong together."""
    matrices = [getattr(part, "ndim", 0) == 2 for part in (*inputs, *labels)]
    if not all(matrices) or not all(map(scipy.sparse.issparse, inputs)):
        raise InputError(f"{folder}: x, tx and allx must be sparse matrices, y, ty and ally arrays")
    lengths = [(part.shape[0], of.shape[0]) for part, of in zip(inputs, labels, strict=True)]
    wide = {part.shape[1] for part in inputs}, {of.shape[1] for of in labels}
    if any(a != b for a, b in lengths) or any(len(found) > 1 for found in wide):
        raise InputError(f"{folder}: features and labels are of different sizes: {lengths}")
    known, most = lengths[2][0], lengths[2][0] + GAPS * lengths[1][0]
    if len(np.unique(ids)) != lengths[1][0] or not all(known <= node < most for node in ids):
        raise InputError(
            f"{folder}: test.index must name {lengths[1][0]} nodes from {known} on, each once"
        )
    try:
        sound = all(isinstance(to, int) for of in neighbours.values() for to in of)
        sound = sound and all(isinstance(node, int) for node in neighbours)
    except (AttributeError, TypeError):
        sound = False
    if not sound:
        raise InputError(f"{folder}: graph must be lists of nodes by node")


def _of_one_hot(rows: Any) -> np.ndarray:
    """Labels of rows with a one each; -1 for a row of zeros."""
    return np.where(np.any(rows, axis=1), np.argmax(rows, axis=1), -1)
