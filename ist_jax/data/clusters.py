"""Batches of a graph: a few of its clusters together, with all edges between their nodes.

Clusters are METIS's (Karypis and Kumar, 1998), as in Cluster-GCN (Chiang et al., KDD 2019): parts
of nearly equal size with few edges between them. A batch has room for the largest clusters, so that
one program serves all. One cluster is the whole graph: a full batch.
"""

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import prepared
from ist_jax.data.graph import TEST, TRAIN, Graph, size_in_words
from ist_jax.models import message_passing
from ist_jax.models.message_passing import K, Links


def metis(graph: Graph, count: int, cache: str = "") -> np.ndarray:
    """The cluster of each node, ``int32 [n]``; found once, and kept for this graph.

    Raises:
      InputError: fewer than one cluster or more than nodes, or ``pymetis`` is not installed.
    """
    n = len(graph.features)
    if not 1 <= count <= n:
        raise InputError(f"{graph.name}: {count} clusters of {n} nodes")
    if count == 1:
        return np.zeros(n, np.int32)
    try:
        import pymetis
    except ImportError:
        raise InputError("clusters need METIS: pip install 'ist_jax[graphs]'") from None

    def fill(folder: Path) -> dict[str, Any]:
        starts = np.searchsorted(graph.receivers, np.arange(n + 1))
        rows = pymetis.CSRAdjacency(starts, np.asarray(graph.senders))
        cut, part = pymetis.part_graph(count, adjacency=rows)
        np.save(folder / "clusters.npy", np.asarray(part, np.int32))
        return {"edges_cut": int(cut)}

    source = f"{graph.sha256} {count} pymetis {pymetis.version}"
    name = f"{graph.name}_{count}_clusters"
    place, _ = prepared.folder(cache, name, source, fill)
    return np.asarray(np.load(place / "clusters.npy"))


