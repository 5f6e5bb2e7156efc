"""One of several processes, allowed less memory than the net that they train takes.

python tests/big_net.py HOST:PORT COUNT NUMBER LIMIT_BYTES
"""

import resource
import sys

LIMIT = int(sys.argv[4])  # holds from here on, so the imports that count come after it
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from conftest import mlp_loss  # noqa: E402

import ist_jax  # noqa: E402
from ist_jax import method  # noqa: E402
from ist_jax.sharded import placement  # noqa: E402

WIDTH, ENDS = 24576, 32


def net(key):
    """Waves in place of random numbers, which would take three times a part's size to draw."""
    shapes = {"w0": (ENDS, WIDTH), "w1": (WIDTH, WIDTH), "w2": (WIDTH, ENDS)}
    row, column = (
        lambda shape, axis=axis: jax.lax.broadcasted_iota("float32", shape, axis) for axis in (0, 1)
    )
    return {
        name: jnp.sin(12.9898 * row(shape) + 78.233 * column(shape)) / shape[0] ** 0.5
        for name, shape in shapes.items()
    }


def main(address, count, number):
    jax.config.update("jax_num_cpu_devices", 1)
    jax.distributed.initialize(address, count, number)
    names = {"w0": (None, "h0"), "w1": ("h0", "h1"), "w2": ("h1", None)}
    shapes = jax.eval_shape(net, jax.random.key(0))
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert whole > LIMIT, "no process could hold the net"
    mesh = placement.mesh(count)
    trainer = ist_jax.build(
        mlp_loss, optax.sgd(0.1), shapes, names, method=method.ist(), workers=count, mesh=mesh
    )
    state = trainer.init(net, jax.random.key(0))
    draw = np.random.default_rng(0)
    x, y = (
        np.repeat(draw.normal(size=(1, 1, 16, ENDS)), 8, axis=1).astype(np.float32)
        for _ in range(2)
    )  # the same batch, again and again
    losses = []
    for _ in range(6):
        state, report = trainer.round(state, placement.place_own({"x": x, "y": y}, mesh, count))
        losses.append(float(jnp.mean(report.loss)))
    rest = trainer.sharded_params(state)
    loss = trainer.on_params(lambda net, x, y: mlp_loss(net, {"x": x, "y": y}, None))
    assert max(losses[-2:]) < losses[0], losses  # subnets differ from round to round
    print(
        f"net {whole} limit {LIMIT} losses {losses} whole net {float(loss(rest, x[0, 0], y[0, 0]))}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
