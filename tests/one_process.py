"""One of several processes that train one small net; prints what all of them must agree on.

python tests/one_process.py HOST:PORT COUNT NUMBER DEVICES
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import mlp_tree, regression_batches

import ist_jax
from ist_jax import method, partition
from ist_jax.sharded import placement

ROUNDS, DIMS = 3, (64, 2048, 1024, 35)
METHODS = (method.ist(partition.balanced), method.local_sgd())


def loss(params, batch, key):
    """With means over the batch, whose bits depend on the number of threads."""
    x = batch["x"]
    for number in range(len(params)):
        x = x @ params[f"w{number}"]
        if number < len(params) - 1:
            x = jax.nn.relu(x)
            x = (x - x.mean(axis=0)) * jax.lax.rsqrt(x.var(axis=0) + 1e-5)
    return jnp.mean(jnp.square(x - batch["y"]))


def main(address, count, number, devices):
    jax.config.update("jax_num_cpu_devices", devices // count)
    if count > 1:
        jax.distributed.initialize(address, count, number, initialization_timeout=60)
    assert len(jax.devices()) == devices
    mesh = placement.mesh(4, devices)
    own = placement.process_workers(mesh, 4)
    assert len(own) == 4 // count, "a process has batches of its own workers only"
    params, names = mlp_tree(DIMS)
    for how in METHODS:
        trainer = ist_jax.build(
            loss,
            optax.sgd(0.1, momentum=0.9),
            params,
            names,
            method=how,
            workers=4,
            optimizer_state="keep",
            mesh=mesh,
            exact=True,
        )
        state = trainer.init(params, jax.random.key(0))
        for leaf in jax.tree.leaves(state.params):
            split = leaf.sharding.spec != placement.EVERYWHERE
            part = sum(shard.data.size for shard in leaf.addressable_shards)
            assert not split or part * count == leaf.size, "and its own part of the net"
        for batches in regression_batches(ROUNDS, 4, 3, 128, DIMS[0], DIMS[-1]):
            mine = jax.tree.map(lambda leaf: leaf[own], batches)
            state, report = trainer.round(state, placement.place_own(mine, mesh, 4))
        found = [np.asarray(leaf) for leaf in jax.tree.leaves(trainer.whole(state)[:2])]
        found.append(np.asarray(report.loss))
        digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in found)).hexdigest()
        print(how.name, digest, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