class Clusters:
    """``clusters[chosen [..., q]] -> {"nodes": int32 [..., m], "links": Links}``.

    A batch has room for m nodes, those of the q largest clusters; a node that is not there has no
    edges, and a number beyond all (n).

    Args:
      graph: whose nodes they are.
      of: the cluster of each node, ``int [n]``.
    """

    def __init__(self, graph: Graph, of: np.ndarray):
        if len(of) != len(graph.features) or (len(of) and of.min() < 0):
            raise InputError(
                f"{graph.name} has {len(graph.features)} nodes, the clusters {len(of)}: they are "
                "of another graph"
            )
        if of.max(initial=0) >= len(of):
            raise InputError(f"{graph.name}: cluster {of.max()} of {len(of)} nodes")
        self._graph, self._of, self._sizes = graph, of, np.bincount(of)
        self._order, self._ends = np.argsort(of, kind="stable"), np.cumsum(self._sizes)
        self._starts = np.searchsorted(graph.receivers, np.arange(len(of) + 1))
        self._degrees = np.diff(self._starts)
        self._rooms: dict[int, tuple[int, int]] = {}
        self._last: tuple[tuple[int, bytes], Links] | None = None  # of a batch, if it comes again

    def __len__(self) -> int:
        return len(self._sizes)

    def room(self, together: int) -> tuple[int, int]:
        """Nodes of a batch of so many clusters, and rows of further neighbours, at the most."""
        if not 1 <= together <= len(self):
            raise InputError(
                f"{self._graph.name}: {together} of {len(self)} clusters cannot make a batch"
            )
        if together not in self._rooms:
            most = int(np.sort(self._sizes)[-together:].sum())
            degrees = np.minimum(self._degrees, most - 1)
            beyond = np.bincount(self._of, message_passing.beyond(degrees)).astype(int)
            self._rooms[together] = most, int(np.sort(beyond)[-together:].sum())
        return self._rooms[together]

    def blank(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """The batches of that many choices, with nobody in them."""
        m, rows = self.room(shape[-1])
        whole = lambda *tail: np.zeros((*shape[:-1], *tail), np.int32)
        links = Links(whole(m, K), whole(rows, K), whole(rows), whole(m + rows, K), whole(m))
        return {"nodes": whole(m) + len(self._of), "links": links}

    def __getitem__(self, chosen: np.ndarray) -> dict[str, Any]:
        found = self.blank(chosen.shape)
        for place in np.ndindex(chosen.shape[:-1]):
            nodes = self.nodes(chosen[place])
            found["nodes"][place][: len(nodes)] = nodes
            made = self._links(nodes, chosen.shape[-1])
            for whole, part in zip(found["links"], made, strict=True):
                whole[place] = part
        return found

    def nodes(self, chosen: np.ndarray) -> np.ndarray:
        """The nodes of some clusters, in the order of their batch; of one chosen twice, once."""
        begins = self._ends - self._sizes
        return np.concatenate([self._order[begins[c] : self._ends[c]] for c in np.unique(chosen)])

    def _links(self, nodes: np.ndarray, together: int) -> Links:
        key = (together, nodes.tobytes())
        if self._last is None or self._last[0] != key:
            self._last = key, message_passing.links(*self._inside(nodes), *self.room(together))
        return self._last[1]

    def _inside(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The edges between nodes of a batch: senders and receivers, by their place in it."""
        begins, counts = self._starts[nodes], self._degrees[nodes]
        edges = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        place = np.full(len(self._graph.features), -1)
        place[nodes] = np.arange(len(nodes))
        senders = place[self._graph.senders[edges]]
        receivers = np.repeat(np.arange(len(nodes)), counts)
        return senders[senders >= 0], receivers[senders >= 0]


class Labels:
    """``labels[chosen [..., q]] -> int32 [..., m]``: -1 for a node that is not to be learnt."""

    def __init__(self, clusters: Clusters, graph: Graph):
        self._clusters = clusters
        self._known = np.where(graph.part == TRAIN, graph.labels, -1)

    def __len__(self) -> int:
        return len(self._clusters)

    def blank(self, shape: tuple[int, ...]) -> np.ndarray:
        """Nothing to be learnt."""
        return np.full((*shape[:-1], self._clusters.room(shape[-1])[0]), -1, np.int32)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        found = self.blank(chosen.shape)
        for place in np.ndindex(chosen.shape[:-1]):
            nodes = self._clusters.nodes(chosen[place])
            found[place][: len(nodes)] = self._known[nodes]
        return found


class Nodes(NamedTuple):
    """A graph as what is trained on and measured: a data set whose examples are clusters.

    ``sha256`` is of the graph and of which nodes are in a cluster with which.
    """

    name: str
    graph: Graph
    train_x: Clusters
    train_y: Labels
    test_x: np.ndarray  # nodes
    classes: int
    origin: str
    sha256: str
    skipped: int = 0

    @property
    def examples(self) -> int:
        """Nodes that are learnt."""
        return len(self.graph.nodes(TRAIN))

    def checked(self) -> "Nodes":
        """Itself: a graph is checked where it is built."""
        return self


def clustered(load: Callable[..., Graph]) -> Callable[..., Nodes]:
    """A source of graphs as one of data sets; an option says how many clusters it is cut into."""
    return functools.partial(_load_clustered, load)


def _load_clustered(
    load: Callable[..., Graph], path: str = "", *, cache: str = "", clusters: Any = 1
) -> Nodes:
    if not isinstance(clusters, int):
        raise InputError(f"data.options.clusters must be a whole number, found {clusters!r}")
    graph = load(path, cache=cache)
    size = len(graph.features), len(graph.receivers) // 2
    print(f"{graph.name}: {size_in_words(*size, graph.counted)}", file=sys.stderr)
    cut = metis(graph, clusters, cache)
    examples = Clusters(graph, cut)
    whole = hashlib.sha256(graph.sha256.encode() + cut.tobytes()).hexdigest()
    return Nodes(
        graph.name,
        graph,
        examples,
        Labels(examples, graph),
        graph.nodes(TEST),
        graph.classes,
        graph.origin,
        graph.sha256 if clusters == 1 else whole,
    )
