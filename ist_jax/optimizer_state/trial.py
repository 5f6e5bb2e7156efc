"""An optimizer is tried on a small net, to see what ``checks`` cannot read off its state."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ist_jax import axes, local
from ist_jax.core.errors import InputError, first_line
from ist_jax.optimizer_state.carry import Memory

PyTree = Any
SIDE = 3  # neurons that an axis has
PICKS = 4  # gradients of a round that are looked at
HORIZON = 1 << 12  # local steps that are looked ahead
BANK = 61  # gradients that are gone round: a prime, so that no period of an optimizer fits


def begins(
    optimizer: optax.GradientTransformation, params: PyTree, what: str = "this optimizer"
) -> PyTree:
    """The shapes of its first state.

    Raises:
      InputError: it has none for these parameters.
    """
    try:
        return jax.eval_shape(optimizer.init, params)
    except Exception as error:  # whatever a stranger's init raises
        raise InputError(
            f"{what} cannot begin on these parameters: {type(error).__name__}: {first_line(error)}"
        ) from error


def steps(
    optimizer: optax.GradientTransformation,
    net: PyTree,
    state: PyTree,
    sees_loss: bool,
    what: str = "this optimizer",
) -> None:
    """Complains about a step that fails, or gives something else than updates and a state.

    Args:
      net, state: their shapes.
      sees_loss: it is told the loss if it takes it.

    Raises:
      InputError: it does.
    """

    def step(net, state):
        value = jnp.zeros((), jnp.float32)
        if not sees_loss:
            return optimizer.update(net, state, net)
        return local.update(optimizer, net, state, net, value, lambda net: value)

    try:
        found = jax.eval_shape(step, net, state)
    except Exception as error:
        loss = " and the loss" if sees_loss else " alone: here it is not told the loss"
        raise InputError(
            f"{what} cannot take a step with a gradient, the parameters{loss}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    kinds = lambda tree: [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    for part, new, old in zip(("updates", "a state"), found, (net, state), strict=True):
        if kinds(new) != kinds(old) or not axes.same_structure(new, old):
            raise InputError(
                f"one step of {what} gives {part} of another structure, shape or type: "
                f"expected {kinds(old)}, found {kinds(new)}"
            )


def two_updates(
    optimizer: optax.GradientTransformation, params: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    """A small net, and the optimizer's state before and after two updates of it."""
    net = small(params)
    begin = optimizer.init(net)
    trained, state = net, begin
    for seed, value in ((2, jnp.float32(1)), (4, jnp.float32(0.5))):
        gradient = small(params, seed)
        loss_of = lambda net, value=value: value
        updates, state = local.update(optimizer, gradient, state, trained, value, loss_of)
        trained = optax.apply_updates(trained, updates)
    return net, begin, state


def waits(optimizer: optax.GradientTransformation, memory: Memory, net: PyTree, steps: int) -> bool:
    """Whether a gradient of a round waits for a later one.

    Copies of a net train side by side, the first on all gradients as they are, each other with one
    of the round's gradients turned round.
    """
    picks = np.unique(np.linspace(0, steps - 1, PICKS).astype(np.int32))
    train = functools.partial(_train, functools.partial(_step, optimizer, _bank(net)))
    copies = lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf] * (len(picks) + 1)), tree)

    @jax.jit
    def one_round(net, carried, first):
        begin = copies((net, memory.resume(net, carried)))
        (net, state), changed = train(begin, first, first + steps, first + picks)
        return net, memory.carry(state), changed

    @jax.jit
    def all_rounds_as_one(net):
        return train(copies((net, optimizer.init(net))), jnp.int32(0), HORIZON, picks)[1]

    now, carried = net, jax.jit(lambda net: memory.carry(optimizer.init(net)))(net)
    changed = np.zeros(len(picks), bool)
    for first in range(0, HORIZON, steps):
        now, carried, changed = one_round(now, carried, np.int32(first))
        if np.asarray(changed).all():
            return False
    return bool((all_rounds_as_one(net) & ~changed).any())


def _train(
    step: Callable[..., Any], begin: tuple[PyTree, PyTree], first: Any, last: Any, picks: Any
) -> tuple[tuple[PyTree, PyTree], jax.Array]:
    """Steps ``first`` to ``last``, until all copies have had an update of their own.

    Of the first copy the net and its state, and of each other whether it has had one.
    """

    def more(at):
        number, _, changed = at
        return (number < last) & ~changed.all()

    def one(at):
        number, copies, changed = at
        signs = jnp.where(picks == number, -1.0, 1.0)
        *copies, differs = step(*copies, number, jnp.append(1.0, signs))
        return number + 1, tuple(copies), changed | differs

    _, copies, changed = lax.while_loop(more, one, (first, begin, jnp.zeros(len(picks), bool)))
    return jax.tree.map(lambda leaf: leaf[0], copies), changed


def _bank(net: PyTree) -> PyTree:
    """Gradients in the structure of a net."""
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: draw.normal(size=(BANK, *leaf.shape)).astype(leaf.dtype), net)


def _step(
    optimizer: optax.GradientTransformation,
    bank: PyTree,
    nets: PyTree,
    states: PyTree,
    number: Any,
    signs: Any,
) -> tuple[PyTree, PyTree, jax.Array]:
    """A step of copies of a net with a gradient of a bank, each with a sign of its own.

    Besides the nets and states it gives, for every other copy, whether its update differs from the
    first one's.
    """
    gradient = number % BANK
    turn = lambda leaf: jnp.multiply.outer(signs.astype(leaf.dtype), leaf[gradient])
    gradients = jax.tree.map(lambda leaf: turn(jnp.asarray(leaf)), bank)
    value = 1 / (1.0 + gradient)
    update = lambda gradient, state, net: local.update(
        optimizer, gradient, state, net, value, lambda net: value
    )
    updates, states = jax.vmap(update)(gradients, states, nets)
    differ = [(leaf != leaf[:1]).reshape(len(leaf), -1).any(1) for leaf in jax.tree.leaves(updates)]
    return jax.vmap(optax.apply_updates)(nets, updates), states, jnp.stack(differ).any(0)[1:]


def small(params: PyTree, seed: int = 0) -> PyTree:
    """Random numbers in the structure of the parameters, axes at most ``SIDE`` long."""
    draw = np.random.default_rng(seed)
    one = lambda leaf: draw.normal(size=[min(n, SIDE) for n in leaf.shape])
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(one(leaf), leaf.dtype)), params)
