"""A method, built: ``build`` gives the functions that run it.

Every method and every architecture runs through here; the loop over rounds is the caller's::

    trainer = ist_jax.build(loss, optimizer, params, names, method=method.ist(), workers=8)
    state = trainer.init(params, jax.random.key(0))
    for batches in data:                       # leaves [S, J, B, ...]
        state, report = trainer.round(state, batches)

``trainer.round(state, batches, took_part=None, external=None, common=None)`` takes besides

* ``took_part``, ``bool[S]``: the others are as if they were not there;
* ``external``, ``{group: int32[S, slots]}``: the neurons of groups that are not drawn, for example
  the rows that a round's batches touch; an id equal to the group's width is an empty slot. Workers
  may hold the same ones. The first named axis of a leaf must be of a group that is drawn;
* ``common``: arrays that every step sees, whole on every device, such as the features of a graph
  whose nodes the batches name by number. A batch, a dict, then holds more (``local.with_common``).

What ``build`` says shortly, in full:

* The results are the same bits for every number of devices, if every leaf is cut. Means over all
  workers need ``exact=True`` for that: they are then added up in the order of the workers.
* ``on_nonfinite="drop"``: a worker whose update or loss is not finite is as if it had not taken
  part (data parallel: its gradient, of that step).
* ``code`` changes nothing where workers send none as they train (an ensemble, one worker).
* ``InputError`` names leaves that do not fit their names, parameters that are not floating point,
  more workers or devices than neurons, nothing to cut, an unknown policy or group, an optimizer
  that would not be carried rightly, a loss that takes no subnet. From ``init`` it means other
  parameters; from ``round``, batches or neurons of a wrong shape, gradients that would wait for a
  later round, or a state that is used up.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from ist_jax import loss_check, one_round, plan, validate
from ist_jax.compress import Code
from ist_jax.cost import traffic, wire
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.optimizer_state import carried, checks
from ist_jax.partition import Assignment
from ist_jax.plan import Plan
from ist_jax.sharded import placement, views
from ist_jax.sharded.state import State, States

PyTree = Any


class Report(NamedTuple):
    """What a round reports; arrays over the S workers.

    ``loss`` is each worker's mean over its local steps: not finite where its data or its net is
    not, and NaN where ``on_nonfinite="drop"`` left its update out. Bytes are those of parameters,
    and of moments that are kept, that a worker receives and sends to take part. ``chunks`` are
    those of each transfer between devices.
    """

    loss: Float[Array, " S"]
    took_part: np.ndarray
    bytes_received: np.ndarray
    bytes_sent: np.ndarray
    chunks: dict[str, Array]


class Trainer(NamedTuple):
    """Pure functions, and the bytes they move; ``round`` donates the state it is given.

    ``init(params, key)`` takes a net, or a function ``key -> net``, which is run where its result
    is to be: no device ever holds all of it. ``on_params(function)(sharded_params(state), ...)``
    runs ``function(net, ...)`` between rounds on the net where it is.

    ``unsharded(state)`` is a copy of the state with every leaf in its natural shape, of which each
    device has its part if D divides the width (``shapes`` says where); ``whole(state)`` is the same
    with all of it on every device. Such a state does not depend on the number of devices: it is
    what a checkpoint holds, and ``resume(state)`` goes on from it, also with another number of
    workers (neurons are then drawn anew).

    ``state.params`` is laid out for the devices, and not to be changed by hand.
    ``map_params(function, state)`` is the state with ``function(leaf)`` in place of every leaf of
    the net, in its natural shape, which it is to keep. (Momentum is for ``method.with_server``.)

    ``wire(report, J)``: bytes that every device received from others. ``lower``: the round's
    program. ``plan``: what is known before a round runs.
    """

    init: Callable[[Any, Key[Array, ""]], State]
    resume: Callable[[State], State]
    round: Callable[..., tuple[State, Report]]
    unsharded: Callable[[State], State]
    whole: Callable[[State], State]
    map_params: Callable[[Callable[[Array], Array], State], State]
    shapes: State
    sharded_params: Callable[[State], PyTree]
    on_params: Callable[[Callable[..., Any]], Callable[..., Any]]
    lower: Callable[..., jax.stages.Lowered]
    wire: Callable[[Report, int], float]
    moved: traffic.Moved
    plan: Plan


def build(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    names: PyTree,
    *,
    method: Method,
    workers: int,
    optimizer_state: str = "reset",
    mesh: Mesh | None = None,
    exact: bool = False,
    message_bytes: int | None = None,
    on_nonfinite: str = "raise",
    external: Mapping[str, int] | None = None,
    code: Code | None = None,
    example: PyTree = None,
) -> Trainer:
    """Compiles a method into the functions that run it.

    Args:
      loss: ``loss(net, batch, key) -> scalar``, for a net of any width that the method gives out.
      optimizer: an optax gradient transformation.
      params, names: the net, or a tree of its shapes; and the names of its axes.
      method, workers: what is trained and exchanged; S.
      optimizer_state: ``"reset"``, ``"keep"`` or ``"own"``, unless the method has its own.
      mesh: devices to spread the net and the workers over (``ist_jax.mesh``); one if None.
      exact: the same bits for every number of devices, also of leaves that all workers share.
      message_bytes: that a device sends at a time, to all others; chosen for near links if None.
      on_nonfinite: ``"drop"`` leaves out a worker's update that is not finite; ``"raise"`` leaves
        it to the caller to look at ``Report.loss``.
      external: groups that are not drawn, and a worker's slots of each.
      code: what workers send their updates in (``compress``).
      example: a batch of one local step, or its shapes, to try the loss with at once.

    Raises:
      InputError: what does not fit together, and from the trainer's functions what does not fit it.
    """
    return _wired(
        plan.make(
            loss,
            optimizer,
            params,
            names,
            method=method,
            workers=workers,
            optimizer_state=optimizer_state,
            mesh=mesh,
            exact=exact,
            message_bytes=message_bytes,
            on_nonfinite=on_nonfinite,
            external=external,
            code=code,
            example=example,
        )
    )


def _wired(made: Plan) -> Trainer:
    learns = made.optimizer, made.memory, made.server
    begin = functools.partial(carried.first, *learns, made.carried_layout.workers)
    states = States(made.carried_layout, made.mesh, begin, made.draw)
    program = one_round.compiled(made)
    check_steps = functools.partial(checks.check_steps, *learns[:2], made.net)
    return Trainer(
        init=states.init,
        resume=states.resume,
        round=functools.partial(_round, made, program, functools.cache(check_steps)),
        unsharded=states.unsharded,
        whole=states.whole,
        map_params=states.map_params,
        shapes=states.shapes,
        sharded_params=functools.partial(_sharded_params, views.bring_home(made.layout, made.mesh)),
        on_params=functools.partial(views.on_params, made.layout, made.mesh),
        lower=functools.partial(_lower, program),
        wire=functools.partial(_wire, made),
        moved=made.moved,
        plan=made,
    )


def _round(
    made: Plan,
    program: Callable[..., Any],
    check_steps: Callable[[int], None],
    state: State,
    batches: PyTree,
    took_part: Any = None,
    external: Assignment | None = None,
    common: PyTree = None,
) -> tuple[State, Report]:
    """``Trainer.round``."""
    workers, group = made.carried_layout.workers, placement.in_group(made.mesh)
    validate.check_usable(state)
    steps = validate.check_batches(batches, workers, group)
    validate.check_common(batches, common)
    check_steps(steps)
    present = validate.check_present(took_part, workers)
    mask = None if took_part is None else placement.place(present, made.mesh)  # another program
    neurons = validate.check_external(external or {}, made.external, made.net.widths, workers)
    try:
        state, losses, chunks, now = program(
            state,
            placement.place(batches, made.mesh, placement.batch_spec(made.mesh)),
            mask,
            placement.place(neurons, made.mesh, placement.SPLIT),
            placement.place(common, made.mesh),
        )
    except Exception:  # most often the loss, as it is traced
        example = loss_check.example_of(batches, group, common, made.slots)
        loss_check.check(made.loss, made.net, made.subnet, example, made.slots)
        raise
    moved = made.moved_with(jax.device_get(now)) if made.external else made.moved
    received, sent = (np.where(present, n, 0) for n in moved.of_steps(steps))
    return state, Report(losses, present, received, sent, chunks)


def _sharded_params(bring_home: Callable[..., PyTree], state: State) -> PyTree:
    validate.check_usable(state)
    return bring_home(state.params, state.assignment)


def _lower(
    program: Any,
    state: State,
    batches: PyTree,
    took_part: Any = None,
    external: Assignment | None = None,
    common: PyTree = None,
) -> Any:
    return program.lower(state, batches, took_part, dict(external or {}), common)


def _wire(made: Plan, report: Report, steps: int) -> float:
    return wire.received(
        made.carried_layout,
        report.chunks,
        gradients=len(made.net.leaves) if made.synchronous else 0,
        steps=steps,
        data=placement.in_group(made.mesh),
        drop_nonfinite=made.drop_nonfinite,
        external=sum(made.external.values()),
    )
