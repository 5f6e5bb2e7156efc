"""From a config to the things that train: data, model, optimiser, one trainer for each method."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ist_jax import (
    axes,
    classify,
    cost,
    decompose,
    local,
    method,
    normalise,
    partition,
    round,
    traffic,
    workers,
)
from ist_jax.data import Batches, Dataset
from ist_jax.errors import InputError
from ist_jax.models.cnn import CNN
from ist_jax.models.mlp import MLP

MODELS = {"mlp": MLP, "cnn": CNN}


class Plan(NamedTuple):
    """What a method costs; numbers per worker (the largest one), bytes and FLOPs per round."""

    workers: int
    widths: dict[str, int]
    sub_widths: dict[str, int]
    net_parameters: int
    parameters: int
    bytes_sent: int
    bytes_once: int
    flops: int


class Job(NamedTuple):
    """One method, ready to train with any seed; its program is compiled once for all of them."""

    trainer: round.Trainer
    state: Callable[[int], round.State]  # of a seed
    batches: Callable[[int], Batches]  # of a seed
    own: list[int]  # the workers of this process
    place: Callable[[Any], Any]  # their batches on the mesh
    evaluate: Callable[[round.State], float]
    step_s: Callable[[], float]  # measures a local step of one worker, in seconds
    exchanged: Callable[[], cost.Exchanged]  # where every worker is a machine of its own
    plan: Plan


def rounds(config: ConfigDict, data: Dataset) -> int:
    """The number of rounds: as given, or what the number of epochs comes to, rounded up."""
    if not config.epochs:
        return config.rounds
    seen = config.workers * config.local_steps * config.data.batch
    return int(np.ceil(config.epochs * len(data.train_x) / seen))


def method_of(config: ConfigDict, name: str) -> method.Method:
    """The method a config means by a name."""
    return method.named(name, config.assignment, tuple(config.shares))


def model_of(config: ConfigDict, data: Dataset, how: method.Method) -> nn.Module:
    """The net a method trains: the config's, or for a narrow method one as wide as a subnet."""
    whole = MODELS[config.model.name](
        widths=dict(config.model.widths),
        classes=data.classes,
        normalise=config.normalise,
        affine=config.model.affine,
        logits=config.model.logits,
    )
    if not how.narrow:
        return whole
    cut = partition.sub_widths(method_of(config, "ist").assign, whole.widths, config.workers)
    return whole.clone(widths=cut)


