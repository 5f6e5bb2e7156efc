"""An outer optimizer: it takes the merged update of a round as a gradient.

The workers' optimizer makes subnets out of subnets. An outer one steps from the net as it was to a
net between that and the merged one, or beyond: the old net minus the merged net is its gradient.
With ``optax.sgd(1.0)`` the step ends at the merged net.

It steps where the merged value of an entry first exists beside the old one, and there its state is
(``sharded.server_step``). So it must work entry by entry, where the net is cut: a clip by the
global norm, or a matrix that is made orthogonal, would be another one for every number of devices.

Source: Reddi et al., Adaptive federated optimization, ICLR 2021, algorithm 1; Douillard et al.,
DiLoCo, 2023.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ist_jax.axes import Net
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state import carry, trial
from ist_jax.optimizer_state.carry import Memory

PyTree = Any
TRIALS = 3  # updates that are looked at


class Server:
    """An outer optimizer of a net; its methods are pure.

    Attributes:
      names: of the axes of its state.
      of: for each leaf of its state the number of the parameter that it belongs to, entry by entry,
        or None.
      counts: for each leaf whether it is the optimizer's own, as a count of steps.
      shapes: of its state.
      node, path: why it does not work entry by entry: a node of its state that has not an entry for
        each, or a leaf whose update depends on others; empty if it does.

    Raises:
      InputError: it cannot begin on the net, or step.
    """

    def __init__(self, optimizer: optax.GradientTransformation, net: Net):
        name = "the outer optimizer"
        state = trial.begins(optimizer, net.shapes, name)
        trial.steps(optimizer, net.shapes, state, sees_loss=False, what=name)
        self._optimizer, self._memory = optimizer, Memory(optimizer, "keep")
        entries = carry.entries(optimizer, net)
        numbers = {leaf.path: number for number, leaf in enumerate(net.leaves)}
        self.names = self._memory.names(net)
        self.of = [numbers[entry.parameter] if entry.shaped else None for entry in entries]
        self.counts = [entry.own for entry in entries]
        self.shapes = jax.eval_shape(self.first, net.shapes)
        self.node = _without_an_entry_each(optimizer, net)
        self.path = "" if self.node else _looks_beyond(optimizer, net)

    @property
    def entrywise(self) -> bool:
        """What it does to an entry depends on no other one."""
        return not (self.node or self.path)

    def first(self, params: PyTree) -> PyTree:
        """Its state before the first round."""
        return self._memory.carry(self._optimizer.init(params))

    def step(self, old: PyTree, merged: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        """A net after its step, and its next state."""
        gradient = jax.tree.map(jnp.subtract, old, merged)
        resumed = self._memory.resume(old, state)
        updates, resumed = self._optimizer.update(gradient, resumed, old)
        return optax.apply_updates(old, updates), self._memory.carry(resumed)


def check(server: Server, net: Net, cut: Collection[str]) -> None:
    """Complains about an outer optimizer that would not do the same on any number of devices.

    Args:
      net: all of it.
      cut: groups of which a worker holds some neurons.

    Raises:
      InputError: the net is cut, and its update of an entry depends on other entries, or its state
        has not an entry for each.
    """
    if server.entrywise or not any(leaf.cut_axes(cut) for leaf in net.leaves):
        return
    if server.node:
        raise InputError(
            f"the outer optimizer's {server.node} has no entry for each entry of the net, which is "
            "cut: use one with moments shaped like the parameters, or a method that cuts nothing"
        )
    raise InputError(
        f"the outer optimizer does not work entry by entry: what it does to {server.path} depends "
        "on what other entries stand beside, so it would be another for every number of devices. "
        "Use one that does (sgd, nesterov, adam, yogi), or a method that cuts nothing."
    )


def _without_an_entry_each(optimizer: optax.GradientTransformation, net: Net) -> str:
    """A node of its state, if any, with a leaf of a parameter that is not shaped like it."""
    entries = carry.entries(optimizer, net)
    return next((e.node.kind or "state" for e in entries if not (e.own or e.shaped)), "")


def _looks_beyond(optimizer: optax.GradientTransformation, net: Net) -> str:
    """The first leaf, if any, whose update is another where a small net stands beside another one.

    Two small nets are put side by side along the first axis of each leaf, along the second, and so
    on.
    """
    most = max((len(leaf.shape) for leaf in net.leaves), default=0)
    for axis in range(most):
        one, other, both = (_trained(optimizer, net, which, axis) for which in range(3))
        for apart, beside, found in zip(one, other, both, strict=True):
            parts = zip(net.leaves, found, _side_by_side(apart, beside, axis), strict=True)
            for leaf, here, wanted in parts:
                if here.shape != wanted.shape or not np.allclose(here, wanted, 1e-5, 1e-7):
                    return leaf.path
    return ""


def _trained(
    optimizer: optax.GradientTransformation, net: Net, which: int, axis: int
) -> list[list[Any]]:
    """Updates of a small net, of another one, or of both side by side."""

    def some(seed: int) -> PyTree:
        one, other = (jax.tree.leaves(trial.small(net.shapes, s)) for s in (seed, seed + 50))
        return net.tree.unflatten([one, other, _side_by_side(one, other, axis)][which])

    params, found = some(0), []
    state = optimizer.init(params)
    for seed in range(1, TRIALS + 1):
        updates, state = optimizer.update(some(seed), state, params)
        params = optax.apply_updates(params, updates)
        found.append(jax.tree.leaves(updates))
    return found


def _side_by_side(one: list[Any], other: list[Any], axis: int) -> list[Any]:
    """Two lists of leaves as one, along an axis or the last; a number is the first list's."""
    both = zip(one, other, strict=True)
    return [jnp.concatenate([a, b], min(axis, a.ndim - 1)) if a.ndim else a for a, b in both]
