"""J local steps of one subnet: nothing here talks to another worker.

The optimiser is any optax transformation; clipping, weight decay and schedules are its own. What it
remembers from one round to the next is a policy, a pair of pure functions:

* ``reset``: moments start afresh in every round, as in the papers. Schedules go on counting.
* ``keep``: moments belong to their neurons and travel with them, by the same gather and scatter.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Key

from ist_jax import axes
from ist_jax.errors import InputError
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
    """Takes one optimiser step for each batch.

    Args:
      gradient: ``(net, batch, key) -> (loss, gradient)``, most often ``jax.value_and_grad(loss)``.
      optimizer: an optax gradient transformation.
      net: the worker's parameters.
      opt_state: the optimiser's state for them.
      batches: a tree of arrays ``[J, ...]``, one batch a step.
      key: the worker's key for this round; step j gets ``fold(key, j)``.

    Returns:
      The trained net, the optimiser's state, and the J losses, each before its step.
    """
    steps = jax.tree.leaves(batches)[0].shape[0]

    def step(carry, step_and_batch):
        net, opt_state = carry
        number, batch = step_and_batch
        loss, grads = gradient(net, batch, fold(key, number))
        updates, opt_state = optimizer.update(grads, opt_state, net)
        return (optax.apply_updates(net, updates), opt_state), loss

    numbered = (jax.numpy.arange(steps), batches)
    (net, opt_state), losses = lax.scan(step, (net, opt_state), numbered)
    return net, opt_state, losses


class Memory(NamedTuple):
    """What of the optimiser's state outlives a round.

    ``rest(opt_state)`` is what is stored between rounds; ``resume(net, rested)`` is the state with
    which a worker begins. Both are pure; ``names(params, names)`` gives the axes of what rests.
    """

    rest: Callable[[PyTree], PyTree]
    resume: Callable[[PyTree, PyTree], PyTree]
    names: Callable[[PyTree, PyTree], PyTree]


def memory(optimizer: optax.GradientTransformation, policy: str) -> Memory:
    """The policy ``reset`` or ``keep`` for an optimiser.

    Raises:
      InputError: an unknown policy; from ``names``, an optimiser whose state has parameter-like
        parts of another shape than the parameters (factored moments), which cannot travel with
        neurons.
    """

    def names(params, param_names):
        shapes = jax.eval_shape(optimizer.init, params)
        flat = [PartitionSpec(*n) for _, _, n in axes.walk(params, param_names)]
        boxed = jax.tree.unflatten(jax.tree.structure(params), flat)
        of_state = optax.tree_utils.tree_map_params(
            optimizer,
            lambda _, leaf_names: leaf_names,
            shapes,
            boxed,
            transform_non_params=lambda leaf: PartitionSpec(*(None,) * leaf.ndim),
        )
        of_state = jax.tree.map(tuple, of_state, is_leaf=_is_spec)
        try:
            axes.widths((params, shapes), (param_names, of_state))
        except InputError as error:
            raise InputError(
                f"this optimiser's state cannot travel with the neurons ({error}). Use "
                "optimiser_state='reset', or an optimiser with moments shaped like the parameters."
            ) from None
        return of_state

    if policy == "keep":
        return Memory(rest=lambda state: state, resume=lambda net, rested: rested, names=names)
    if policy == "reset":
        return Memory(
            rest=_only_schedules,
            resume=lambda net, rested: _with_schedules(optimizer.init(net), rested),
            names=lambda params, _: jax.tree.map(
                lambda leaf: (None,) * leaf.ndim,
                _only_schedules(jax.eval_shape(optimizer.init, params)),
            ),
        )
    raise InputError(f"optimiser_state must be 'reset' or 'keep', found {policy!r}")


def _is_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState | optax.InjectStatefulHyperparamsState)


def _only_schedules(state: PyTree) -> PyTree:
    """What counts steps for a schedule; None in place of every other array."""

    def one(node):
        if isinstance(node, optax.InjectStatefulHyperparamsState):
            return node._replace(inner_state=_only_schedules(node.inner_state))
        return node if _is_schedule(node) else None

    return jax.tree.map(one, state, is_leaf=_is_schedule)


def _with_schedules(fresh: PyTree, rested: PyTree) -> PyTree:
    """A fresh state whose schedules are those that rested."""

    def one(new, old):
        if isinstance(new, optax.InjectStatefulHyperparamsState):
            return old._replace(inner_state=_with_schedules(new.inner_state, old.inner_state))
        return new if old is None else old

    return jax.tree.map(one, fresh, rested, is_leaf=_is_schedule)


def _is_spec(node: Any) -> bool:
    return isinstance(node, PartitionSpec)
