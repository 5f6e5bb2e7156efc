"""The rounds of one method with one seed: measured, saved, stopped and begun again."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax.checkpoint import reading
from ist_jax.core.errors import InputError
from ist_jax.data import Batches
from ist_jax.run import faults, metrics
from ist_jax.run.assemble import Job
from ist_jax.run.saving import Keeper
from ist_jax.run.signals import Stop, Stopped
from ist_jax.run.team import Team
from ist_jax.run.watchdog import Watchdog
from ist_jax.trainer import Report

HOPELESS = 10  # rounds in a row without a finite update: it is not some worker that fails


class Guard(NamedTuple):
    """What all runs of a process share."""

    config: ConfigDict
    team: Team
    stop: Stop
    dog: Watchdog
    data: str  # their digest


@dataclasses.dataclass
class Tally:
    """What has added up since round 0; a checkpoint holds it."""

    sent: int = 0
    received: int = 0
    missed: int = 0  # worker-rounds without the worker,
    rejected: int = 0  # and without its update
    barren: int = 0  # rounds in a row, of which nothing was left
    seconds: float = 0.0


def run(
    job: Job, name: str, seed: int, rounds: int, guard: Guard, keeper: Keeper, told: dict | None
) -> Iterator[dict[str, Any]]:
    """A line of metrics at round 0, every few rounds, and at the end.

    ``time/train_s`` is training alone, without evaluation and saving, and without compilation if
    the job's program was compiled before.

    Args:
      told: the checkpoint to go on from; None to begin.

    Raises:
      InputError: a worker failed, or its loss is not finite, and that is not to be gone over.
      Stopped: a signal asked for it, and the run is saved.
    """
    config, batches = guard.config, job.batches(seed)
    fail = faults.plan(config.faults, job.plan.workers, seed)
    after, job = job, holder(job, told["round"] if told else 0, config)
    state = keeper.restore(told, job.trainer) if told else job.state(seed)
    tally = Tally(**told["about"]["tally"]) if told else Tally()
    begun = done = int(state.round)
    reports: list[Report] = []
    since = time.perf_counter()
    while True:
        guard.dog.at(f"{name}, seed {seed}, round {done}")
        measuring = done % config.eval_every == 0 or done == rounds
        stopping = guard.stop.asked() and done < rounds
        new = done > begun or told is None
        saving = new and (keeper.due(done) or stopping)
        measured = None
        if measuring or saving:
            jax.block_until_ready(state)
            tally.seconds = round(tally.seconds + time.perf_counter() - since, 4)
            loss = add_up(reports, tally, config, f"{name}, seed {seed}", done)
            reports = []
        if measuring and new:
            measured = job.evaluate(state)
            yield {
                "method": name,
                "seed": seed,
                "round": done,
                "step": done * batches.local_steps,
                **loss,
                **metrics.existing(measured),
                "comm/bytes_sent": tally.sent + (job.plan.bytes_once if done == rounds else 0),
                "comm/bytes_received": tally.received,
                "compute/flops": _flops(after, done, config),
                "time/train_s": tally.seconds,
            }
        if saving:
            accuracy = measured["accuracy/test"] if measured else None
            keeper.save(job, state, dataclasses.asdict(tally), accuracy, last=stopping)
        if stopping:
            raise Stopped(f"{name}, seed {seed} is saved after round {done}")
        if done == rounds:
            return
        if measuring or saving:
            since = time.perf_counter()
        if job is after.before and done == config.warm_up:
            state, job = after.trainer.resume(job.trainer.natural(state)), after
        faulty = fail(done)
        own, took_part = provide(job, batches, done, guard, faulty, f"{name} {seed}")
        started = time.perf_counter()
        state, report = job.trainer.round(state, took_part=took_part, **job.place(own))
        reports.append(report)
        done += 1
        if config.round_timeout_s:  # a round may begin before the last one is over, and no earlier
            jax.block_until_ready(reports[-2:][0].loss)
        if (slowest := faulty.slowness[list(job.own)].max()) > 1:
            jax.block_until_ready(state)
            time.sleep((slowest - 1) * (time.perf_counter() - started))


def holder(job: Job, done: int, config: ConfigDict) -> Job:
    """Whose the net is after so many rounds: the warm-up's as long as nothing else trained it."""
    return job.before if job.before and done <= config.warm_up else job


def _flops(job: Job, done: int, config: ConfigDict) -> int:
    before = min(done, config.warm_up) if job.before else 0
    return (job.before.plan.flops * before if job.before else 0) + job.plan.flops * (done - before)


def try_out(job: Job, name: str, guard: Guard) -> None:
    """A round that is thrown away, so that the programs of training and saving are compiled."""
    if job.before:
        try_out(job.before, name, guard)
    seed = guard.config.seeds[0]
    nothing = faults.plan("", job.plan.workers, seed)(0)
    own, took_part = provide(job, job.batches(seed), 0, guard, nothing, f"{name}, tried out")
    state, _ = job.trainer.round(job.state(seed), took_part=took_part, **job.place(own))
    reading.digests(job.trainer.natural(state))


def provide(
    job: Job, batches: Batches, number: int, guard: Guard, faulty: faults.Faults, run: str
) -> tuple[Any, np.ndarray | None]:
    """The batches of a process's own workers in a round, and who takes part.

    Raises:
      InputError: a worker fails, and ``on_worker_failure`` is not ``"drop"``.
    """
    lost = {int(worker): "config.faults" for worker in np.flatnonzero(faulty.dropped)}
    own = batches(number, lost)
    floats = [leaf for leaf in jax.tree.leaves(own["x"]) if np.issubdtype(leaf.dtype, np.floating)]
    for row in np.flatnonzero(faulty.spoilt[job.own]):
        floats[0][row] = np.nan
    dropping = guard.config.on_worker_failure == "drop"
    for worker in () if dropping else sorted(lost):
        raise InputError(
            f"{run}: worker {worker} failed in round {number} ({lost[worker]}). With "
            "config.on_worker_failure='drop' the round goes on without it."
        )
    if not dropping:
        return own, None
    took_part = np.ones(job.plan.workers, bool)
    for of_process in guard.team.share(f"{run}, lost in round {number}", sorted(lost)):
        took_part[of_process] = False
    return own, took_part


def add_up(
    reports: list[Report], tally: Tally, config: ConfigDict, run: str, done: int
) -> dict[str, Any]:
    """Adds rounds to the tally; the newest one's mean loss over the workers that took part."""
    for number, report in enumerate(reports, start=done - len(reports)):
        tally.sent += int(report.bytes_sent.max())
        tally.received += int(report.bytes_received.max())
        loss = np.asarray(report.loss)
        finite = np.isfinite(loss)
        good = report.took_part & finite
        tally.barren = tally.barren + 1 if report.took_part.any() and not good.any() else 0
        for worker in np.flatnonzero(report.took_part & ~finite):
            if config.on_nonfinite != "drop" or tally.barren >= HOPELESS:
                raise InputError(
                    f"{run}: the loss of worker {worker} is {loss[worker]} in round {number}. A "
                    "smaller config.optimizer.lr, or config.optimizer.clip, may help."
                )
        tally.missed += int((~report.took_part).sum())
        tally.rejected += int((report.took_part & ~finite).sum())
    if not reports:
        return {}
    mean = {"loss/train": float(loss[good].mean(dtype=np.float64))} if good.any() else {}
    return {
        **mean,
        "workers/took_part": int(good.sum()),
        "workers/missed": tally.missed,
        "workers/rejected": tally.rejected,
    }
