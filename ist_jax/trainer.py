"""A method, built: ``build`` gives the functions that run it.

Every method and every architecture runs through here; the loop over rounds is the caller's::

    trainer = ist_jax.build(loss, optimizer, params, names, method=method.ist(), workers=8)
    state = trainer.init(params, jax.random.key(0))
    for batches in data:                       # leaves [S, J, B, ...]
        state, report = trainer.round(state, batches)
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
from ist_jax.cost import traffic
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.optimizer_state import carry, checks
from ist_jax.partition import Assignment
from ist_jax.plan import Plan
from ist_jax.sharded import placement
from ist_jax.sharded.state import State, States

PyTree = Any


class Report(NamedTuple):
    """What a round reports; arrays over the S workers.

    ``loss`` is each worker's mean over its local steps: not finite where its data or its net is
    not, and NaN where ``on_nonfinite="drop"`` left out the worker's update. Bytes are those of the
    parameters, and of the optimizer's moments where they are kept, that a worker receives and sends
    to take part in the round. ``chunks`` are those of each transfer between devices
    (``traffic.wire`` says what they come to).
    """

    loss: Float[Array, " S"]
    took_part: np.ndarray
    bytes_received: np.ndarray
    bytes_sent: np.ndarray
    chunks: dict[str, Array]


class Trainer(NamedTuple):
    """Pure functions, and the bytes they move; ``round`` donates the state it is given.

    ``init(params, key)`` takes a net, or a function ``key -> net``, which is run where its result
    is to be: no device ever holds all of it. To look at the net between rounds without gathering
    it, ``over(function)(home(state), ...)`` runs ``function(net, ...)`` on the net where it is.

    ``natural(state)`` is a copy of the state with every leaf in its natural shape, of which each
    device has its part if D divides the width (``shapes`` says where they are); ``whole(state)`` is
    the same with all of it on every device. Such a state does not depend on the number of devices
    or processes: it is what a checkpoint holds, and ``resume(state)`` goes on from it, also with
    another number of workers (neurons are then drawn anew).

    ``state.params`` is laid out for the devices, and every round lays it out anew: it is not the
    net, and not to be changed by hand. ``map_params(function, state)`` is the state with
    ``function(leaf)`` in place of every leaf of the net, all of it in its natural shape; what it
    gives has that shape and dtype. It is for functions of one leaf alone: whatever remembers
    something of each parameter (the momentum of an outer step) would have to move with the neurons.

    ``wire(report, J)`` is what every device received from others in that round, in bytes, and
    ``lower`` gives the round's program, to compile and look at. ``plan`` is all that is known
    before a round runs, such as the shapes of a subnet.
    """

    init: Callable[[Any, Key[Array, ""]], State]
    resume: Callable[[State], State]
    round: Callable[..., tuple[State, Report]]
    natural: Callable[[State], State]
    whole: Callable[[State], State]
    map_params: Callable[[Callable[[Array], Array], State], State]
    shapes: State
    home: Callable[[State], PyTree]
    over: Callable[[Callable[..., Any]], Callable[..., Any]]
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
    optimiser_state: str = "reset",
    mesh: Mesh | None = None,
    exact: bool = False,
    on_nonfinite: str = "raise",
    external: Mapping[str, int] | None = None,
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
      mesh: devices to spread the net and the workers over (``ist_jax.mesh``); one if None. Where
        every leaf is cut, the results are the same bits for every number of devices.
      exact: the same also where leaves or gradients are averaged over all workers: they are added
        up in the order of the workers, instead of the transport's.
      on_nonfinite: ``"drop"`` leaves out the update of a worker if a number in it, or its loss, is
        not finite, as if the worker had not taken part (data parallel: its gradient, of that step).
        That is looked at and agreed on in every round. ``"raise"`` leaves it to the caller to look
        at ``Report.loss``, and costs nothing.
      external: groups that are not drawn, and the slots that a worker has of each. Their neurons
        come with every round, for example the rows that the round's batches touch. Workers may hold
        the same ones; a leaf that names such a group is cut along a drawn one first.
      code: what workers send their updates in (data parallel: their gradients); ``compress``. It
        changes nothing where they send none while they train (an ensemble, one worker).
      example: what the loss takes as a batch in one local step, arrays or shapes: whether it takes
        a subnet is then found here, and not in the first round.

    Returns:
      A ``Trainer``. ``round(state, batches, took_part=None, external=None, common=None)`` takes a
      tree of arrays ``[S, J, ...]``, if not all take part, ``bool[S]``, and ``int32[S, slots]`` for
      each external group (an id equal to its width is an empty slot). ``common`` is a tree of
      arrays that every step sees, whole on every device, such as the features of a graph whose
      nodes the batches name by number: a batch, a dict, then holds more (``local.with_common``).

    Raises:
      InputError: names that do not fit, parameters that are not floating point, more workers or
        devices than neurons, nothing to cut, an unknown policy or group, an optimizer that would
        not be carried rightly, a loss that does not take a subnet; from ``init``, other parameters;
        from ``round``, batches or neurons of a wrong shape, gradients that would wait for a round
        beyond their own, a state that is used up.
    """
    made = plan.make(
        loss,
        optimizer,
        params,
        names,
        method=method,
        workers=workers,
        optimiser_state=optimiser_state,
        mesh=mesh,
        exact=exact,
        on_nonfinite=on_nonfinite,
        external=external,
        code=code,
        example=example,
    )
    begin = functools.partial(carry.first_state, optimizer, made.memory)
    states = States(made.carried, made.mesh, begin, made.draw)
    program = one_round.compiled(made)
    waiting = functools.cache(
        functools.partial(checks.check_steps, optimizer, made.memory, made.net)
    )
    return Trainer(
        init=states.init,
        resume=states.resume,
        round=functools.partial(_round, made, program, waiting),
        natural=states.natural,
        whole=states.whole,
        map_params=states.map_params,
        shapes=states.shapes,
        home=functools.partial(_home, placement.bring_home(made.layout, made.mesh)),
        over=functools.partial(placement.over, made.layout, made.mesh),
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
    """Runs a round (``Trainer.round``); only here does something wait for a device."""
    workers, group = made.carried.workers, placement.in_group(made.mesh)
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
    moved = made.moved
    if made.external:  # this waits for the round
        moved = made.moved_with(jax.tree.map(np.asarray, now))
    received, sent = (np.where(present, n, 0) for n in moved.of_steps(steps))
    return state, Report(losses, present, received, sent, chunks)


def _home(bring_home: Callable[..., PyTree], state: State) -> PyTree:
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
    return traffic.wire(
        made.carried,
        report.chunks,
        gradients=len(made.net.leaves) if made.synchronous else 0,
        steps=steps,
        data=placement.in_group(made.mesh),
        drop_nonfinite=made.drop_nonfinite,
        external=sum(made.external.values()),
    )
