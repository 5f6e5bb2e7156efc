"""Batches of a graph: a few of its clusters together, with all edges between their nodes.

Clusters are METIS's (Karypis and Kumar, 1998), as in Cluster-GCN (Chiang et al., KDD 2019): parts
of nearly equal size with few edges between them. A batch has room for the largest clusters, so that
one program serves all. One cluster is the whole graph: a full batch.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ist_jax import messages
from ist_jax.data import prepared
from ist_jax.data.graph import TRAIN, Graph
from ist_jax.errors import InputError
from ist_jax.messages import K, Links


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
    place, _ = prepared.folder(cache, f"{graph.name}_{count}_clusters", source, fill)
    return np.asarray(np.load(place / "clusters.npy"))


class Clusters:
    """``clusters[chosen [..., q]] -> {"features": [..., m, F], "links": Links}``.

    Args:
      graph: whose nodes they are.
      of: the cluster of each node, ``int [n]``.
      together: q, how many make a batch.

    Attributes:
      room: m, nodes a batch has room for; those that are not there have no edges and features 0.
      rows: room for rows of further neighbours.
    """

    def __init__(self, graph: Graph, of: np.ndarray, together: int):
        if len(of) != len(graph.features) or (len(of) and of.min() < 0):
            raise InputError(
                f"{graph.name} has {len(graph.features)} nodes, the clusters {len(of)}: they are "
                "of another graph"
            )
        sizes = np.bincount(of)
        if not 1 <= together <= len(sizes):
            raise InputError(f"{together} of the {len(sizes)} clusters cannot make a batch")
        self._graph, self._sizes, self._together = graph, sizes, together
        self._order, self._ends = np.argsort(of, kind="stable"), np.cumsum(sizes)
        self._starts = np.searchsorted(graph.receivers, np.arange(len(of) + 1))
        self.room = int(np.sort(sizes)[-together:].sum())
        degree = np.minimum(np.diff(self._starts), self.room - 1)
        beyond = np.bincount(of, np.maximum(-(-degree // K) - 1, 0)).astype(int)
        self.rows = int(np.sort(beyond)[-together:].sum())

    def __len__(self) -> int:
        return len(self._sizes)

    def blank(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Zeros in place of the batches of that many choices."""
        lead, m, n_r = shape[:-1], self.room, self.room + self.rows
        whole = lambda *tail: np.zeros((*lead, *tail), np.int32)
        features = np.zeros((*lead, m, self._graph.features.shape[1]), np.float32)
        links = Links(whole(m, K), whole(self.rows, K), whole(self.rows), whole(n_r, K), whole(m))
        return {"features": features, "links": links}

    def __getitem__(self, chosen: np.ndarray) -> dict[str, Any]:
        found = self.blank(chosen.shape)
        for place in np.ndindex(chosen.shape[:-1]):
            nodes = self.nodes(chosen[place])
            found["features"][place][: len(nodes)] = self._graph.features[nodes]
            made = messages.links(*self._inside(nodes), self.room, self.rows)
            for whole, part in zip(found["links"], made, strict=True):
                whole[place] = part
        return found

    def nodes(self, chosen: np.ndarray) -> np.ndarray:
        """The nodes of some clusters, in the order of their batch; of one chosen twice, once."""
        begins = self._ends - self._sizes
        return np.concatenate([self._order[begins[c] : self._ends[c]] for c in np.unique(chosen)])

    def _inside(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The edges between nodes of a batch: senders and receivers, by their place in it."""
        begins, counts = self._starts[nodes], np.diff(self._starts)[nodes]
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
        return np.full((*shape[:-1], self._clusters.room), -1, np.int32)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        found = self.blank(chosen.shape)
        for place in np.ndindex(chosen.shape[:-1]):
            nodes = self._clusters.nodes(chosen[place])
            found[place][: len(nodes)] = self._known[nodes]
        return found
