"""How long a worker's local step takes, without data and without the other workers."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ist_jax import local
from ist_jax.local import Loss

TIMES = 5


def compiled(
    loss: Loss, optimizer: optax.GradientTransformation, subnet: Any, example: Any
) -> Callable[[], Any]:
    """A local step of a net and a batch of zeros, compiled; every call takes one."""

    def train(net, opt_state, batch, key):
        value, gradient = jax.value_and_grad(loss)(net, batch, key)
        again = lambda net: loss(net, batch, key)
        updates, opt_state = local.update(optimizer, gradient, opt_state, net, value, again)
        return optax.apply_updates(net, updates), opt_state

    step = jax.jit(train, donate_argnums=(0, 1))
    net, batch = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (subnet, example))
    state, key = optimizer.init(net), jax.random.key(0)

    def run() -> None:
        nonlocal net, state
        net, state = jax.block_until_ready(step(net, state, batch, key))

    run()
    return run


def seconds(step: Callable[[], Any]) -> float:
    """Of a step, the fastest of five."""
    found = []
    for _ in range(TIMES):
        started = time.perf_counter()
        step()
        found.append(time.perf_counter() - started)
    return min(found)
