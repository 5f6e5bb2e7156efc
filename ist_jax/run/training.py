"""One experiment from top to bottom: every method with every seed, measured alike."""

import contextlib
import os
import pathlib
import shutil
from typing import Any

from ml_collections import ConfigDict

from ist_jax import data as datasets
from ist_jax.core.errors import InputError
from ist_jax.cost import timing
from ist_jax.run import (
    assemble,
    checks,
    compare,
    environment,
    lock,
    loop,
    profiling,
    report,
    same_data,
    saving,
    summary,
)
from ist_jax.run import trackers as tracking
from ist_jax.run.loop import RunContext
from ist_jax.run.metrics import UNWRITTEN, Metrics
from ist_jax.run.progress import Progress
from ist_jax.run.signals import Stop
from ist_jax.run.team import Team
from ist_jax.run.watchdog import Watchdog

CONFIG, METRICS, SUMMARY = "config.json", report.METRICS, report.SUMMARY
LOTTERY = "lottery.jsonl"  # of the command lottery, about the run
FOLDERS = (saving.FOLDER, profiling.FOLDER, *tracking.TRACKERS)
FILES = (CONFIG, METRICS, UNWRITTEN, SUMMARY, LOTTERY, *report.FIGURES)  # of a run folder
A_DAY = 24 * 3600  # seconds to wait for a process that reads data or checks a checkpoint
ALONE = Team()


def run(
    config: ConfigDict,
    workdir: pathlib.Path,
    overwrite: bool = False,
    resume: bool = False,
    team: Team = ALONE,
    command: str = "",
    profile: profiling.Span | None = None,
) -> None:
    """Leaves config.json, metrics.jsonl, checkpoints, summary.json and accuracy.png in ``workdir``.

    Of a team, the first process writes them, and the others only train.

    Args:
      command: the words that started it, for ``summary.json``; empty if no command did.
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
            data = load(config)
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
        with Stop(team.size > 1) as stop, Watchdog(config.round_timeout_s, team) as watchdog:
            context = RunContext(config, team, stop, watchdog)
            profile = profile if team.first else None
            train(jobs, rounds, workdir, data.sha256, context, trackers, overwrite, resume, profile)
        if team.first:
            summary.write(config, data, jobs, workdir, command, hosts)


def train(
    jobs: dict[str, assemble.Job],
    rounds: int,
    workdir: pathlib.Path,
    data: str,
    context: RunContext,
    trackers: tracking.Chosen,
    overwrite: bool,
    resume: bool,
    profile: profiling.Span | None,
) -> None:
    """Every method with every seed, one after another; ``data`` is the digest of what they see."""
    config, team = context.config, context.team
    for name, job in jobs.items():  # a round each, thrown away: no clock below sees a compilation
        loop.try_out(job, name, config, team)
    runs = [(name, seed) for seed in config.seeds for name in jobs]
    metrics = Metrics(workdir / METRICS if team.first else None, keep=resume)
    costs = [jobs[name].costs.flops * jobs[name].costs.workers * rounds for name, _ in runs]
    progress, effort = Progress(costs), saving.Effort()
    for number, (name, seed) in enumerate(runs):
        checkpoints = saving.RunCheckpoints(config, workdir, name, seed, rounds, effort, team, data)
        measured = metrics.rounds(name, seed)
        find = lambda c=checkpoints, m=measured: c.find(m) if resume else c.begin(overwrite)
        found = team.decided(f"{name} {seed}", find, patience=A_DAY)
        if found == saving.DONE:
            continue
        metrics.cut(name, seed, found["round"] if found else -1)
        with (
            tracking.tracking(trackers, config, workdir, f"{name}_{seed}") as track,
            profiling.tracing(profile, workdir / profiling.FOLDER) as profiled,
        ):
            own, profile = context._replace(profiled=profiled), None  # of the first run alone
            for line in loop.run(jobs[name], name, seed, rounds, own, checkpoints, found):
                with checkpoints.stop_or_go_on():
                    metrics.write(line)
                track(line)
                if team.first:
                    progress.show(number, line["round"] / rounds, line)
        checkpoints.close()
    metrics.write()
    if team.first:
        progress.end(effort)


def load(config: ConfigDict) -> Any:
    """The config's data."""
    given = config.data
    options = {"skip_bad": given.skip_bad, "cache": given.cache, **given.options}
    return datasets.load(given.name, given.path, **options)


