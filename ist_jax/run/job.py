"""A method with something to learn, ready to train: a task, and the job that is made of it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import ist_jax
from ist_jax import axes, compress, loss_check, method, partition, plan
from ist_jax.core.errors import InputError
from ist_jax.cost import program, timing, traffic
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.models import MODELS, OTHER_MODELS, groups, normalise
from ist_jax.run import local_step
from ist_jax.sharded import placement
from ist_jax.sharded.state import State
from ist_jax.trainer import Trainer

WIDEST = 2**26  # numbers in an array that an evaluation computes, 256 MiB

Compiled = Callable[..., Any]
OfNet = Callable[[Any], dict[str, Any]]


class Task(NamedTuple):
    """What a method trains.

    Attributes:
      model: the whole net.
      first: what it is initialised with.
      external: the groups whose neurons come with the batches, and a worker's slots of each.
      loss: of a subnet's model.
      batches: of a seed and the workers wanted.
      statistics: with a way to compile, a net's that it is evaluated with; none of some nets.
      measure: with a way to compile and the net's statistics, what is measured of a net.
      example: shapes of one local step's batch.
      common: what every step sees beside its batch (``ist_jax.build``), or None.
      whole: the model where it is evaluated, if it is another (with other gains).
    """

    model: Any
    first: Any
    external: Mapping[str, int]
    loss: Callable[[Any], Loss]
    batches: Callable[[int, Sequence[int]], Any]
    statistics: Callable[[Compiled], OfNet]
    measure: Callable[[Compiled, OfNet], OfNet]
    example: Any
    common: Any = None
    whole: Any = None


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
    statistics: Callable[[State], Any]  # of the whole net, which it is asked with
    step: Callable[[], Callable[[], Any]]  # gives a local step of one worker, compiled
    exchanged: Callable[[], timing.Exchanged]  # where every worker is a machine of its own
    costs: Costs
    names: Any  # of the axes of its net
    whole: Any  # the model that the whole net is asked with
    warm_up_job: "Job | None" = None  # trains the first ``config.warm_up`` rounds

    @property
    def gains(self) -> dict[str, float]:
        """Of the whole net where it is asked."""
        return dict(getattr(self.whole, "gains", {}))

    def step_s(self) -> float:
        """Seconds of a local step, the fastest of five."""
        return local_step.seconds(self.step())


def make(
    config: ConfigDict,
    task: Task,
    how: Method,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    placed: dict[Mesh, Any],
) -> Job:
    """A method, ready to train. Nothing is compiled yet; parameters come with ``state(seed)``.

    Args:
      config: numbers of the workers, steps and rounds; what is exchanged, and how.
      placed: takes what is common to all workers, once for the jobs of a mesh.
    """
    count = how.workers or config.workers
    init = functools.partial(_init, task)
    shapes, names = axes.of(jax.eval_shape(init, jax.random.key(0)))
    groups.check(task.model, shapes, names)
    widths = axes.widths(shapes, names)
    drawn = {g: n for g, n in widths.items() if g in task.model.widths and g not in task.external}
    slots = {**partition.slot_counts(how.draw, drawn, count), **task.external}
    narrow = normalise.subnet(task.model, {**drawn, **slots})
    if config.model.name not in {**MODELS, **OTHER_MODELS}:  # it may know one width only
        made = functools.partial(_init, task._replace(model=narrow))
        groups.check(narrow, *axes.of(jax.eval_shape(made, jax.random.key(0))))
    loss = task.loss(narrow)
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
        message_bytes=1024 * config.mesh.message_kb or None,
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
        costs=_costs(trainer, loss, example, {**drawn, **slots}, config.local_steps),
        names=names,
        whole=task.whole or task.model,
        step=functools.cache(
            functools.partial(
                local_step.compiled, loss, optimizer, trainer.plan.subnet.shapes, example
            )
        ),
        exchanged=functools.partial(_exchanged, trainer.plan, how, config),
    )


def with_warm_up(
    config: ConfigDict, make_job: Callable[[Method], Job], how: Method, rounds: int
) -> Job:
    """A method's job, and the one that trains its first ``config.warm_up`` rounds, if any.

    Raises:
      InputError: those are all the rounds there are.
    """
    made = make_job(how)
    if not config.warm_up or how.exchange != "round" or not made.trainer.plan.slots:
        return made
    if config.warm_up >= rounds:
        raise InputError(
            f"config.warm_up={config.warm_up} rounds of local SGD leave none of {rounds} for "
            f"{how.name}"
        )
    return made._replace(warm_up_job=make_job(method.local_sgd()._replace(server=how.server)))


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


def _exchanged(known: plan.Plan, how: Method, config: ConfigDict) -> timing.Exchanged:
    code = compress.named(config.compress)
    count, steps = known.carried_layout.workers, config.local_steps
    length, external = 1024 * config.mesh.message_kb or None, known.external
    return timing.exchanged(known.net, known.carried, how, count, steps, external, code, length)
