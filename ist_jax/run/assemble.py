"""From a config to the things that train: data, model, optimizer, one trainer for each method."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import ist_jax
from ist_jax import axes, compress, loss_check, method, partition, plan
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.cost import program, timing, traffic
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.models import groups, normalise
from ist_jax.optimizer_state import carry
from ist_jax.run import optimizers, tasks
from ist_jax.run.tasks import Task
from ist_jax.run.values import INT32
from ist_jax.sharded import placement
from ist_jax.sharded.state import State
from ist_jax.trainer import Trainer


class Costs(NamedTuple):
    """What a method costs; numbers per worker (the largest one), bytes and FLOPs per round.

    ``bytes_moved`` is what all workers together receive and send in a round.
    """

    workers: int
    widths: dict[str, int]
    sub_widths: dict[str, int]
    net_parameters: int
    parameters: int
    bytes_sent: int
    bytes_moved: int
    bytes_once: int
    flops: int


class Job(NamedTuple):
    """One method, ready to train with any seed; its program is compiled once for all of them."""

    trainer: Trainer
    state: Callable[[int], State]  # of a seed
    batches: Callable[[int], Any]  # of a seed
    own: list[int]  # the workers of this process
    place: Callable[[Any], dict[str, Any]]  # what a round takes of them, on the mesh
    evaluate: Callable[[State], dict[str, float]]
    statistics: Callable[[State], Any]  # of the whole net, which it is asked with,
    gains: dict[str, float]  # and its gains then
    step_s: Callable[[], float]  # measures a local step of one worker, in seconds
    exchanged: Callable[[], timing.Exchanged]  # where every worker is a machine of its own
    costs: Costs
    names: Any  # of the axes of its net
    warm_up_job: "Job | None" = None  # trains the first ``config.warm_up`` rounds


def rounds(config: ConfigDict, data: Any) -> int:
    """The number of rounds: as given, or what the number of epochs comes to, rounded up.

    Raises:
      InputError: more steps than an optimizer counts.
    """
    seen = config.workers * config.local_steps * config.data.batch
    number = config.rounds
    if config.epochs:
        number = int(np.ceil(config.epochs * len(data.train_x) / seen))
    if number * config.local_steps > INT32:
        raise InputError(
            f"{number} rounds of config.local_steps={config.local_steps} are more than {INT32} "
            f"steps: make that, or config.{'epochs' if config.epochs else 'rounds'}, smaller"
        )
    return number


def jobs(config: ConfigDict, data: Any) -> dict[str, Job]:
    """All methods of a config, and a first look at the batches of every seed."""
    placed: dict[Mesh, Any] = {}
    built = {name: build(config, data, name, placed) for name in config.methods}
    for job in built.values():
        for seed in config.seeds:
            job.batches(seed)
    return built


def build(config: ConfigDict, data: Any, name: str, placed: dict[Mesh, Any]) -> Job:
    """A method, and what goes before it. Nothing is compiled yet, and no parameter exists before
    ``state(seed)``; ``placed`` takes what is common to all workers, once for the jobs of a mesh.
    """
    how = tasks.method_of(config, name)
    job = _build(config, data, how, placed)
    if not config.warm_up or how.exchange != "round" or not job.trainer.plan.slots:
        return job
    if config.warm_up >= rounds(config, data):
        raise InputError(
            f"config.warm_up={config.warm_up} rounds of local SGD leave none of "
            f"{rounds(config, data)} for {name}"
        )
    return job._replace(warm_up_job=_build(config, data, method.local_sgd(), placed))


def _build(config: ConfigDict, data: Any, how: Method, placed: dict[Mesh, Any]) -> Job:
    count = how.workers or config.workers
    number = rounds(config, data)
    task = tasks.make(config, data, how, number)
    init = functools.partial(_init, task)
    shapes, names = axes.of(jax.eval_shape(init, jax.random.key(0)))
    groups.check(task.model, shapes, names)
    widths = axes.widths(shapes, names)
    drawn = {g: n for g, n in widths.items() if g in task.model.widths and g not in task.external}
    slots = {**partition.slot_counts(how.draw, drawn, count), **task.external}
    narrow = normalise.subnet(task.model, {**drawn, **slots})
    if by_name.is_theirs(config.model.name):  # it may know one width only
        made = functools.partial(_init, task._replace(model=narrow))
        groups.check(narrow, *axes.of(jax.eval_shape(made, jax.random.key(0))))
    loss = task.loss(narrow)
    optimizer = optimizers.make(config, number * config.local_steps)
    mesh = mesh_of(config, count)
    example = loss_check.with_common(task.example, task.common, slots)
    trainer = ist_jax.build(
        loss,
        optimizer,
        shapes,
        names,
        method=how,
        workers=count,
        optimizer_state=config.optimizer_state,
        mesh=mesh,
        exact=config.mesh.exact,
        on_nonfinite=config.on_nonfinite,
        external=task.external,
        code=compress.named(config.compress),
        example=example,
    )
    first = lambda key: axes.of(init(key))[0]  # one for all seeds, so that it is compiled once
    own = placement.process_workers(mesh, count)
    statistics = task.statistics(trainer.on_params)
    measure = task.measure(trainer.on_params, statistics)
    return Job(
        trainer=trainer,
        state=lambda seed: trainer.init(first, jax.random.key(seed)),
        batches=lambda seed: task.batches(seed, own),
        own=own,
        place=functools.partial(_place, mesh, count, task.common, placed),
        evaluate=lambda state: measure(trainer.sharded_params(state)),
        statistics=lambda state: statistics(trainer.sharded_params(state)),
        gains=dict(task.gains),
        costs=_costs(trainer, loss, example, {**drawn, **slots}, config.local_steps),
        names=names,
        step_s=functools.partial(_step_s, loss, trainer.plan.subnet.shapes, example),
        exchanged=functools.partial(_exchanged, trainer.plan, optimizer, how, config),
    )


def _init(task: Task, key: jax.Array) -> Any:
    """The whole net's first parameters, with their names."""
    return task.model.init({"params": key, "dropout": key}, task.first, train=True)


