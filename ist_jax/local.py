"""J local steps of one subnet: nothing here talks to another worker.

The optimizer is any optax transformation; clipping, weight decay and schedules are its own. What it
remembers from one round to the next is a policy (``carry``).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jaxtyping import Array, Key

from ist_jax.keys import fold

PyTree = Any
Loss = Callable[[PyTree, PyTree, Key[Array, ""]], Array]
Gradient = Callable[[PyTree, PyTree, Key[Array, ""]], tuple[Array, PyTree]]


class Seen(NamedTuple):
    """What a loss takes as its batch where workers see more than that.

    Attributes:
      batch: the worker's own.
      common: what all workers see in every step, such as the features of a graph.
      who: the neurons of its subnet by group, ``int32[m]``. A group that is absent is not cut.
      held: which of those slots hold a neuron, ``bool[m]``; the others are empty.
    """

    batch: PyTree
    common: PyTree
    who: Mapping[str, Any]
    held: Mapping[str, Any]


def train(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    net: PyTree,
    opt_state: PyTree,
    batches: PyTree,
    key: Key[Array, ""],
) -> tuple[PyTree, PyTree, Array]:
    """Takes one optimizer step for each batch.

    Optimizers that look at the loss (plateaus, Polyak steps, line searches) are told it: ``value``,
    ``grad`` and ``value_fn`` are what optax calls them.

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
    update = optax.with_extra_args_support(optimizer).update

    def step(carry, step_and_batch):
        net, opt_state = carry
        number, batch = step_and_batch
        of_batch = lambda net: gradient(net, batch, fold(key, number))
        loss, grads = of_batch(net)
        more = {"value": loss, "grad": grads, "value_fn": lambda net: of_batch(net)[0]}
        updates, opt_state = update(grads, opt_state, net, **more)
        return (optax.apply_updates(net, updates), opt_state), loss

    numbered = (jax.numpy.arange(steps), batches)
    (net, opt_state), losses = lax.scan(step, (net, opt_state), numbered)
    return net, opt_state, losses
