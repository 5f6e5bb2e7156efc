"""One experiment from top to bottom: every method with every seed, measured alike."""

import contextlib
import os
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ist_jax.run import (
    assemble,
    checks,
    environment,
    lock,
    loop,
    planning,
    profiling,
    same_data,
    saving,
    summary,
)
from ist_jax.run import trackers as tracking
from ist_jax.run.folder import METRICS, claim
from ist_jax.run.job import Job
from ist_jax.run.loop import RunContext
from ist_jax.run.metrics import Metrics
from ist_jax.run.progress import Progress
from ist_jax.run.signals import Stop
from ist_jax.run.tally import Diverged
from ist_jax.run.team import Team
from ist_jax.run.watchdog import Watchdog

A_DAY = 24 * 3600  # seconds to wait for a process that reads data or checks a checkpoint
ALONE = Team()


class Shared(NamedTuple):
    """What the runs of a sweep have in common; of one that diverges, the others go on."""

    data: Any
    stop: Stop


def run(
    config: ConfigDict,
    workdir: pathlib.Path,
    overwrite: bool = False,
    resume: bool = False,
    team: Team = ALONE,
    command: str = "",
    shared: Shared | None = None,
    profile: profiling.Span | None = None,
) -> None:
    """Leaves config.json, metrics.jsonl, checkpoints, summary.json and accuracy.png in ``workdir``.

    Of a team, the first process writes them, and the others only train.

    Args:
      command: the words that started it, for ``summary.json``; empty if no command did.
      shared: of the sweep that it is a run of; neither table nor figure is made then.
      profile: rounds of the first run that the first process writes a profile of.

    Raises:
      InputError: a mistake in the config; or the folder is in use, or holds something else.
      Stopped: a signal asked for it, and the run is saved.
      CheckpointError: a checkpoint could not be written, and ``checkpoint.on_error`` is "stop".
    """
    with contextlib.ExitStack() as until_the_end:
        there = os.path.isdir(workdir)
        with team.together("lock"):
            if team.first and there:
                until_the_end.enter_context(lock.held(workdir))
        with team.together("data", A_DAY):  # one may lack it, and the next step needs all of them
            checks.check(config)
            data = shared.data if shared else planning.load(config)
            rounds = assemble.rounds(config, data)
            profiling.check(profile, rounds)
            trackers = tracking.chosen(config) if team.first else {}
        same_data.check_team(team, data.sha256)
        hosts = team.share("hosts", environment.host())
        jobs = assemble.jobs(config, data)
        with team.together("folder", A_DAY):
            if team.first:
                if not there:
                    until_the_end.enter_context(lock.held(workdir, make=True))
                if resume:
                    same_data.check_data(config, workdir, data.sha256)
                claim(workdir, config, overwrite, resume)
        own = contextlib.nullcontext(shared.stop) if shared else Stop(team.size > 1)
        with own as stop, Watchdog(config.round_timeout_s, team) as watchdog:
            context = RunContext(config, team, stop, watchdog)
            how = overwrite, resume, shared is not None, profile if team.first else None
            diverged = train(jobs, rounds, workdir, data.sha256, context, trackers, *how)
        if team.first:
            summary.write(config, data, jobs, workdir, command, hosts, diverged)
            if not shared:
                summary.show(workdir)


def train(
    jobs: dict[str, Job],
    rounds: int,
    workdir: pathlib.Path,
    data: str,
    context: RunContext,
    trackers: tracking.Chosen,
    overwrite: bool,
    resume: bool,
    tolerant: bool = False,
    profile: profiling.Span | None = None,
) -> dict[str, str]:
    """Every method with every seed, one after another; ``data`` is the digest of what they see.

    Returns:
      Those that diverged, and why; unless ``tolerant``, the first that does ends all.
    """
    config, team = context.config, context.team
    for name, job in jobs.items():  # a round each, thrown away: no clock below sees a compilation
        loop.try_out(job, name, config, team)
    runs = [(name, seed) for seed in config.seeds for name in jobs]
    metrics = Metrics(workdir / METRICS if team.first else None, keep=resume)
    costs = [jobs[name].costs.flops * jobs[name].costs.workers * rounds for name, _ in runs]
    progress, effort = Progress(costs, context.quiet), saving.Effort()
    diverged: dict[str, str] = {}
    for number, (name, seed) in enumerate(runs):
        checkpoints = saving.RunCheckpoints(config, workdir, name, seed, rounds, effort, team, data)
        measured = metrics.rounds(name, seed)
        find = lambda c=checkpoints, m=measured: c.find(m) if resume else c.begin(overwrite)
        found = team.decided(f"{name} {seed}", find, patience=A_DAY)
        if found == saving.DONE:
            continue
        metrics.cut(name, seed, found["round"] if found else -1)
        try:
            with (
                tracking.tracking(trackers, config, workdir, f"{name}_{seed}") as track,
                profiling.tracing(profile, workdir / profiling.FOLDER) as profiled,
            ):
                own, profile = context._replace(profiled=profiled), None  # of the first run alone
                for line, *_ in loop.run(jobs[name], name, seed, rounds, own, checkpoints, found):
                    with checkpoints.stop_or_go_on():
                        metrics.write(line)
                    track(line)
                    context.see(line)
                    if team.first:
                        progress.show(number, line["round"] / rounds, line)
        except Diverged as error:
            if not tolerant:
                raise
            diverged[f"{name}, seed {seed}"] = str(error)
        checkpoints.close()
    metrics.write()
    if team.first:
        progress.end(effort)
    return diverged
