"""What a device holds: a D-th of the net at rest, and little more while it trains."""

import jax
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches
from test_distributed import free_port, run_all

import ist_jax
from ist_jax import method
from ist_jax.sharded import placement

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize(
    ("dims", "subnets", "shards"),
    [((1024, 2048, 16), 3.0, None), ((2048, 2048, 2048, 16), None, 1.2)],
    ids=["one hidden layer", "two"],
)
def test_a_device_holds_its_part_of_the_net_and_little_more(dims, subnets, shards, key):
    size = 4
    params, names = mlp_tree(dims)
    mesh = placement.mesh(size, size)
    trainer = ist_jax.build(
        mlp_loss, optax.sgd(0.1), params, names, method=method.ist(), workers=size, mesh=mesh
    )
    state = trainer.init(params, key)
    net = sum(leaf.nbytes for leaf in params.values())
    for device in mesh.devices.flat:
        held = [
            shard.data.nbytes
            for leaf in jax.tree.leaves(state.params)
            for shard in leaf.addressable_shards
            if shard.device == device
        ]
        assert sum(held) == net / size
    (batches,) = regression_batches(1, size, 2, 4, dims[0], dims[-1])
    placed = placement.place(batches, mesh, placement.SPLIT)
    memory = trainer.lower(state, placed).compile().memory_analysis()
    data = sum(leaf.nbytes for leaf in batches.values()) / size
    who = sum(ids.nbytes for ids in state.assignment.values())
    few = 64  # the round's number and the key
    assert net / size + data + who <= memory.argument_size_in_bytes <= net / size + data + who + few
    beside = memory.output_size_in_bytes - memory.alias_size_in_bytes
    assert beside <= who + few, "the new part of the net lies where the old one did"
    cut = [dims[0], *(n // size for n in dims[1:-1]), dims[-1]]
    subnet = 4 * sum(np.array(cut[:-1]) * np.array(cut[1:]))
    if subnets:
        assert memory.temp_size_in_bytes <= subnets * subnet
    if shards:
        assert memory.temp_size_in_bytes <= shards * net / size


@pytest.mark.slow
def test_processes_train_a_net_that_none_of_them_could_hold():
    """2.42 GB of parameters; each of 4 processes has an address space of 2.35 GB in all."""
    address = f"127.0.0.1:{free_port()}"
    commands = [["tests/big_net.py", address, "4", str(n), "2350000000"] for n in range(4)]
    results = run_all(commands, timeout=240, anew=True, NPROC="1", MALLOC_ARENA_MAX="1")
    for code, text in results:
        assert code == 0, text
        assert "net 2422210560 limit 2350000000" in text
