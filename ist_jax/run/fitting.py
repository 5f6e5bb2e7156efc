"""One job, trained in memory or in a run folder."""

import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax import local
from ist_jax.checkpoint import Checkpoints
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.data.dataset import Dataset
from ist_jax.method import Method
from ist_jax.plan import Plan
from ist_jax.run import (
    checks,
    environment,
    folder,
    lock,
    loop,
    report,
    same_data,
    saving,
    schema,
    summary,
    training,
)
from ist_jax.run import trackers as tracking
from ist_jax.run.job import Job
from ist_jax.run.loop import RunContext
from ist_jax.run.progress import Progress
from ist_jax.run.saved_run import PYTHON
from ist_jax.run.signals import Stop
from ist_jax.run.team import Team
from ist_jax.run.watchdog import Watchdog
from ist_jax.sharded.state import State

Line = dict[str, Any]
See = Callable[[Line], Any]
ALONE = Team()
SETTINGS = (  # top-level keys of a config that are arguments too
    "workers",
    "local_steps",
    "rounds",
    "warm_up",
    "compress",
    "optimizer_state",
    "on_worker_failure",
    "on_nonfinite",
    "faults",
    "round_timeout_s",
    "eval_every",
    "statistics_examples",
    "trackers",
)
OF_DATA = ("split", "skew")  # those that a config keeps under ``data``


def config(
    how: Method, seed: int, batch: int, settings: Mapping[str, Any], arguments: Collection[str] = ()
) -> ConfigDict:
    """What the loop and the checkpoints look at; the model and the data are not in it.

    Args:
      arguments: what else can be asked for, to be named where a setting is none.

    Raises:
      InputError: a setting that is none, or a value that it cannot have.
    """
    made = schema.default()
    made.methods, made.seeds, made.data.batch = (how.name,), (seed,), batch
    made.model.name = made.data.name = made.optimizer.name = PYTHON
    with made.ignore_type():  # types are for ``values`` to check
        for key, value in settings.items():
            value = value.item() if isinstance(value, np.generic) else value
            if key in OF_DATA:
                made.data[key] = value
            elif key in SETTINGS:
                made[key] = value
            else:
                near = by_name.hint(key, (*arguments, *SETTINGS, *OF_DATA))
                raise InputError(f"fit has no argument {key!r}{near}")
    checks.check_numbers(made)
    return made


def digest(plan: Plan, example: Any) -> str:
    """Of what is computed: a subnet's loss, the optimizer's update and the outer one's step, as JAX
    traces them. A run does not go on with others."""
    key = jax.random.key(0)
    net = plan.subnet.shapes
    state = jax.eval_shape(plan.optimizer.init, net)
    update = functools.partial(local.update, plan.optimizer, loss=0.0, loss_of=lambda net: 0.0)
    texts = [
        jax.make_jaxpr(plan.loss)(net, example, key),
        jax.make_jaxpr(lambda net, state: update(net, state, net))(net, state),
    ]
    if plan.server is not None:
        whole = plan.net.shapes
        texts.append(jax.make_jaxpr(plan.server.step)(whole, whole, plan.server.shapes))
    told = re.sub(r"0x[0-9a-f]+", "", "\n".join(map(str, texts)))  # addresses of functions
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def in_memory(
    config: ConfigDict, job: Job, see: See, progress: bool, resume: bool = False
) -> tuple[State, list[Line]]:
    """The state after the last round, and all measurements; each of them is seen at once."""
    name, seed, rounds = config.methods[0], config.seeds[0], config.rounds
    if config.trackers or resume:
        raise InputError("trackers and resume are for a run folder: give a workdir too")
    shown, lines = Progress([1], quiet=not progress), []
    loop.try_out(job, name, config, ALONE)
    with Watchdog(config.round_timeout_s, ALONE) as watchdog:
        context = RunContext(config, ALONE, Stop(), watchdog)
        for measured in loop.run(job, name, seed, rounds, context, None, None):
            lines.append(measured.line)
            see(measured.line)
            shown.show(0, measured.line["round"] / rounds, measured.line)
    shown.end(saving.Effort())
    return measured.state, lines


def in_folder(
    config: ConfigDict,
    job: Job,
    see: See,
    progress: bool,
    data: Dataset,
    workdir: pathlib.Path,
    overwrite: bool,
    resume: bool,
) -> tuple[State, list[Line]]:
    """The same, saved as the command line does, and read back from the last checkpoint.

    Raises:
      InputError: the folder is in use, or holds something else.
      Stopped: a signal asked for it, and the run is saved.
    """
    name, seed = config.methods[0], config.seeds[0]
    trackers = tracking.chosen(config)
    with lock.held(workdir, make=not os.path.isdir(workdir)):
        if resume:
            same_data.check_data(config, workdir, data.sha256)
        folder.claim(workdir, config, overwrite, resume)
        with Stop() as stop, Watchdog(config.round_timeout_s, ALONE) as watchdog:
            context = RunContext(config, ALONE, stop, watchdog, see=see, quiet=not progress)
            how = config.rounds, workdir, data.sha256, context, trackers, overwrite, resume
            training.train({name: job}, *how)
        summary.write(config, data, {name: job}, workdir, hosts=[environment.host()])
    kept = Checkpoints(f"{saving.folder(config, workdir)}/{name}_{seed}")
    state = kept.restore(kept.check(config.rounds), job.trainer.shapes)
    return job.trainer.resume(state), report.read(workdir / folder.METRICS)[name, seed]
