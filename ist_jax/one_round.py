"""One round of subnet training, as a device runs it: gather, train, scatter; and the next draw.

Subnets are gathered out of the net (``exchange.gather``), each takes J local steps without a word
to the others (``train_one``), and they are put back (``exchange.scatter``), laid out for the
assignment that was drawn for the next round. A method's outer optimizer steps on what they become.
Where gradients are averaged at every step, all
workers train one net instead (``train_synchronously``).

``compiled`` is the program over all devices. Every other function runs on one of them, with its
part of every array: of S workers it has S / D.

Source: Yuan et al., PVLDB 15(8), 2022, section 2.1.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Key

from ist_jax import local
from ist_jax.core.indexing import take
from ist_jax.core.keys import fold
from ist_jax.local import Gradient, Loss
from ist_jax.optimizer_state.carry import Memory
from ist_jax.optimizer_state.server import Server
from ist_jax.partition import Assignment
from ist_jax.plan import Plan
from ist_jax.sharded import coded, exchange, placement
from ist_jax.sharded.exchange import Chunks
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.state import State

PyTree = Any
Present = Bool[Array, " S"] | None  # which workers take part; all if None


class Learner(NamedTuple):
    """How a worker trains.

    Attributes:
      gradient: ``(net, (batch, neurons), key) -> (loss, gradient)``.
      optimizer: its updates.
      memory: what is carried of its state.
    """

    gradient: Gradient
    optimizer: optax.GradientTransformation
    memory: Memory


def compiled(plan: Plan) -> Any:
    """A round's program: ``on_device`` on every device of the mesh; it takes over its state."""
    everywhere: Any = placement.EVERYWHERE
    params, opt_state, server = plan.carried_layout.specs
    rest = everywhere, everywhere, everywhere, placement.SPLIT, server
    state = State(params, opt_state, *rest)
    batches = placement.batch_spec(plan.mesh)
    return jax.jit(
        placement.shard_map(
            functools.partial(on_device, plan),
            mesh=plan.mesh,
            in_specs=(state, batches, everywhere, placement.SPLIT, everywhere),
            out_specs=(state, everywhere, everywhere, everywhere),
        ),
        donate_argnums=0,
    )


def on_device(
    plan: Plan,
    state: State,
    batches: PyTree,
    took_part: Present,
    external: Mapping[str, Array],
    common: PyTree,
) -> tuple[State, Array, Chunks, dict[str, Array]]:
    """A whole round: the next state, the losses ``[S]``, the chunks of each transfer, and how many
    neurons of each external group each worker held."""
    layout, widths = plan.carried_layout, plan.net.widths
    if plan.drop_nonfinite and took_part is None:
        took_part = jnp.ones(layout.workers, bool)
    gradient = gradient_of(plan.loss, plan.mesh, widths, common)
    learner = Learner(gradient, plan.optimizer, plan.memory)
    following = plan.draw(state.key, state.round + 1, state.assignment)
    key = fold(state.key, "train", state.round)
    external = {group: exchange.of_all_workers(layout, ids) for group, ids in external.items()}
    assignment = dict(state.assignment) | external
    chunks: Chunks = {}
    errors, server = state.errors, state.server
    if plan.synchronous:
        trained = state.params, state.opt_state
        (params, opt_state), losses = train_synchronously(
            layout, learner, trained, batches, key, assignment, took_part, plan.drop_nonfinite
        )
    else:
        carried, losses, chunks, errors = train_locally(
            layout,
            learner,
            state.carried,
            errors,
            batches,
            key,
            assignment,
            following,
            took_part,
            plan.drop_nonfinite,
            plan.server,
        )
        params, opt_state, server = carried
    rest = state.round + 1, state.key, dict(following), errors, server
    state = State(params, opt_state, *rest)
    counts = {group: (ids < widths[group]).sum(axis=1) for group, ids in external.items()}
    return state, exchange.of_all_workers(layout, losses.mean(axis=1)), chunks, counts


