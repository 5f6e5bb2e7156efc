"""J local steps of one subnet, apart from any round."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import same_bits

from ist_jax import axes, local
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state import carry


def test_losses_are_those_before_each_step_and_all_steps_are_taken():
    """w -> w - 0.5 (w - x): by hand for one weight and three examples."""
    gradient = jax.value_and_grad(lambda net, x, key: 0.5 * (net["w"] - x) ** 2)
    optimizer, net = optax.sgd(0.5), {"w": jnp.float32(8)}
    batches = jnp.array([0.0, 2.0, 5.0])
    trained, _, losses = local.train(
        gradient, optimizer, net, optimizer.init(net), batches, jax.random.key(0)
    )
    assert losses.tolist() == [32, 2, 2]  # w = 8, 4, 3
    assert trained["w"] == 4


def test_every_step_has_its_own_key():
    gradient = lambda net, batch, key: (jax.random.uniform(key), net)
    optimizer, net = optax.sgd(0.0), {"w": jnp.ones(())}
    _, _, losses = local.train(
        gradient, optimizer, net, optimizer.init(net), jnp.zeros(50), jax.random.key(0)
    )
    assert len(np.unique(losses)) == 50


def test_what_rests_and_what_is_resumed():
    net = {"w": jnp.ones(3)}
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.trace(0.9),
        optax.scale_by_schedule(lambda count: 1.0 / (1 + count)),
    )
    used = optimizer.init(net)
    for _ in range(5):
        _, used = optimizer.update({"w": jnp.full(3, 0.1)}, used, net)
    keep, reset = carry.Memory(optimizer, "keep"), carry.Memory(optimizer, "reset")
    assert same_bits(keep.resume(net, keep.carry(used)), used)
    _, trace, schedule = reset.resume(net, reset.carry(used))
    assert (trace.trace["w"] == 0).all()
    assert schedule.count == 5
    assert len(jax.tree.leaves(reset.carry(used))) == 1, "only the count is stored"
    names = keep.names(axes.describe(net, {"w": ("h",)}))
    assert names[1].trace == {"w": ("h",)}
    assert names[2].count == ()


def test_an_unknown_policy():
    with pytest.raises(InputError, match="must be 'reset', 'keep' or 'own', found 'both'"):
        carry.Memory(optax.sgd(0.1), "both")
