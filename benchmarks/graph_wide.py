"""A round of an ultra-wide GraphSAGE: two hidden layers of 32,768 features, 8 workers.

    python -m benchmarks.graph_wide

The net has 2.17 thousand million parameters, 8.7 GB; eight devices of this machine hold an eighth
of it each. Batches are of a random graph, with as many features and classes as WordNet's; the net
begins with numbers that are cheap to make. What training the whole net would hold follows by
arithmetic: parameters and gradient.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ist_jax
from benchmarks import shape
from ist_jax import axes, method, partition
from ist_jax.models import message_passing, normalise
from ist_jax.models.gcn import GraphNet
from ist_jax.sharded import placement
from ist_jax.tasks import nodes

FEATURES, CLASSES = 256, 45


def _begun(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Numbers that look random and need no room to be made; of a draw, thrice the net's at once."""
    steps = [jax.lax.broadcasted_iota(jnp.float32, leaf.shape, n) for n in range(len(leaf.shape))]
    wave = jnp.sin(sum(step * prime for step, prime in zip(steps, (12.9898, 78.233), strict=False)))
    return wave * np.sqrt(2 / max(leaf.shape[0], 1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_wide", description=__doc__)
    parser.add_argument("--hidden", type=int, default=32_768)
    parser.add_argument("--layers", type=int, default=2, help="hidden ones")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--local_steps", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=500, help="of a batch")
    parser.add_argument("--degree", type=int, default=6, help="of a node, about")
    parser.add_argument("--limit_gb", type=float, default=4.0, help="10^9 bytes a worker may hold")
    options = parser.parse_args()
    size, n = options.workers, options.nodes
    jax.config.update("jax_num_cpu_devices", size)
    widths = {f"hidden{layer}": options.hidden for layer in range(options.layers)}
    model = GraphNet(widths, CLASSES)
    draw = np.random.default_rng(0)
    ends = draw.integers(0, n, (2, n * options.degree // 2))
    ends = np.unique(np.sort(ends[:, ends[0] != ends[1]], axis=0), axis=1)
    senders, receivers = np.concatenate([ends, ends[::-1]], axis=1)
    links = message_passing.links(senders, receivers, n)
    lead = (size, options.local_steps)
    batches = {
        "x": {
            "nodes": draw.integers(0, n, (*lead, n)).astype(np.int32),
            "links": jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*lead, *leaf.shape)), links),
        },
        "y": draw.integers(0, CLASSES, (*lead, n)).astype(np.int32),
    }
    none = np.zeros(0, np.int32)
    one = {
        "features": np.zeros((1, FEATURES), np.float32),
        "links": message_passing.links(none, none, 1),
    }
    shapes, names = axes.of(
        jax.eval_shape(lambda key: model.init(key, one, train=True), jax.random.key(0))
    )
    net = lambda key: jax.tree.map(_begun, shapes)
    cut = partition.sub_widths(partition.permutation, widths, size)
    mesh = placement.mesh(size)
    trainer = ist_jax.build(
        nodes.loss(normalise.subnet(model, cut)),
        optax.sgd(0.01),
        shapes,
        names,
        method=method.ist(),
        workers=size,
        mesh=mesh,
    )
    placed = placement.place(batches, mesh, placement.SPLIT)
    common = placement.place(draw.normal(size=(n, FEATURES)).astype(np.float32), mesh)
    shape.tell(trainer, net, shapes, names, size, options.limit_gb, placed, common=common)
    return 0


if __name__ == "__main__":
    sys.exit(main())
