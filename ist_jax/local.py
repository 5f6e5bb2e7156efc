"""J local steps of one subnet: nothing here talks to another worker.

The optimizer is any optax transformation; clipping, weight decay and schedules are its own. What it
remembers from one round to the next is a policy (``carry``).
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import lax
from jaxtyping import Array, Key

from ist_jax.core.keys import fold

PyTree = Any
Loss = Callable[[PyTree, PyTree, Key[Array, ""]], Array]
Gradient = Callable[[PyTree, PyTree, Key[Array, ""]], tuple[Array, PyTree]]


COMMON, NEURONS, HELD = "common", "neurons", "held"  # what a batch may hold beside its own


def with_common(
    batch: Mapping[str, Any],
    common: PyTree,
    neurons: Mapping[str, Any],
    held: Mapping[str, Any],
) -> dict[str, Any]:
    """A batch of a worker, and beside it what only some losses look at.

    Args:
      batch: the worker's own.
      common: what all workers see in every step, such as the features of a graph.
      neurons: of its subnet by group, ``int32[m]``. A group that is absent is not cut.
      held: which of those slots hold a neuron, ``bool[m]``; the others are empty.

    Returns:
      The batch with the keys ``"common"``, ``"neurons"`` and ``"held"``.
    """
    return {**batch, COMMON: common, NEURONS: neurons, HELD: held}


def train(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    net: PyTree,
    opt_state: PyTree,
    batches: PyTree,
    key: Key[Array, ""],
) -> tuple[PyTree, PyTree, Array]:
    """Takes one optimizer step for each batch.

    An optimizer that looks at the loss (a plateau, a Polyak step, a line search) is told it.

    Args:
      gradient: ``(net, batch, key) -> (loss, gradient)``, most often ``jax.value_and_grad(loss)``.
      optimizer: an optax gradient transformation.
      net: the worker's parameters.
      opt_state: the optimizer's state for them.
      batches: a tree of arrays ``[J, ...]``, one batch a step.
      key: the worker's key for this round; step j gets ``fold(key, j)``.

    Returns:
      The trained net, the optimizer's state, and the J losses, each before its step.
    """
    steps = jax.tree.leaves(batches)[0].shape[0]

    def step(carry, step_and_batch):
        net, opt_state = carry
        number, batch = step_and_batch
        of_batch = lambda net: gradient(net, batch, fold(key, number))
        loss, grads = of_batch(net)
        value_fn = lambda net: of_batch(net)[0]
        updates, opt_state = update(optimizer, grads, opt_state, net, loss, value_fn)
        return (optax.apply_updates(net, updates), opt_state), loss

    numbered = (jax.numpy.arange(steps), batches)
    (net, opt_state), losses = lax.scan(step, (net, opt_state), numbered)
    return net, opt_state, losses


def update(
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    state: PyTree,
    net: PyTree,
    loss: Any,
    loss_of: Callable[[PyTree], Any],
) -> tuple[PyTree, PyTree]:
    """The optimizer's updates and state; it is told as much of the loss as it takes.

    Optax calls the loss ``value``, a function of the net that computes it ``value_fn``, and the
    gradient, for a line search in a chain, ``grad``.
    """
    more = {"value": loss, "value_fn": loss_of, "grad": gradient}
    taken = inspect.signature(optimizer.update).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        more = {name: value for name, value in more.items() if name in taken}
    return optimizer.update(gradient, state, net, **more)