def train_locally(
    layout: Layout,
    learner: Learner,
    carried: PyTree,
    errors: coded.Errors,
    batches: PyTree,
    key: Key[Array, ""],
    assignment: Assignment,
    following: Assignment,
    took_part: Present,
    drop: bool,
    server: Server | None = None,
) -> tuple[PyTree, Array, Chunks, coded.Errors]:
    """Subnets train on their own and are put back; losses ``[S / D, J]``.

    Args:
      carried: the net, its optimizer's state and the outer one's, as ``layout`` says; likewise what
        comes back.
      errors: what workers remember of updates in codes; likewise.
      following: the assignment of the next round.
      drop: leave out workers whose update is not finite.
      server: the outer optimizer.
    """
    subnets, gathering = exchange.gather(layout, carried, assignment)
    nets, states, nothing = subnets
    workers = layout.device_workers
    keys = jax.vmap(lambda worker: fold(key, worker))(workers)
    states = jax.vmap(learner.memory.resume)(nets, states, *([keys] if layout.workers > 1 else []))
    neurons = {group: take(ids, workers) for group, ids in assignment.items()}
    train = placement.each(functools.partial(train_one, learner))
    with jax.named_scope("local_steps"):
        *pieces, losses = train(nets, states, batches, keys, neurons)
    if drop:
        losses, took_part = without_nonfinite(layout, pieces, losses, took_part)
    nets = *pieces, nothing
    key = fold(key, "code")
    codes, errors = coded.encode(layout, subnets, nets, key, errors, took_part)
    carried, scattering = exchange.scatter(
        layout, carried, nets, assignment, following, took_part, subnets, codes, key, server
    )
    return carried, losses, gathering | scattering, errors


def train_one(
    learner: Learner,
    net: PyTree,
    opt_state: PyTree,
    batches: PyTree,
    key: Key[Array, ""],
    neurons: Mapping[str, Array],
) -> tuple[PyTree, PyTree, Array]:
    """J local steps of one subnet: the net, what is carried of its optimizer's state, losses."""
    gradient = lambda net, batch, key: learner.gradient(net, (batch, neurons), key)
    net, opt_state, losses = local.train(gradient, learner.optimizer, net, opt_state, batches, key)
    return net, learner.memory.carry(opt_state), losses


def train_synchronously(
    layout: Layout,
    learner: Learner,
    carried: PyTree,
    batches: PyTree,
    key: Key[Array, ""],
    assignment: Assignment,
    took_part: Present,
    drop: bool,
) -> tuple[PyTree, Array]:
    """All workers train one net with the mean of their gradients; losses ``[S / D, J]``."""
    gradient = functools.partial(
        mean_gradient, layout, learner.gradient, assignment, took_part, drop
    )
    net, opt_state = carried
    opt_state = learner.memory.resume(net, opt_state)
    steps = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batches)
    together = learner._replace(gradient=gradient)
    *new, losses = train_one(together, net, opt_state, steps, fold(key, 0), {})
    if took_part is not None:
        anyone = took_part.any()
        new = jax.tree.map(lambda a, b: jnp.where(anyone, a, b), tuple(new), carried)
    return tuple(new), losses.T


def mean_gradient(
    layout: Layout,
    gradient: Gradient,
    assignment: Assignment,
    took_part: Present,
    drop: bool,
    net: PyTree,
    batches: tuple[PyTree, Any],
    key: Key[Array, ""],
) -> tuple[Array, PyTree]:
    """The losses ``[S / D]`` of one step, and the mean of all workers' gradients."""
    keys = jax.vmap(lambda worker: fold(key, worker))(layout.device_workers)
    one = lambda own: gradient(net, (own[0], assignment), own[1])
    losses, gradients = lax.map(one, (batches[0], keys))
    if drop:
        losses, took_part = without_nonfinite(layout, gradients, losses, took_part)
    zeros = jax.tree.map(jnp.zeros_like, net)
    return losses, exchange.mean(layout, zeros, gradients, took_part, fold(key, "code"))


def gradient_of(loss: Loss, mesh: Mesh, widths: Mapping[str, int], common: PyTree) -> Gradient:
    """The gradient of a loss, which sees more than its batch where something is common to all."""

    def with_neurons(net, batch_and_neurons, key):
        batch, neurons = batch_and_neurons
        if common is not None:
            held = {group: ids < widths[group] for group, ids in neurons.items()}
            batch = local.with_common(batch, common, neurons, held)
        return loss(net, batch, key)

    return placement.alone(jax.value_and_grad(with_neurons), mesh)


def without_nonfinite(
    layout: Layout, trees: PyTree, losses: Array, took_part: Any
) -> tuple[Array, Bool[Array, " S"]]:
    """Losses ``[S / D, ...]``, NaN where a worker's numbers are not finite; such a worker does not
    take part."""
    finite = jax.vmap(_finite)((trees, losses))
    losses = jnp.where(finite.reshape(-1, *(1,) * (losses.ndim - 1)), losses, jnp.nan)
    return losses, exchange.of_all_workers(layout, finite) & took_part


def _finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()
