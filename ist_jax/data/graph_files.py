"""Graphs as others publish them, in a folder: OGB's csv files, Planetoid's, Reddit's npz files."""

import codecs
import collections
import gzip
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from ist_jax.data import graph, prepared
from ist_jax.data.graph import NONE, TEST, TRAIN, VALID, Graph
from ist_jax.errors import InputError

VERSION = 1  # of what is made of the files
OGB = ("edge", "node-feat", "node-label")
PLANETOID = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
REDDIT = ("reddit_data.npz", "reddit_graph.npz")


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
            part[nodes.ravel()] = number
        return graph.build(folder.name, features, ends.T, labels.ravel(), part)

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
        x, tx, allx, y, ty, ally, neighbours = (_unpickled(file) for file in files[:-1])
        ids = _numbers(files[-1], np.int64).ravel()
        known = allx.shape[0]
        n = max(len(neighbours), int(ids.max(initial=known - 1)) + 1)
        features = np.zeros((n, allx.shape[1]), np.float32)
        labels, part = np.full(n, -1, np.int64), np.full(n, NONE, np.int8)
        features[:known], features[ids] = allx.toarray(), tx.toarray()
        labels[:known], labels[ids] = ally.argmax(1), ty.argmax(1)
        part[: x.shape[0]] = TRAIN
        part[x.shape[0] : min(x.shape[0] + 500, known)] = VALID
        part[ids] = TEST
        ends = [(node, other) for node, of in neighbours.items() for other in of]
        return graph.build(name, features, np.array(ends).reshape(-1, 2).T, labels, part,
                           y.shape[1])  # fmt: skip

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
            with np.load(files[0]) as found:
                features, labels, kinds = (found[k] for k in ("feature", "label", "node_types"))
            matrix = scipy.sparse.load_npz(files[1]).tocoo()
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
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


class _Arrays(pickle.Unpickler):
    """Unpickles arrays, sparse matrices and dictionaries of lists, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy", "_reconstruct"): _reconstruct,
            ("scipy", "csr_matrix"): scipy.sparse.csr_matrix,
            ("collections", "defaultdict"): collections.defaultdict,
            ("__builtin__", "list"): list,
            ("builtins", "list"): list,
            ("_codecs", "encode"): codecs.encode,
        }
        try:
            return known[module.split(".")[0], name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no array") from None


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return np.ndarray.__new__(kind, shape, code)


def _unpickled(file: Path) -> Any:
    try:
        with file.open("rb") as opened:
            return _Arrays(opened, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"{file} is no file of Planetoid: {error}") from None