def dry_run(config: ConfigDict) -> str:
    """What would be trained, without training: groups, subnets, bytes and FLOPs of each method.

    Data that are not here are taken to be as large as published.
    """
    checks.check(config)
    try:
        data, missing = load(config), []
    except InputError as error:
        data = datasets.outline(config.data.name, config.data.options.get("size"))
        if data is None or config.data.path:  # a folder that is named should be there
            raise
        missing = [f"cannot be trained here: {str(error).splitlines()[0]}"]
    rounds = assemble.rounds(config, data)
    jobs = assemble.jobs(config, data)
    plans = {name: job.costs for name, job in jobs.items()}
    lines = [
        *missing,
        f"{data.name} ({data.origin}): {data.examples} training and {len(data.test_x)} test "
        f"examples, {data.classes} classes",
        f"{config.workers} workers, {rounds} rounds of {config.local_steps} steps, batch "
        f"{config.data.batch}, seeds {tuple(config.seeds)}",
    ]
    for name, p in plans.items():
        groups = ", ".join(f"{g} {p.widths[g]} -> {n}" for g, n in p.sub_widths.items())
        lines.append(f"{name}: {groups}")
    text = "\n".join(lines) + "\n\n" + report.plan_table(plans, rounds)
    if not config.link_gbps:
        return text
    link = timing.Link(config.link_gbps * 1e9 / 8, config.link_latency_ms / 1e3)
    compute = {name: config.local_steps * job.step_s() for name, job in jobs.items()}
    exchanged = {name: job.exchanged() for name, job in jobs.items()}
    return f"{text}\n\n{report.time_table(compute, exchanged, link)}"


def claim(workdir: pathlib.Path, config: ConfigDict, overwrite: bool, resume: bool) -> None:
    """Takes the run folder; a run that is in it already goes on, or is replaced, if asked.

    Raises:
      InputError: the folder holds a run, or another one than is to go on, or something else; or it
        cannot be written.
    """
    metrics = workdir / METRICS
    try:
        _look(workdir, overwrite, resume)
        if resume and (workdir / CONFIG).exists():
            compare.same(config, (workdir / CONFIG).read_text(errors="replace"), str(workdir))
        for old in (SUMMARY, report.FIGURES[0]):
            (workdir / old).unlink(missing_ok=True)
        if not resume:
            for folder in FOLDERS:
                shutil.rmtree(workdir / folder, ignore_errors=True)
            (workdir / LOTTERY).unlink(missing_ok=True)
            metrics.write_text("")
        metrics.touch()
        (workdir / CONFIG).write_text(compare.as_json(config, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error}") from None


def _look(workdir: pathlib.Path, overwrite: bool, resume: bool) -> None:
    """Complains about what a folder holds."""
    ours = {*FILES, *FOLDERS}
    names = {path.name for path in workdir.iterdir()} - {lock.NAME}
    strangers = sorted(names if CONFIG not in names else names - ours)
    if METRICS not in names and strangers:
        raise InputError(f"{workdir} holds {strangers[0]} and no run. Choose a new --workdir.")
    for name in sorted(names & ours):
        if (workdir / name).is_dir() != (name in FOLDERS):
            raise InputError(
                f"{workdir / name} must be a {'folder' if name in FOLDERS else 'file'}"
            )
    measured = METRICS in names and (workdir / METRICS).stat().st_size > 0
    saved = saving.FOLDER in names and any((workdir / saving.FOLDER).iterdir())
    if resume and saved and not measured:
        raise InputError(
            f"{workdir} holds checkpoints, but {METRICS} is empty or missing: a run cannot go on "
            f"without its measurements. Put {METRICS} back, or start again (--overwrite)."
        )
    if (measured or saved or SUMMARY in names) and not (overwrite or resume):
        kind = "a finished" if SUMMARY in names else "an interrupted"
        raise InputError(
            f"{workdir} holds {kind} run. Choose another --workdir, go on with it (--resume), "
            "or replace it (--overwrite)."
        )
