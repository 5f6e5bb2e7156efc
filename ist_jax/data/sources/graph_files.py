"""Graphs as others publish them, in a folder: OGB's csv files, Planetoid's, Reddit's npz files."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import graph, prepared
from ist_jax.data.graph import NONE, TEST, TRAIN, VALID, Graph
from ist_jax.data.sources import archive, planetoid_files, table

VERSION = 1  # of what is made of the files
OGB = ("edge", "node-feat", "node-label")
REDDIT = ("reddit_data.npz", "reddit_graph.npz")
PLACES = {"row", "col", "indices", "indptr", "offsets"}  # of a SciPy matrix's entries
KINDS = {1: TRAIN, 2: VALID, 3: TEST}  # Reddit's node_types


def ogb(path: str = "", *, cache: str = "") -> Graph:
    """A node property set of the Open Graph Benchmark (Hu et al., 2020): ogbn-arxiv, ogbn-products.

    Args:
      path: its folder, with ``raw/edge.csv.gz`` and so on, and one split in ``split/*``.
    """
    folder = _folder(path, "ogbn_arxiv with raw/edge.csv.gz, raw/node-feat.csv.gz, split/...")
    splits = sorted(folder.glob("split/*/train.csv.gz"))
    if len(splits) != 1:
        found = ", ".join(file.parent.name for file in splits[:5]) or "none"
        raise InputError(f"{folder}/split must have one folder with train.csv.gz; found {found}")
    edges, features, labels = (folder / f"raw/{name}.csv.gz" for name in OGB)
    lists = [splits[0].with_name(f"{part}.csv.gz") for part in ("train", "valid", "test")]

    read = functools.partial(_read_ogb, folder.resolve().name, edges, features, labels, lists)
    return _prepared(folder, [edges, features, labels, *lists], cache, read)


def _read_ogb(name: str, edges: Path, features: Path, labels: Path, lists: list[Path]) -> Graph:
    x, y = table.read(features, np.float32), table.read(labels, np.int64, 1)[:, 0]
    if len(x) != len(y):
        raise InputError(f"{labels} has {len(y)} lines, {features} has {len(x)}")
    _check_range(labels, y[:, None], "label", -1, graph.MOST_CLASSES)
    ends = table.read(edges, np.int64, 2)
    _check_range(edges, ends, "node", 0, len(x))
    part = np.full(len(x), NONE, np.int8)
    for file, number in zip(lists, (TRAIN, VALID, TEST), strict=True):
        nodes = table.read(file, np.int64, 1)
        _check_range(file, nodes, "node", 0, len(x))
        nodes = nodes[:, 0]
        first = np.zeros(len(nodes), bool)
        first[np.unique(nodes, return_index=True)[1]] = True
        if (again := ~first | (part[nodes] != NONE)).any():
            row = again.argmax()
            where = "is in two parts" if first[row] else "stands there twice"
            raise InputError(f"{file}, line {row + 1}: node {nodes[row]} {where}")
        part[nodes] = number
    return graph.build(name, x, ends.T, y, part)


def planetoid(path: str = "", *, cache: str = "") -> Graph:
    """Cora, CiteSeer or PubMed as Planetoid (Yang et al., 2016) publishes them, with its split.

    Args:
      path: a folder with ``ind.NAME.x``, ``ind.NAME.allx`` and so on, of one set.
    """
    folder = _folder(path, "the files ind.cora.x, ind.cora.tx, ... of one set")
    names = {file.name.split(".")[1] for file in folder.glob("ind.*.*")}
    if len(names) != 1:
        raise InputError(f"{folder} must hold the files of one set; found {sorted(names)[:5]}")
    [name] = names
    files = planetoid_files.paths(folder, name)
    return _prepared(folder, [*files.values()], cache, lambda: planetoid_files.read(name, files))


def reddit(path: str = "", *, cache: str = "") -> Graph:
    """Reddit's posts (Hamilton et al., 2017), as two npz files.

    Args:
      path: a folder with ``reddit_data.npz`` (feature, label, node_types: 1 training, 2 validation,
        3 test) and ``reddit_graph.npz`` (a SciPy sparse matrix).
    """
    folder = _folder(path, " and ".join(REDDIT))
    data, edges = (folder / name for name in REDDIT)

    read = functools.partial(_read_reddit, data, edges)
    return _prepared(folder, [data, edges], cache, read)


def _read_reddit(data: Path, edges: Path) -> Graph:
    from scipy import sparse  # slow to import

    with archive.opened(data) as opened, np.load(opened) as found:
        features, labels, kinds = (found[k] for k in ("feature", "label", "node_types"))
    with archive.opened(edges) as opened:
        with np.load(opened) as parts:
            for name in PLACES & {*parts.files}:
                if parts[name].dtype.kind not in "iu":
                    raise ValueError(f"{name} must be whole numbers, not {parts[name].dtype}")
            if "indptr" in parts and [len(parts["data"])] != [*parts["indptr"][-1:]]:
                raise ValueError("entries that are in no row, or rows without theirs")
        opened.seek(0)
        matrix = sparse.load_npz(opened)
        if hasattr(matrix, "check_format"):  # which looks at indices that it will write to
            matrix.check_format(full_check=True)
        matrix = matrix.tocoo()
    if matrix.shape != (len(features), len(features)):
        raise InputError(f"{edges} is of {matrix.shape} nodes, {data} of {len(features)}")
    if (strange := ~np.isin(kinds, [*KINDS])).any():
        node = int(strange.argmax())
        raise InputError(
            f"{data}: node_types must be 1 (training), 2 (validation) or 3 (test); node {node} "
            f"has {kinds.ravel()[node]}"
        )
    part = np.select([kinds == kind for kind in KINDS], [*KINDS.values()], NONE)
    return graph.build("reddit", features, np.stack([matrix.row, matrix.col]), labels, part)


def _folder(path: str, what: str) -> Path:
    folder = expanded(path, "data.path")
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
    place, about = prepared.folder(cache, name, source, fill)
    return graph.mapped(about["name"], "real", place, about)


def _check_range(file: Path, rows: np.ndarray, what: str, least: int, end: int) -> None:
    """Complains about the first row with a number below ``least``, or not below ``end``."""
    wrong = (rows < least) | (rows >= end)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"{file}, line {row + 1}: {what} {rows[row, column]}, expected {least} to {end - 1}"
        )
