"""What extreme classification comes to without training: nearest neighbours, and popularity.

    python -m benchmarks.xmc_baselines --data=debian_packages --path=FOLDER --json=baselines.json

Neighbours are those with the largest cosine of their features; a label's score is the sum of the
cosines of the k that have it. Popularity gives every example the most frequent labels.
"""

import argparse
import pathlib
import sys

import numpy as np
import scipy.sparse

from ist_jax import data
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.data.sources.xmc import MultiLabel
from ist_jax.data.sparse import Rows
from ist_jax.tasks import many_labels

BEST = max(many_labels.KS)
SOME = 1000  # examples at once


def matrix(rows: Rows) -> scipy.sparse.csr_matrix:
    """Rows as SciPy has them; labels count 1."""
    found = rows[:]
    ids = found["ids"] if isinstance(found, dict) else found
    values = found["values"] if isinstance(found, dict) else np.ones(ids.shape, np.float32)
    row, place = np.nonzero(ids < rows.width)
    shape = (len(rows), rows.width)
    return scipy.sparse.csr_matrix((values[row, place], (row, ids[row, place])), shape)


def unit(rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Rows of norm 1; empty ones stay empty."""
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))[:, 0])
    return scipy.sparse.diags(1 / np.where(norms > 0, norms, 1)) @ rows


def neighbours(found: MultiLabel, count: int) -> np.ndarray:
    """The best labels by ``count`` neighbours, ``int[n, BEST]``; popular ones where too few."""
    train, test = (unit(matrix(rows)) for rows in (found.train_x, found.test_x))
    labels, count = matrix(found.train_y), min(count, len(found.train_x) - 1)
    popular = np.argsort(-found.train_y.counts(), kind="stable")[:BEST]
    out = np.empty((test.shape[0], BEST), np.int64)
    for start in range(0, test.shape[0], SOME):
        likeness = (test[start : start + SOME] @ train.T).toarray()
        near = np.argpartition(-likeness, count, axis=1)[:, :count]
        weight = np.take_along_axis(likeness, near, axis=1)
        ends = np.arange(0, weight.size + 1, count)
        chosen = scipy.sparse.csr_matrix((weight.ravel(), near.ravel(), ends), likeness.shape)
        scores = (chosen @ labels).tocsr()
        for row in range(scores.shape[0]):
            begin, end = scores.indptr[row : row + 2]
            order = np.argsort(-scores.data[begin:end], kind="stable")[:BEST]
            best = scores.indices[begin:end][order]
            others = popular[~np.isin(popular, best)]
            out[start + row] = np.concatenate([best, others])[:BEST]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.xmc_baselines", description=__doc__)
    parser.add_argument("--data", default="debian_packages", help="or xmc")
    parser.add_argument("--path", default="", help="as data.path")
    parser.add_argument("--cache", default="", help="as data.cache")
    parser.add_argument("--most_features", type=int, default=128, help="as data.options")
    parser.add_argument("--propensity", nargs=2, type=float, default=[0.55, 1.5], help="A and B")
    parser.add_argument("--neighbours", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args()
    try:
        found = data.load(
            options.data, options.path, cache=options.cache, most_features=options.most_features
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = found.train_y.counts()
    noticed = many_labels.propensities(counts, len(found.train_y), *options.propensity)
    right = found.test_y[:]
    popular = np.argsort(-found.train_y.counts(), kind="stable")[:BEST]
    answers = {"popularity": np.tile(popular, (len(right), 1))}
    for count in options.neighbours:
        answers[f"{count} nearest neighbours"] = neighbours(found, count)
    rows = [
        {"data": found.name, "method": name, **many_labels.measures(best, right, noticed)}
        for name, best in answers.items()
    ]
    for row in rows:
        print(row)
    if options.json:
        options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