def optimizer_of(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Clipping, weight decay, the optimiser and its schedule, all optax's."""
    given = config.optimizer
    schedules = {
        "constant": lambda: given.lr,
        "cosine": lambda: optax.cosine_decay_schedule(given.lr, steps),
    }
    if given.schedule not in schedules:
        raise InputError(
            f"config.optimizer.schedule must be one of {sorted(schedules)}, found "
            f"{given.schedule!r}"
        )
    rate = schedules[given.schedule]()
    optimizers = {
        "sgd": lambda: optax.sgd(rate, momentum=given.momentum or None),
        "adam": lambda: optax.adam(rate),
    }
    if given.name not in optimizers:
        raise InputError(
            f"config.optimizer.name must be one of {sorted(optimizers)}, found {given.name!r}"
        )
    before = []
    if given.clip:
        before.append(optax.clip_by_global_norm(given.clip))
    if given.weight_decay:
        before.append(optax.add_decayed_weights(given.weight_decay))
    return optax.chain(*before, optimizers[given.name]())


def jobs(config: ConfigDict, data: Dataset) -> dict[str, Job]:
    """All methods of a config, and a first look at the batches of every seed."""
    built = {name: build(config, data, name) for name in config.methods}
    for job in built.values():
        for seed in config.seeds:
            job.batches(seed)
    return built


def build(config: ConfigDict, data: Dataset, name: str) -> Job:
    """A method. Nothing is compiled yet, and no parameter exists before ``state(seed)``."""
    how = method_of(config, name)
    count = how.workers or config.workers
    model = model_of(config, data, how)
    init = lambda key: model.init(key, data.train_x[:1])
    net = lambda key: axes.of(init(key))[0]
    key = jax.random.key(0)  # for shapes only
    shapes, names = axes.of(jax.eval_shape(init, key))
    widths = axes.widths(shapes, names)
    cut = partition.sub_widths(how.assign, widths, count)
    loss = classify.cross_entropy(normalise.subnet(model, cut))
    optimizer = optimizer_of(config, rounds(config, data) * config.local_steps)
    mesh = mesh_of(config, count)
    trainer = round.build(
        loss,
        optimizer,
        shapes,
        names,
        method=how,
        workers=count,
        optimiser_state=config.optimiser_state,
        mesh=mesh,
        exact=config.mesh.exact,
        on_nonfinite=config.on_nonfinite,
    )
    own = workers.here(mesh, count)

    def state(seed: int) -> round.State:
        key = jax.random.key(seed)
        return trainer.init(net, key)  # made where it is to lie

    def batches(seed: int) -> Batches:
        return Batches(
            data.train_x,
            data.train_y,
            workers=count,
            of=own,
            batch=config.data.batch,
            local_steps=config.local_steps,
            seed=seed,
            split=config.data.split,
            skew=config.data.skew if count > 1 else 0.0,
        )

    step = {
        "x": jax.ShapeDtypeStruct((config.data.batch, *data.train_x.shape[1:]), np.float32),
        "y": jax.ShapeDtypeStruct((config.data.batch,), np.int32),
    }
    who = jax.eval_shape(lambda key: how.assign(key, widths, count, 0), key)
    subnet = jax.eval_shape(lambda net, who: decompose.gather_one(net, names, who, 0), shapes, who)
    held = traffic.entries(shapes, names, traffic.held(shapes, names, how, count))
    memory = local.memory(optimizer, how.memory or config.optimiser_state)
    plan = Plan(
        workers=count,
        widths=widths,
        sub_widths=cut,
        net_parameters=int(traffic.entries(shapes, names, {})),
        parameters=int(held.max()),
        bytes_sent=int(trainer.moved.of_steps(config.local_steps)[1].max()),
        bytes_once=int(trainer.moved.once.max()),
        flops=traffic.flops(jax.grad(loss), subnet, step, key) * config.local_steps,
    )

    def step_s() -> float:
        """The fastest of five gradients; an optimiser's step is small beside one."""
        zeros = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), (subnet, step))
        gradient = jax.jit(jax.grad(loss))
        jax.block_until_ready(gradient(*zeros, key))
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            jax.block_until_ready(gradient(*zeros, key))
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    statistics_from = data.train_x[: config.statistics_examples]
    accuracy = classify.accuracy(model, statistics_from, compiled=trainer.over)
    return Job(
        trainer=trainer,
        state=state,
        batches=batches,
        own=own,
        place=lambda tree: workers.place_own(tree, mesh, count),
        evaluate=lambda state: accuracy(trainer.home(state), data.test_x, data.test_y),
        plan=plan,
        step_s=step_s,
        exchanged=functools.partial(
            cost.exchanged, shapes, names, how, count, memory, optimizer, config.local_steps
        ),
    )


def mesh_of(config: ConfigDict, count: int) -> Mesh:
    """The devices for S workers; a single worker trains in every process, on a device of its."""
    if count == 1:
        return workers.mesh(1, jax.local_devices()[:1])
    data = config.mesh.data
    groups = config.mesh.workers or max(1, len(jax.devices()) // data)
    mesh = workers.mesh(count, groups * data, data=data)
    idle = set(range(jax.process_count())) - {d.process_index for d in mesh.devices.flat}
    if idle:
        raise InputError(
            f"process {min(idle)} has none of the {groups * data} devices of config.mesh: start "
            "fewer processes, or use more devices"
        )
    return mesh
