"""Refuses an optimizer that a policy (``carry``) would not carry rightly from round to round.

A rule decides, node by node of the optimizer's state, and no list of names:

* under ``own``, nothing may be cut: another neuron's moments would be in the slot;
* under ``keep``, what belongs to a parameter that is cut must have its shape, at the net's width
  and at a subnet's (factored moments have not);
* under ``reset``, a node that is renewed may hold no *estimate*: a float or a truth value of its
  own that changes as it is used, such as a step size that is learnt; nor, beside a copy of the
  parameters from which it measures a distance, one for each parameter;
* under ``reset``, no gradient may wait for a later round (``check_steps``);
* where workers train apart, an own ``uint32[2]`` or ``uint32[4]`` is taken for an untyped PRNG key,
  whose noise would be the same in every worker.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ist_jax import axes
from ist_jax.axes import Net
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state import carry, trial
from ist_jax.optimizer_state.carry import Entry, Memory

PyTree = Any


def check(
    optimizer: optax.GradientTransformation,
    policy: str,
    net: Net,
    subnet: Net,
    cut: Collection[str],
    workers: int,
    synchronous: bool,
) -> None:
    """Complains about an optimizer that would be carried wrongly.

    Args:
      policy: ``reset``, ``keep`` or ``own``.
      net: all of it.
      subnet: what a worker trains.
      cut: groups of which a worker holds some neurons, maybe all.
      workers: S.
      synchronous: gradients are averaged at every step. The optimizer of several workers does not
        see a loss then.

    Raises:
      InputError: an optimizer that cannot begin on these parameters or take a step on them, or that
        breaks a rule above; names the node of its state, and what to do.
    """
    whole, part = trial.begins(optimizer, net.shapes), trial.begins(optimizer, subnet.shapes)
    apart = workers > 1 and not synchronous
    trial.steps(optimizer, subnet.shapes, part, sees_loss=apart or workers == 1)
    if policy == "own":
        _check_own(net, cut, synchronous)
    if policy != "reset" and not apart:
        return  # it goes on as it is
    if not axes.same_structure(whole, part):
        raise InputError(
            "this optimizer's state has another structure for a subnet than for the net"
        )
    entries = carry.entries(optimizer, net)
    renewed = {entry.node for entry in entries if not entry.own}
    cuts = {leaf.path for leaf in net.leaves if leaf.cut_axes(cut)}
    shapes = {leaf.path: leaf.shape for leaf in subnet.leaves}
    for entry, leaf, of_subnet in zip(entries, *map(jax.tree.leaves, (whole, part)), strict=True):
        if apart and entry.own:
            _check_key(entry, leaf)
        if policy != "reset" or (entry.own and entry.node not in renewed):
            _check_travels(entry, leaf, of_subnet, cuts, shapes)
    if policy == "reset":
        _check_estimates(optimizer, net.shapes, entries, renewed)


def check_steps(
    optimizer: optax.GradientTransformation,
    memory: Memory,
    net: Net,
    steps: int,
) -> None:
    """Complains if some gradient of a round of J local steps would be lost at its end.

    A gradient waits if, turned round, it changes no update of its own round, however many rounds
    have gone before, but a later update if the state were never renewed: gradients that are
    accumulated over more steps than a round has. Looked at in a trial with a small net, in which a
    rate that begins at zero is waited for, up to ``trial.HORIZON`` steps.

    Args:
      optimizer: whose state is ``reset``.
      memory: the policy.
      net: all of it.
      steps: J.

    Raises:
      InputError: one waits; names the node of the state that holds it.
    """
    net_of_trial = trial.small(net.shapes)
    state = jax.eval_shape(optimizer.init, net_of_trial)
    if len(jax.tree.leaves(jax.eval_shape(memory.carry, state))) == len(jax.tree.leaves(state)):
        return  # nothing is renewed
    if trial.waits(optimizer, memory, net_of_trial, steps):
        entries = carry.entries(optimizer, net)
        renewed = {entry.node for entry in entries if not entry.own}
        counts = [entry for entry in entries if entry.own and entry.node in renewed]
        raise InputError(
            f"optimizer_state='reset' would lose gradients: {_at((counts or entries)[0])} keeps "
            f"some for later than the {steps} local steps of a round, and is renewed in every one. "
            "Use optimizer_state='keep', or accumulate over a number of steps that divides them."
        )


def _check_own(net: Net, cut: Collection[str], synchronous: bool) -> None:
    if synchronous:
        raise InputError(
            "optimizer_state='own': workers whose gradients are averaged at every step have one "
            "optimizer, and no state of their own; use 'keep'"
        )
    if cuts := [leaf.path for leaf in net.leaves if leaf.cut_axes(cut)]:
        raise InputError(
            f"optimizer_state='own': a worker holds other neurons of {cuts[0]} in every round, and "
            "would lend one's moments to another. Use 'keep', with which moments travel with their "
            "neurons, or 'reset'."
        )


def _check_key(entry: Entry, leaf: Any) -> None:
    if leaf.dtype == jnp.uint32 and leaf.shape[-1:] in ((2,), (4,)):
        raise InputError(
            f"{_at(entry)} of the optimizer holds uint32{list(leaf.shape)}, which looks like an "
            "untyped PRNG key: every worker would draw the same noise. Give the optimizer a typed "
            "key, jax.random.key(seed), or leave it out."
        )


def _check_travels(
    entry: Entry, leaf: Any, of_subnet: Any, cuts: Collection[str], shapes: dict[str, Any]
) -> None:
    """Of ``keep``: the leaf, cut as its parameter is, must be what a subnet's state has."""
    if entry.own or (entry.parameter and entry.parameter not in cuts) or not cuts:
        fits = leaf.shape == of_subnet.shape
    else:
        fits = entry.shaped and of_subnet.shape == shapes[entry.parameter]
    if not fits:
        of = f", of {entry.parameter}," if entry.parameter else ""
        raise InputError(
            f"this optimizer's state cannot travel with the neurons: a leaf of {_at(entry)}{of} "
            f"has shape {list(leaf.shape)} for the net and {list(of_subnet.shape)} for a subnet. "
            "Use optimizer_state='reset', or an optimizer with moments shaped like the parameters."
        )


