"""The rounds of one method with one seed: measured, saved, stopped and begun again."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax.checkpoint import reading
from ist_jax.core.errors import InputError
from ist_jax.run import environment, faults, measure, metrics
from ist_jax.run.job import Job
from ist_jax.run.saving import RunCheckpoints
from ist_jax.run.schedule import Schedule
from ist_jax.run.signals import Stop, Stopped
from ist_jax.run.tally import Ledger, Tally
from ist_jax.run.team import Team
from ist_jax.run.watchdog import Watchdog
from ist_jax.sharded.state import State
from ist_jax.trainer import Report


class Measurement(NamedTuple):
    """A line of metrics, and what was measured: valid until the next round takes the state."""

    line: dict[str, Any]
    job: Job
    state: State


class RunContext(NamedTuple):
    """What the loops of all runs of a process share.

    Attributes:
      profiled: wraps what trains a round.
      see: hears every line of metrics; what it raises ends the run.
      quiet: it is not shown how far they are.
    """

    config: ConfigDict
    team: Team
    stop: Stop
    watchdog: Watchdog
    profiled: Callable[[Callable], Callable] = lambda advance: advance
    see: Callable[[dict[str, Any]], Any] = lambda line: None
    quiet: bool = False


def run(
    job: Job,
    name: str,
    seed: int,
    rounds: int,
    context: RunContext,
    checkpoints: RunCheckpoints | None,
    found: dict[str, Any] | None,
) -> Iterator[Measurement]:
    """A measurement at round 0, every few rounds, and at the end.

    ``time/train_s`` is training alone, without evaluation and saving, and without compilation if
    the job's program was compiled before.

    Args:
      checkpoints: where it is saved; nowhere if None.
      found: what ``RunCheckpoints.find`` found, to go on from; None to begin.

    Raises:
      InputError: a worker failed, or its loss is not finite, and the config does not have the run
        go on without it.
      Stopped: a signal asked for it, and the run is saved.
    """
    config, batches, title = context.config, job.batches(seed), f"{name}, seed {seed}"
    faults_of = faults.parse(config.faults, job.costs.workers, seed)
    drop, topic = config.on_worker_failure == "drop", f"{name} {seed}"
    train = functools.partial(train_round, batches, context.team, drop, topic)
    advance = context.profiled(train)
    schedule = Schedule(job, config.warm_up)
    state, tally = begin(schedule, seed, checkpoints, found)
    ledger = Ledger(tally, title, config.on_nonfinite == "drop")
    begun = done = int(state.round)
    while True:
        context.watchdog.at(f"{title}, round {done}")
        new, active = done > begun or found is None, schedule.active_job(done)
        measuring = done % config.eval_every == 0 or done == rounds
        stopping = context.stop.asked() and done < rounds  # every process asks after every round
        saving = new and checkpoints and (checkpoints.due(done) or stopping)
        score = None
        if measuring or saving:
            loss = ledger.settle(state, done)
        if measuring and new:
            measured = loss | metrics.existing(active.evaluate(state))
            place = name, seed, done, done * batches.local_steps
            last_bytes = job.costs.bytes_once if done == rounds else 0
            line = metrics_line(place, measured, tally, schedule.flops(done), last_bytes)
            score = measure.score(measured)
            yield Measurement(line, active, state)
        if saving and checkpoints:
            checkpoints.save(active, state, tally.stored(), score, last=stopping)
        if stopping:
            raise Stopped(f"{title} is saved after round {done}")
        if done == rounds:
            return
        if measuring or saving:
            ledger.start_clock()
        state = schedule.hand_over(done, state)
        state, report = advance(schedule.training_job(done), state, done, faults_of(done))
        ledger.add(report)
        if config.round_timeout_s:  # a round may begin before the last one is over, and no earlier
            ledger.wait_for_the_round_before()
        done += 1


def begin(
    schedule: Schedule, seed: int, checkpoints: RunCheckpoints | None, found: dict[str, Any] | None
) -> tuple[State, Tally]:
    """The state and the sums that a run begins with, or goes on from."""
    active = schedule.active_job(found["round"] if found else 0)
    if checkpoints is None or found is None:
        return active.state(seed), Tally()
    state = checkpoints.restore(found, active.trainer)
    return state, Tally.from_stored(found["about"]["tally"])


def metrics_line(
    place: tuple[str, int, int, int],
    measured: dict[str, Any],
    tally: Tally,
    flops: int,
    last_bytes: int,
) -> dict[str, Any]:
    """What is known of a run after a round.

    Args:
      place: method, seed, round and step.
      measured: loss and measures.
      last_bytes: what is sent once, after the last round.
    """
    return {
        **dict(zip(("method", "seed", "round", "step"), place, strict=True)),
        **measured,
        "comm/bytes_sent": tally.sent + last_bytes,
        "comm/bytes_received": tally.received,
        "compute/flops": flops,
        "time/train_s": tally.seconds,
        **environment.peak_memory(),
    }


def train_round(
    batches: Any,
    team: Team,
    drop_failed: bool,
    run: str,
    job: Job,
    state: State,
    number: int,
    faulty: faults.Faults,
) -> tuple[State, Report]:
    """A round; it takes as many times as long as its slowest worker here is made to."""
    own, took_part = provide(batches, team, drop_failed, run, job, number, faulty)
    started = time.perf_counter()
    state, report = job.trainer.round(state, took_part=took_part, **job.place(own))
    if (slowest := faulty.slowness[list(job.own)].max()) > 1:
        jax.block_until_ready(state)
        time.sleep((slowest - 1) * (time.perf_counter() - started))
    return state, report


def try_out(job: Job, name: str, config: ConfigDict, team: Team) -> None:
    """A round that is thrown away, so that the programs of training and saving are compiled."""
    if job.warm_up_job:
        try_out(job.warm_up_job, name, config, team)
    seed = config.seeds[0]
    none = faults.parse("", job.costs.workers, seed)(0)
    advance = functools.partial(
        train_round, job.batches(seed), team, config.on_worker_failure == "drop"
    )
    state, _ = advance(f"{name}, tried out", job, job.state(seed), 0, none)
    reading.digests(job.trainer.unsharded(state))


def provide(
    batches: Any,
    team: Team,
    drop_failed: bool,
    run: str,
    job: Job,
    number: int,
    faulty: faults.Faults,
) -> tuple[Any, np.ndarray | None]:
    """The batches of a process's own workers in a round, and who takes part.

    Raises:
      InputError: a worker fails, and ``drop_failed`` does not have the round go on without it.
    """
    lost = {int(worker): "config.faults" for worker in np.flatnonzero(faulty.dropped)}
    own = batches(number, lost)
    floats = [leaf for leaf in jax.tree.leaves(own["x"]) if np.issubdtype(leaf.dtype, np.floating)]
    for row in np.flatnonzero(faulty.spoilt[job.own]):
        if not floats:
            raise InputError("config.faults: nan spoils a number of a batch, and its are integers")
        floats[0][row] = np.nan
    for worker in () if drop_failed else sorted(lost):
        raise InputError(
            f"{run}: worker {worker} failed in round {number} ({lost[worker]}). With "
            "config.on_worker_failure='drop' the round goes on without it."
        )
    if not drop_failed:
        return own, None
    took_part = np.ones(job.costs.workers, bool)
    for of_process in team.share(f"{run}, lost in round {number}", sorted(lost)):
        took_part[of_process] = False
    return own, took_part
