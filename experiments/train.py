"""One experiment from top to bottom: every method with every seed, measured alike."""

import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import build, check, report
from experiments.team import Team
from ist_jax import cost
from ist_jax import data as datasets
from ist_jax.errors import InputError
from ist_jax.round import Report

CONFIG, METRICS, SUMMARY = "config.json", report.METRICS, report.SUMMARY
FIGURE, TENSORBOARD = report.FIGURES[0], "tensorboard"


ALONE = Team()


def run(
    config: ConfigDict, workdir: pathlib.Path, overwrite: bool = False, team: Team = ALONE
) -> None:
    """Leaves config.json, metrics.jsonl, summary.json and accuracy.png in ``workdir``.

    Of a team, the first process writes them, and the others only train.
    """
    with team.together("data"):  # one process may lack it, and the next step needs all of them
        check.check(config)
        data = datasets.load(config.data.name, config.data.path)
        boards = tensorboards(workdir / TENSORBOARD, config.tensorboard and team.first)
    jobs = build.jobs(config, data)
    with team.together("folder"):
        if team.first:
            claim(workdir, overwrite)
            (workdir / CONFIG).write_text(config.to_json_best_effort(indent=2) + "\n")

    rounds = build.rounds(config, data)
    runs = [(name, seed) for seed in config.seeds for name in jobs]
    for job in jobs.values():  # a round each, thrown away: no clock below sees a compilation
        batches = job.place(job.batches(config.seeds[0])(0))
        job.trainer.round(job.state(config.seeds[0]), batches)
    plans = {name: job.plan for name, job in jobs.items()}
    progress = Progress([plans[name].flops * plans[name].workers * rounds for name, _ in runs])
    with (workdir / METRICS if team.first else pathlib.Path(os.devnull)).open("w") as metrics:
        for number, (name, seed) in enumerate(runs):
            board = boards(f"{name}_{seed}")
            for line in train(jobs[name], name, seed, rounds, config.eval_every):
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
                board(line)
                if team.first:
                    progress.show(number, line["round"] / rounds, line)
    if not team.first:
        return
    progress.end()

    summary = {
        "config": config.to_dict(),
        "plans": {name: plan._asdict() for name, plan in plans.items()},
        "results": report.results(workdir / METRICS),
        "environment": {"jax": jax.__version__, "devices": [str(d) for d in jax.devices()]},
    }
    (workdir / SUMMARY).write_text(json.dumps(summary, indent=2, default=str) + "\n")
    print(report.table([workdir]))
    print(f"\nfigure: {report.figure([workdir], workdir / FIGURE)}")


def train(
    job: build.Job, name: str, seed: int, rounds: int, eval_every: int
) -> Iterator[dict[str, Any]]:
    """One method with one seed: a line of metrics at round 0, every few rounds, and at the end.

    ``time/train_s`` is training alone, without evaluation, and without compilation if the job's
    program was compiled before (``run`` does that).

    Raises:
      InputError: a loss that is not finite, naming the method, the worker and the round.
    """
    state, batches = job.state(seed), job.batches(seed)
    reports: list[Report] = []
    sent = received = 0
    seconds, since = 0.0, time.perf_counter()
    for done in range(rounds + 1):
        if done % eval_every == 0 or done == rounds:
            jax.block_until_ready(state)
            seconds += time.perf_counter() - since
            sent += sum(int(r.bytes_sent.max()) for r in reports)
            received += sum(int(r.bytes_received.max()) for r in reports)
            yield {
                "method": name,
                "seed": seed,
                "round": done,
                "step": done * batches.local_steps,
                **_losses(reports, name, seed, done),
                "accuracy/test": job.evaluate(state),
                "comm/bytes_sent": sent + (job.plan.bytes_once if done == rounds else 0),
                "comm/bytes_received": received,
                "compute/flops": job.plan.flops * done,
                "time/train_s": round(seconds, 4),
            }
            reports, since = [], time.perf_counter()
        if done < rounds:
            state, report = job.trainer.round(state, job.place(batches(done)))
            reports.append(report)