def _costs(
    trainer: Trainer,
    loss: Loss,
    example: Any,
    cut: dict[str, int],
    steps: int,
) -> Costs:
    known, count = trainer.plan, trainer.plan.carried_layout.workers
    received, sent = trainer.moved.of_steps(steps)
    key = jax.random.key(0)  # for shapes only
    return Costs(
        workers=count,
        widths=known.net.widths,
        sub_widths=cut,
        net_parameters=int(traffic.entries(known.net, {})),
        parameters=int(traffic.entries(known.net, known.held).max()),
        bytes_sent=int(sent.max()),
        bytes_moved=int((received + sent).sum()),
        bytes_once=int(trainer.moved.once.max()),
        flops=program.flops(jax.grad(loss), known.subnet.shapes, example, key) * steps,
    )


def _place(
    mesh: Mesh, count: int, common: Any, placed: dict[Mesh, Any], tree: dict[str, Any]
) -> dict[str, Any]:
    """What a round takes of batches, on the mesh; what is common is put there once."""
    batches = {name: part for name, part in tree.items() if name != "external"}
    if mesh not in placed:
        placed[mesh] = placement.place(common, mesh)
    return {
        "batches": placement.place_own(batches, mesh, count),
        "external": placement.place_own(tree.get("external", {}), mesh, count, placement.SPLIT),
        "common": placed[mesh],
    }


def _step_s(loss: Loss, subnet: Any, example: Any) -> float:
    """The fastest of five gradients; an optimizer's step is small beside one."""
    gradient, key = jax.jit(jax.grad(loss)), jax.random.key(0)
    zeros = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), (subnet, example))
    jax.block_until_ready(gradient(*zeros, key))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(gradient(*zeros, key))
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _exchanged(
    known: plan.Plan, optimizer: optax.GradientTransformation, how: Method, config: ConfigDict
) -> timing.Exchanged:
    with_state = carry.with_state(known.net, optimizer, known.memory)
    code = compress.named(config.compress)
    count, steps = known.carried_layout.workers, config.local_steps
    return timing.exchanged(known.net, with_state, how, count, steps, known.external, code)


def mesh_of(config: ConfigDict, count: int) -> Mesh:
    """The devices for S workers; a single worker trains in every process, on a device of its."""
    if count == 1:
        return placement.mesh(1, jax.local_devices()[:1])
    data = config.mesh.data
    groups = config.mesh.workers or max(1, len(jax.devices()) // data)
    mesh = placement.mesh(count, groups * data, data=data)
    idle = set(range(jax.process_count())) - {d.process_index for d in mesh.devices.flat}
    if idle:
        raise InputError(
            f"process {min(idle)} has none of the {groups * data} devices of config.mesh: start "
            "fewer processes, or use more devices"
        )
    return mesh
