"""A round at the shape of Amazon-670K, 135,909 features, 2,560 neurons, 670,091 labels, 8 workers.

    python -m benchmarks.xmc_shape

The net has 2.06 thousand million parameters, 8.25 GB. Eight devices of this machine hold an eighth
of it each. Examples are random, with as many features and labels as Amazon's have. What data
parallel training would hold on each worker follows by arithmetic: parameters and gradient.
"""

import argparse
import sys
from typing import Any

import jax
import numpy as np
import optax

import ist_jax
from benchmarks import shape
from ist_jax import axes, method, partition
from ist_jax.data import sparse
from ist_jax.models import normalise
from ist_jax.models.xmc import XMC
from ist_jax.sharded import placement
from ist_jax.tasks import many_labels

FEATURES, LABELS = 135_909, 670_091
A_ROW, A_LABEL = 76, 5  # features and labels of an example


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.xmc_shape", description=__doc__)
    parser.add_argument("--hidden", type=int, default=2560)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--local_steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sampled", type=int, default=0, help="labels to train besides; 0: all")
    parser.add_argument("--block", type=int, default=many_labels.BLOCK)
    parser.add_argument("--limit_gb", type=float, default=4.0, help="10^9 bytes a worker may hold")
    options = parser.parse_args()
    size = options.workers
    jax.config.update("jax_num_cpu_devices", size)
    widths = {"features": options.features, "hidden0": options.hidden, "labels": options.labels}
    groups = ("features", "labels") if options.sampled else ("features",)
    model = XMC(widths, external=groups)
    draw = np.random.default_rng(0)
    lead = (size, options.local_steps, options.batch)
    ids = draw.integers(0, options.features, (*lead, A_ROW)).astype(np.int32)
    values = np.full(ids.shape, A_ROW**-0.5, np.float32)
    y = draw.integers(0, options.labels, (*lead, A_LABEL)).astype(np.int32)
    found = {"features": [sparse.columns(own, options.features) for own in ids]}
    held: dict[str, np.ndarray] = {}
    places: dict[str, np.ndarray] = {}
    if options.sampled:
        others = draw.integers(0, options.labels, (size, options.sampled)).astype(np.int32)
        own = [sparse.columns(labels, options.labels) for labels in y]
        pairs = zip(own, others, strict=True)
        found["labels"] = [np.append(s, np.setdiff1d(more, s)) for s, more in pairs]
        sure = [np.full(lead[1:], len(labels), np.int32) for labels in own]
        drawn = [
            np.full(lead[1:], len(both) - len(labels), np.int32)
            for both, labels in zip(found["labels"], own, strict=True)
        ]
    slots = {group: max(map(len, columns)) for group, columns in found.items()}
    for group, numbers in (("features", ids), ("labels", y)):
        places[group] = numbers
        if group in found:
            held[group], places[group] = sparse.renumber(
                numbers, found[group], widths[group], slots[group]
            )
    batches: Any = {"x": {"ids": places["features"], "values": values}, "y": places["labels"]}
    if options.sampled:
        batches |= {"y": places["labels"], "sure": np.stack(sure), "drawn": np.stack(drawn)}
    one = {name: part[0, 0, :1] for name, part in batches["x"].items()}
    net = lambda key: axes.of(model.init(key, one, train=True))[0]
    shapes, names = axes.of(
        jax.eval_shape(lambda key: model.init(key, one, train=True), jax.random.key(0))
    )
    cut = partition.sub_widths(partition.permutation, {"hidden0": options.hidden}, size) | slots
    mesh = placement.mesh(size)
    trainer = ist_jax.build(
        many_labels.loss(
            normalise.subnet(model, cut), options.labels, "softmax", 1.0, options.block
        ),
        optax.sgd(0.1),
        shapes,
        names,
        method=method.ist(),
        workers=size,
        mesh=mesh,
        external=slots,
    )
    real = {group: np.array([len(c) for c in columns]) for group, columns in found.items()}
    placed = placement.place(batches, mesh, placement.SPLIT)
    told = placement.place(held, mesh, placement.SPLIT)
    shape.tell(trainer, net, shapes, names, size, options.limit_gb, placed, told, real)
    return 0


if __name__ == "__main__":
    sys.exit(main())