def _check_estimates(
    optimizer: optax.GradientTransformation,
    params: PyTree,
    entries: list[Entry],
    renewed: Collection[carry.Node],
) -> None:
    """Of ``reset``: two updates of a small net may change no estimate."""
    doubtful = [
        number
        for number, entry in enumerate(entries)
        if entry.node in renewed and (entry.own or not entry.shaped)
    ]
    if not doubtful:
        return
    net, begin, end = trial.two_updates(optimizer, params)
    old, new = jax.tree.leaves(begin), jax.tree.leaves(end)
    copies = _nodes_with_a_copy(entries, old, net)
    for number in doubtful:
        entry, leaf = entries[number], old[number]
        counts = jnp.issubdtype(leaf.dtype, jnp.integer) or carry.is_key(leaf)
        if counts or not (entry.own or entry.node in copies):
            continue
        if not np.array_equal(leaf, new[number], equal_nan=True):
            raise InputError(
                f"optimizer_state='reset' would lose what this optimizer learns: {_at(entry)} "
                "holds an estimate beside its moments, which would begin anew in every round. Use "
                "optimizer_state='keep', or an optimizer without estimates (adam, sgd)."
            )


def _nodes_with_a_copy(entries: list[Entry], leaves: list, net: PyTree) -> set[carry.Node]:
    """Nodes that begin with a copy of the parameters."""
    values = {axes.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(net)}
    return {
        entry.node
        for entry, leaf in zip(entries, leaves, strict=True)
        if entry.shaped and np.array_equal(leaf, values[entry.parameter])
    }


def _at(entry: Entry) -> str:
    return f"{entry.node.kind or 'its state'} (opt_state{entry.node.path})"
