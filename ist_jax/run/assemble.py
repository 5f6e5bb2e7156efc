"""From a config to the things that train: data, model, optimizer, one job for each method."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.method import Method
from ist_jax.run import job, optimizers, tasks
from ist_jax.run.job import Job
from ist_jax.run.values import INT32
from ist_jax.sharded import placement


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
    for one in built.values():
        for seed in config.seeds:
            one.batches(seed)
    return built


def build(config: ConfigDict, data: Any, name: str, placed: dict[Mesh, Any]) -> Job:
    """A method, and what goes before it. Nothing is compiled yet, and no parameter exists before
    ``state(seed)``; ``placed`` takes what is common to all workers, once for the jobs of a mesh.
    """
    make = functools.partial(_build, config, data, placed=placed)
    return job.with_warm_up(config, make, tasks.method_of(config, name), rounds(config, data))


def _build(config: ConfigDict, data: Any, how: Method, *, placed: dict[Mesh, Any]) -> Job:
    number = rounds(config, data)
    task = tasks.make(config, data, how, number)
    optimizer = optimizers.make(config, number * config.local_steps, task.model)
    mesh = mesh_of(config, how.workers or config.workers)
    made = job.make(config, task, how, optimizer, mesh, placed)
    optimizers.check_kernels(config, task.model, made.trainer.shapes.params)
    if by_name.is_theirs(config.model.name):
        from ist_jax.run.tasks import labelled, theirs  # imports NNX, half a second

        theirs.check_order(made, data.train_x[labelled.some(data.train_x, theirs.FEW)])
    return made


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