def plan(config: ConfigDict) -> str:
    """What would be trained, without training: groups, subnets, bytes and FLOPs of each method."""
    check.check(config)
    data = datasets.load(config.data.name, config.data.path)
    rounds = build.rounds(config, data)
    jobs = build.jobs(config, data)
    plans = {name: job.plan for name, job in jobs.items()}
    lines = [
        f"{data.name}: {len(data.train_x)} training and {len(data.test_x)} test examples of shape "
        f"{data.train_x.shape[1:]}, {data.classes} classes",
        f"{config.workers} workers, {rounds} rounds of {config.local_steps} steps, batch "
        f"{config.data.batch}, seeds {tuple(config.seeds)}",
    ]
    for name, p in plans.items():
        groups = ", ".join(f"{g} {n} -> {p.sub_widths[g]}" for g, n in p.widths.items())
        lines.append(f"{name}: {groups}")
    told = "\n".join(lines) + "\n\n" + report.plan_table(plans, rounds)
    if not config.link_gbps:
        return told
    link = cost.Link(config.link_gbps * 1e9 / 8, config.link_latency_ms / 1e3)
    compute = {name: config.local_steps * job.step_s() for name, job in jobs.items()}
    exchanged = {name: job.exchanged() for name, job in jobs.items()}
    return f"{told}\n\n{report.time_table(compute, exchanged, link)}"


def claim(workdir: pathlib.Path, overwrite: bool) -> None:
    """Makes the run folder; a run that is in it already is replaced only if asked.

    Raises:
      InputError: the folder holds a run, or something else, or cannot be made or written.
    """
    metrics = workdir / METRICS
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in workdir.iterdir())
        if strangers and not metrics.exists():
            raise InputError(f"{workdir} holds {strangers[0]} and no run. Choose a new --workdir.")
        if strangers and metrics.stat().st_size and not overwrite:
            kind = "a finished" if (workdir / SUMMARY).exists() else "an interrupted"
            raise InputError(
                f"{workdir} holds {kind} run. Choose another --workdir, or replace it with "
                "--overwrite."
            )
        for old in (SUMMARY, CONFIG, FIGURE):
            (workdir / old).unlink(missing_ok=True)
        shutil.rmtree(workdir / TENSORBOARD, ignore_errors=True)
        metrics.write_text("")
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error}") from None


class Progress:
    """One line that says how far, how long still, and the newest accuracy.

    Runs count by the FLOPs they take, so that the time left is right when methods differ.
    """

    def __init__(self, costs: list[int]):
        self._costs, self._started = costs, time.monotonic()
        self._live = sys.stderr.isatty()

    def show(self, number: int, part: float, line: dict) -> None:
        share = (sum(self._costs[:number]) + part * self._costs[number]) / sum(self._costs)
        gone = time.monotonic() - self._started
        left = f"{gone * (1 - share) / share:4.0f} s left" if share > 0.01 else "   ? s left"
        text = (
            f"{share:4.0%} {left}  {line['method']:<14} seed {line['seed']}  "
            f"round {line['round']:>4}  accuracy {line['accuracy/test']:.4f}"
        )
        if self._live:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
        elif part == 1:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live:
            print(file=sys.stderr)


def tensorboards(
    folder: pathlib.Path, wanted: bool
) -> Callable[[str], Callable[[dict[str, Any]], None]]:
    """``run -> line -> None``: writes the numbers of a metrics line, if that is wanted.

    Raises:
      InputError: it is, and tensorboardX is not installed.
    """
    if not wanted:
        return lambda run: lambda line: None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "config.tensorboard needs tensorboardX: pip install tensorboardX"
        ) from None

    def board(run: str) -> Callable[[dict[str, Any]], None]:
        writer = SummaryWriter(str(folder / run))

        def write(line: dict[str, Any]) -> None:
            for key, value in line.items():
                if "/" in key:
                    writer.add_scalar(key, value, line["step"])
            writer.flush()

        return write

    return board


def _losses(reports: list[Report], name: str, seed: int, done: int) -> dict[str, Any]:
    """The newest round's mean loss over the workers that took part, and how many they were."""
    if not reports:
        return {}
    losses = np.stack([np.where(r.took_part, r.loss, 0) for r in reports])
    if not np.isfinite(losses).all():
        at, worker = np.argwhere(~np.isfinite(losses))[0]
        raise InputError(
            f"{name}, seed {seed}: the loss of worker {worker} is {losses[at, worker]} in round "
            f"{done - len(reports) + int(at)}. A smaller config.optimizer.lr, or "
            "config.optimizer.clip, may help."
        )
    took_part = int(reports[-1].took_part.sum())
    return {"loss/train": float(losses[-1].sum() / took_part), "workers/took_part": took_part}
