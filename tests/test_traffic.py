"""Closed forms against the paper's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_tree

import ist_jax
from ist_jax import axes, decompose, method, named, partition
from ist_jax.cost import traffic
from ist_jax.optimizer_state import carried, carry

DIMS = (784, 1024, 512, 10)


def moved(dims, how, workers, optimizer=None, policy="reset"):
    params, names = mlp_tree(dims)
    optimizer = optimizer or optax.sgd(0.1)
    memory = carry.Memory(optimizer, how.memory or policy)
    net = axes.describe(params, names)
    everything = carried.describe(net, optimizer, memory)
    return traffic.per_round(net, everything, how, workers)(traffic.neurons_held(net, how, workers))


@pytest.mark.parametrize("workers", [2, 4, 8])
@pytest.mark.parametrize("steps", [1, 8])
def test_inflow_of_all_sites_is_the_papers_formula(workers, steps):
    """Section 2.3, in numbers of floats per gradient step, with the last sum from i = 2."""
    n0, n1, n2, n3 = DIMS
    received, _ = moved(DIMS, method.ist(), workers).of_steps(steps)
    per_step = received.sum() / 4 / steps
    assert per_step == (n0 * n1 + n2 * n3) / steps + n1 * n2 / (workers * steps)
    received, _ = moved(DIMS, method.data_parallel(), workers).of_steps(steps)
    assert received.sum() / 4 / steps == workers * (n0 * n1 + n1 * n2 + n2 * n3)


@pytest.mark.parametrize("policy", ["reset", "keep"])
def test_bytes_are_those_of_the_gathered_arrays(key, policy):
    """As a round reports them: uneven shares, numbers of two sizes, moments that travel."""
    params, names = mlp_tree((6, 13, 9, 3))
    params |= {"w1": params["w1"].astype(jnp.bfloat16), "shared": jnp.ones(5)}
    names |= {"shared": (None,)}
    loss = lambda net, batch, key: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(net))
    optimizer = optax.sgd(0.1, momentum=0.9)
    trainer = ist_jax.build(
        loss, optimizer, params, names, method=method.ist(), workers=4, optimizer_state=policy
    )
    net = axes.describe(params, names)
    widths, counts = net.widths, traffic.neurons_held(net, method.ist(), 4)
    state, present = trainer.init(params, key), np.arange(4) != 2
    for _ in range(2):
        who = {g: np.asarray(ids) for g, ids in state.assignment.items()}
        state, report = trainer.round(state, {"x": np.zeros((4, 1, 1))}, present)
        for worker in range(4):
            mine = {g: ids[worker, ids[worker] < widths[g]][None] for g, ids in who.items()}
            one = decompose.gather_one(params, names, mine, 0)
            moved = (one, optimizer.init(one)) if policy == "keep" else one
            expected = present[worker] * sum(leaf.nbytes for leaf in jax.tree.leaves(moved))
            assert report.bytes_received[worker] == report.bytes_sent[worker] == expected
            size = sum(leaf.size for leaf in jax.tree.leaves(one))
            assert traffic.entries(net, counts)[worker] == size


def test_bytes_of_every_round_are_those_held(key):
    """Also where the workers do not divide the widths: the counts are the same in every draw."""
    params, names = mlp_tree((6, 13, 11, 3))
    for draw in (partition.permutation, partition.balanced):
        told = moved((6, 13, 11, 3), method.ist(draw), 3).a_round
        for number in range(5):
            who = draw(key, axes.widths(params, names), 3, number)
            nets = decompose.gather(jax.tree.map(jnp.ones_like, params), names, who)
            held = sum(np.asarray(leaf).reshape(3, -1).sum(axis=1) for leaf in nets.values())
            assert (told == 4 * held).all()


def test_unequal_workers_and_one_worker():
    shares = named.find("ist", shares=(1, 3))
    assert moved((6, 12, 3), shares, 2).a_round.tolist() == [4 * (18 + 9), 4 * (54 + 27)]
    for how in (method.ist(), method.local_sgd(), method.data_parallel(), method.single()):
        assert not any(n.any() for n in moved(DIMS, how, 1)), "one worker talks to nobody"


def test_an_ensemble_moves_once():
    parts = moved((6, 12, 3), method.ensemble(), 4)
    assert not parts.a_round.any()
    assert not parts.a_step.any()
    assert parts.once.tolist() == [4 * (6 * 3 + 3 * 3)] * 4
