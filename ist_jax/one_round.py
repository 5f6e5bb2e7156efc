"""One round of subnet training: assign, gather, train, scatter.

Every method and every architecture runs through ``build``; the loop over rounds is the caller's::

    trainer = ist_jax.build(loss, optimizer, params, names, method=method.ist(), workers=8)
    state = trainer.init(params, jax.random.key(0))
    for batches in data:                       # leaves [S, J, B, ...]
        state, report = trainer.round(state, batches)

Source: Yuan et al., PVLDB 15(8), 2022, section 2.1.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from ist_jax import axes, compress, decompose, local, loss_check, validate
from ist_jax.compress import Code
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.cost import traffic
from ist_jax.local import Loss, Seen
from ist_jax.method import Method, sends
from ist_jax.method import check as check_method
from ist_jax.optimizer_state import carry, checks
from ist_jax.partition import Assignment
from ist_jax.sharded import exchange, layout, transfers
from ist_jax.sharded import placement as devices
from ist_jax.sharded.state import State, at_rest
from ist_jax.trainer import Report, Trainer

PyTree = Any


def build(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    names: PyTree,
    *,
    method: Method,
    workers: int,
    optimiser_state: str = "reset",
    mesh: Mesh | None = None,
    exact: bool = False,
    on_nonfinite: str = "raise",
    given: Mapping[str, int] | None = None,
    code: Code | None = None,
    example: PyTree = None,
) -> Trainer:
    """Compiles a method into the functions that run it.

    Args:
      loss: ``loss(net, batch, key) -> scalar``, for a net of any of the widths that ``method``
        gives out (a Flax model: that of ``model.clone(widths=...)``).
      optimizer: an optax gradient transformation.
      params: the net, or a tree of its shapes.
      names: the names of its axes.
      method: what is trained and exchanged.
      workers: S.
      optimiser_state: ``"reset"`` or ``"keep"``, unless the method has its own.
      mesh: devices to spread the net and the workers over (``workers.mesh``); one if None. Where
        every leaf is cut, the results are the same bits for every number of devices.
      exact: the same also where leaves or gradients are averaged over all workers: they are added
        up in the order of the workers, instead of the transport's.
      on_nonfinite: ``"drop"`` leaves out the update of a worker if a number in it, or its loss, is
        not finite, as if the worker had not taken part (data parallel: its gradient, of that step).
        That is looked at and agreed on in every round. ``"raise"`` leaves it to the caller to look
        at ``Report.loss``, and costs nothing.
      given: groups that are not drawn, and the slots that a worker has of each. The caller tells
        their neurons in every round, for example the rows that the round's batches touch. Workers
        may hold the same ones; a leaf that names such a group is cut along a drawn one first.
      code: what workers send their updates in (data parallel: their gradients); ``compress``. It
        changes nothing where they send none while they train (an ensemble, one worker).
      example: what the loss takes as a batch in one local step, arrays or shapes: whether it takes
        a subnet is then found here, and not in the first round.

    Returns:
      A ``Trainer``. ``round(state, batches, took_part=None, given=None, common=None)`` takes a tree
      of arrays ``[S, J, ...]``, if not all take part, ``bool[S]``, and ``int32[S, slots]`` for each
      group that is given (an id equal to its width is an empty slot). ``common`` is a tree of
      arrays that every step sees, whole on every device, such as the features of a graph whose
      nodes the batches tell by number: the loss then takes ``local.Seen`` in place of a batch.

    Raises:
      InputError: names that do not fit, parameters that are not floating point, more workers or
        devices than neurons, nothing to cut, an unknown policy or group, an optimizer that would
        not be carried rightly, a loss that does not take a subnet; from ``init``, other parameters;
        from ``round``, batches or given neurons of a wrong shape, gradients that would wait for a
        round beyond their own, a state that is used up.
    """
    validate.check_parameters(params)
    validate.check_workers(workers)
    slots = dict(given or {})
    widths = axes.widths(params, names)
    for group in slots:
        if group not in widths:
            raise InputError(f"no axis is of the given group {group!r}; there are {list(widths)}")
    widths = {group: width for group, width in widths.items() if group not in slots}
    check_method(method, params, names, workers)
    mesh = mesh or devices.mesh(workers, 1)
    if workers % devices.groups(mesh):
        raise InputError(
            f"the mesh was made for another number of workers: {devices.groups(mesh)} devices do "
            f"not divide {workers}"
        )
    policy = method.memory or optimiser_state
    memory = carry.memory(optimizer, policy)

    def draw(key, round, previous=None):
        return method.assign(fold(key, "draw"), widths, workers, round, previous)

    codes = compress.of_leaves(code if sends(method, workers) else None, params)

    def rested(net):
        return net, memory.rest(optimizer.init(net))

    who = jax.eval_shape(functools.partial(draw, round=0), jax.random.key(0))
    holds = dict(who) | {g: jax.ShapeDtypeStruct((workers, n), jnp.int32) for g, n in slots.items()}
    subnet = jax.eval_shape(
        lambda params, who: decompose.gather_one(params, names, who, 0), params, holds
    )
    synchronous = method.exchange == "step"
    apart = workers > 1 and not synchronous
    checks.check(
        optimizer,
        policy,
        params,
        names,
        subnet,
        cut=holds,
        apart=apart,
        told=apart or workers == 1,
    )
    check_loss = functools.partial(loss_check.check, loss, params, names, subnet, cut=holds)
    if example is not None:
        check_loss(example)

    plan = functools.partial(
        layout.plan,
        who=who,
        given=slots,
        workers=workers,
        devices=devices.groups(mesh),
        disjoint=method.disjoint,
        exact=exact,
        codes=codes,
    )
    net = plan(params, names)
    lying = plan(jax.eval_shape(rested, params), (names, memory.names(params, names)))
    counts = traffic.held(
        params, names, method, workers, {group: np.full(workers, n) for group, n in slots.items()}
    )
    per_round = traffic.per_round(params, names, method, workers, memory, optimizer, code)
    moved = per_round(counts)
    resting = at_rest(lying, mesh, rested, draw)
    if on_nonfinite not in ("raise", "drop"):
        raise InputError(f"on_nonfinite must be 'raise' or 'drop', found {on_nonfinite!r}")
    watchful = on_nonfinite == "drop"

    def train_one(gradient, net, opt_state, batches, key, who):
        with_who = lambda net, batch, key: gradient(net, (batch, who), key)
        net, opt_state, losses = local.train(with_who, optimizer, net, opt_state, batches, key)
        return net, memory.rest(opt_state), losses

    def without_nonfinite(trees, losses, took_part):
        """Losses ``[S / D, ...]``, NaN where something is not finite, and who then takes part."""
        if not watchful:
            return losses, took_part
        fine = jax.vmap(_finite)((trees, losses))
        fine_losses = jnp.where(fine.reshape(-1, *(1,) * (losses.ndim - 1)), losses, jnp.nan)
        return fine_losses, took_part & exchange.everyone(lying, fine)

    def on_their_own(gradient, rest, batches, key, who, who_next, took_part):
        """Subnets train on their own and are put back; losses ``[S / D, J]``."""
        before, out_passes = exchange.out(lying, rest, who)
        nets, states = before
        keys = jax.vmap(lambda worker: fold(key, worker))(transfers.here(lying))
        states = jax.vmap(memory.resume)(nets, states, *([keys] if workers > 1 else []))
        train = devices.each(functools.partial(train_one, gradient))
        mine = {group: ids[transfers.here(lying)] for group, ids in who.items()}
        *pieces, losses = train(nets, states, batches, keys, mine)
        losses, took_part = without_nonfinite(pieces, losses, took_part)
        rest, passes = exchange.back(
            lying, rest, tuple(pieces), who, who_next, took_part, before, fold(key, "code")
        )
        return rest, losses, out_passes | passes

    def in_step(gradient, rest, batches, key, who, who_next, took_part):
        """All workers train one net, with the mean of their gradients."""

        def of_all(net, mine, key):
            batches, who = mine
            keys = jax.vmap(lambda worker: fold(key, worker))(transfers.here(lying))
            one = lambda own: gradient(net, (own[0], who), own[1])
            losses, gradients = lax.map(one, (batches, keys))
            losses, present = without_nonfinite(gradients, losses, took_part)
            zeros = jax.tree.map(jnp.zeros_like, net)
            return losses, exchange.mean(lying, zeros, gradients, present, fold(key, "code"))

        steps = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batches)
        start = rest[0], memory.resume(*rest)
        *new, losses = train_one(of_all, *start, steps, fold(key, 0), {})
        if took_part is not None:
            anyone = took_part.any()
            new = jax.tree.map(lambda a, b: jnp.where(anyone, a, b), tuple(new), rest)
        return tuple(new), losses.T, {}

    def on_a_device(
        state: State, batches: PyTree, took_part: Array | None, told: dict[str, Array], common: Any
    ):
        """One round on one device, with its part of every array."""
        if watchful and took_part is None:
            took_part = jnp.ones(workers, bool)
        train = in_step if synchronous else on_their_own

        def seeing(params, mine, key):
            batch, who = mine
            held = {group: ids < net.widths[group] for group, ids in who.items()}
            return loss(params, batch if common is None else Seen(batch, common, who, held), key)

        gradient = devices.alone(jax.value_and_grad(seeing), mesh)
        who_next = draw(state.key, state.round + 1, state.who)
        key = fold(state.key, "train", state.round)
        rest = state.params, state.opt_state
        told = {group: exchange.everyone(lying, ids) for group, ids in told.items()}
        arguments = rest, batches, key, dict(state.who) | told, who_next, took_part
        rest, losses, passes = train(gradient, *arguments)
        params, opt_state = rest
        state = State(params, opt_state, state.round + 1, state.key, dict(who_next))
        counts = {g: (ids < net.widths[g]).sum(axis=1) for g, ids in told.items()}
        return state, exchange.everyone(lying, losses.mean(axis=1)), passes, counts

    one: Any = devices.EVERYWHERE
    net_specs, opt_specs = devices.specs(lying)
    specs = State(net_specs, opt_specs, one, one, one)
    batch_spec = devices.batch_spec(mesh)
    compiled = jax.jit(
        devices.spread(
            on_a_device,
            mesh,
            (specs, batch_spec, devices.EVERYWHERE, devices.SPLIT, devices.EVERYWHERE),
            (specs, devices.EVERYWHERE, devices.EVERYWHERE, devices.EVERYWHERE),
        ),
        donate_argnums=0,
    )

    safe: set[int] = set()  # numbers of local steps in which no gradient waits

    def check_steps(steps: int) -> None:
        if policy == "reset" and steps not in safe:
            checks.check_steps(optimizer, memory, params, names, steps)
            safe.add(steps)

    def one_round(
        state: State,
        batches: PyTree,
        took_part=None,
        given: Assignment | None = None,
        common: PyTree = None,
    ) -> tuple[State, Report]:
        validate.check_usable(state)
        steps = validate.check_batches(batches, workers, devices.in_group(mesh))
        check_steps(steps)
        present = validate.check_present(took_part, workers)
        mask = None if took_part is None else devices.place(present, mesh)  # all: a program apart
        told = validate.check_given(given or {}, slots, net.widths, workers)
        try:
            state, losses, passes, now = compiled(
                state,
                devices.place(batches, mesh, batch_spec),
                mask,
                devices.place(told, mesh, devices.SPLIT),
                devices.place(common, mesh),
            )
        except Exception:  # most often the loss, as it is traced
            check_loss(loss_check.example_of(batches, devices.in_group(mesh), common, holds))
            raise
        # Where groups are given, this waits for the round.
        found = per_round(counts | jax.tree.map(np.asarray, now)) if slots else moved
        received, sent = (np.where(present, n, 0) for n in found.of_steps(steps))
        return state, Report(losses, present, received, sent, passes)

    def lower(state, batches, took_part=None, given: Assignment | None = None, common=None):
        return compiled.lower(state, batches, took_part, dict(given or {}), common)

    def wire(report: Report, steps: int) -> float:
        gradient = params if synchronous else None
        group = devices.in_group(mesh)
        return traffic.wire(
            lying,
            report.passes,
            gradient=gradient,
            steps=steps,
            data=group,
            watchful=watchful,
            given=sum(slots.values()),
        )

    def over(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(
            lambda rows, *arguments: function(devices.natural(net, mesh, rows), *arguments),
            out_shardings=devices.everywhere(mesh) if jax.process_count() > 1 else None,
        )

    bring_home = devices.bring_home(net, mesh)

    def home(state: State) -> PyTree:
        validate.check_usable(state)
        return bring_home(state.params, state.who)

    return Trainer(
        **resting._asdict(),
        round=one_round,
        home=home,
        over=over,
        lower=lower,
        wire=wire,
        moved=moved,
    )


def _finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()
