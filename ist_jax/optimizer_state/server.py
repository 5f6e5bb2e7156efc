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
    """

    def __init__(self, optimizer: optax.GradientTransformation, net: Net):
        self._optimizer, self._memory = optimizer, Memory(optimizer, "keep")
        entries = carry.entries(optimizer, net)
        numbers = {leaf.path: number for number, leaf in enumerate(net.leaves)}
        self.names = self._memory.names(net)
        self.of = [numbers[entry.parameter] if entry.shaped else None for entry in entries]
        self.counts = [entry.own for entry in entries]

    def first(self, params: PyTree) -> PyTree:
        """Its state before the first round."""
        return self._memory.carry(self._optimizer.init(params))

    def step(self, old: PyTree, merged: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        """A net after its step, and its next state."""
        gradient = jax.tree.map(jnp.subtract, old, merged)
        resumed = self._memory.resume(old, state)
        updates, resumed = self._optimizer.update(gradient, resumed, old)
        return optax.apply_updates(old, updates), self._memory.carry(resumed)


def check(optimizer: optax.GradientTransformation, net: Net, cut: Collection[str]) -> None:
    """Complains about an outer optimizer that would not do the same on any number of devices.

    Args:
      net: all of it.
      cut: groups of which a worker holds some neurons.

    Raises:
      InputError: it cannot begin, or step; or its update of an entry of a leaf that is cut depends
        on other entries, or its state has not an entry for each.
    """
    trial.begins(optimizer, net.shapes, "the outer optimizer")
    state = jax.eval_shape(optimizer.init, net.shapes)
    trial.steps(optimizer, net.shapes, state, sees_loss=False, what="the outer optimizer")
    cuts = {leaf.path for leaf in net.leaves if leaf.cut_axes(cut)}
    for entry in carry.entries(optimizer, net) if cuts else []:
        if not (entry.own or entry.shaped) and entry.parameter in {"", *cuts}:
            raise InputError(
                f"the outer optimizer's {entry.node.kind} has no entry for each entry of "
                f"{entry.parameter or 'the net'}, which is cut: use one with moments shaped like "
                "the parameters, or a method that cuts nothing"
            )
    if (path := _looks_beyond(optimizer, net, cut)) is not None:
        raise InputError(
            f"the outer optimizer does not work entry by entry: what it does to {path} depends on "
            "which other neurons stand beside it, so it would be another for every number of "
            "devices. Use one that does (sgd, nesterov, adam, yogi), or a method that cuts nothing."
        )


def _looks_beyond(
    optimizer: optax.GradientTransformation, net: Net, cut: Collection[str]
) -> str | None:
    """The first leaf whose update is another where a small net stands beside another one.

    Neurons of two small nets are put side by side, along the first cut axis of each leaf; leaves
    that nothing cuts are the same in both.
    """
    along = [next(iter(leaf.cut_axes(cut)), None) for leaf in net.leaves]
    if not any(axis is not None for axis in along):
        return None

    def some(seed: int) -> tuple[list[Any], list[Any], list[Any]]:
        one, other = (jax.tree.leaves(trial.small(net.shapes, s)) for s in (seed, seed + 50))
        other = [a if axis is None else b for axis, a, b in zip(along, one, other, strict=True)]
        return one, other, _side_by_side(along, one, other)

    def trained(which: int) -> list[list[Any]]:
        params = net.tree.unflatten(some(0)[which])
        state, found = optimizer.init(params), []
        for seed in range(1, TRIALS + 1):
            gradient = net.tree.unflatten(some(seed)[which])
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            found.append(jax.tree.leaves(updates))
        return found

    for one, other, both in zip(*map(trained, range(3)), strict=True):
        expected = _side_by_side(along, one, other)
        for leaf, found, wanted in zip(net.leaves, both, expected, strict=True):
            if found.shape != wanted.shape or not np.allclose(found, wanted, 1e-5, 1e-7):
                return leaf.path
    return None


def _side_by_side(along: list[int | None], one: list[Any], other: list[Any]) -> list[Any]:
    both = zip(along, one, other, strict=True)
    return [a if axis is None else jnp.concatenate([a, b], axis) for axis, a, b in both]
