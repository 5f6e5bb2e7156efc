"""What a graph's labels come to without a net: logistic regression on a node and what is around.

    python -m benchmarks.graph_baselines --data=wordnet --json=baselines.json

Features are a node's own, and the means over its neighbours, and over theirs: none, one and two
hops. Trained on training nodes; the penalty is the best of three on validation nodes.
"""

import argparse
import pathlib
import sys

import numpy as np
import scipy.sparse

from ist_jax import data
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.data.clusters import Nodes
from ist_jax.data.graph import TEST, TRAIN, VALID, Graph
from ist_jax.tasks import nodes

PENALTIES = (0.1, 1.0, 10.0)  # inverse, as scikit-learn's C


def around(graph: Graph, hops: int) -> np.ndarray:
    """Own features, then means over neighbours, again and again: float32 [n, (1 + hops) F]."""
    n = len(graph.features)
    ones = np.ones(len(graph.senders), np.float32)
    links = scipy.sparse.csr_matrix((ones, (graph.receivers, graph.senders)), (n, n))
    share = 1 / np.maximum(np.asarray(links.sum(axis=1)), 1)
    found = [np.asarray(graph.features)]
    for _ in range(hops):
        found.append((share * (links @ found[-1])).astype(np.float32))
    return np.concatenate(found, axis=1)


def regression(graph: Graph, hops: int, penalties: tuple[float, ...] = PENALTIES) -> dict:
    """Accuracy and macro F1 on test nodes of the best penalty on validation nodes."""
    from sklearn.linear_model import LogisticRegression  # a slow import

    x = around(graph, hops)
    train, valid, test = (graph.nodes(part) for part in (TRAIN, VALID, TEST))
    x = x / np.maximum(x[train].std(axis=0), 1e-6)
    best: dict = {"valid": -1.0}
    for penalty in penalties:
        model = LogisticRegression(C=penalty, max_iter=300).fit(x[train], graph.labels[train])
        share = float(np.mean(model.predict(x[valid]) == graph.labels[valid]))
        if share > best["valid"]:
            said = model.predict(x[test])
            best = {
                "data": graph.name,
                "nodes": len(graph.features),
                "edges": len(graph.senders) // 2,
                "counted": dict(graph.counted),
                "hops": hops,
                "penalty": penalty,
                "valid": share,
                "test": float(np.mean(said == graph.labels[test])),
                "f1_macro": nodes.f1_macro(said, graph.labels[test]),
            }
    return best


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graph_baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="wordnet", help="or debian_graph, ogb, planetoid, reddit")
    parser.add_argument("--path", default="", help="as data.path")
    parser.add_argument("--cache", default="", help="as data.cache")
    parser.add_argument("--hops", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args()
    try:
        found = data.load(options.data, options.path, cache=options.cache)
        if not isinstance(found, Nodes):
            raise InputError(f"--data={options.data} is no graph")
        graph = found.graph
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = []
    for hops in options.hops:
        rows.append(regression(graph, hops))
        print(
            f"{hops} hops: {rows[-1]['test']:.2%}, macro F1 {rows[-1]['f1_macro']:.2%} "
            f"(penalty {rows[-1]['penalty']:g}, validation {rows[-1]['valid']:.2%})"
        )
        if options.json:
            options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
