"""Lottery tickets out of a finished run: filter distances, pruning, fine-tuning.

For each method and seed: how far the ranking of the filters is, in each checkpoint, from the one
before and from the last; then the last net is pruned to several sizes (config.lottery.pruned), by
the norms of its filters and at random, and each small net is trained on as an ordinary one for
config.lottery.epochs. At the end the sizes take turns at a gradient, timed.
Source: Dun et al., LoFT.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ist_jax import pruning
from ist_jax.checkpoint import Checkpoints
from ist_jax.core import strict_json
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.models.gcn import ENDS
from ist_jax.run import assemble, checks, compare, folder, planning, same_data, saving
from ist_jax.run.job import Job
from ist_jax.run.markdown import aligned, spread
from ist_jax.run.schedule import Schedule

BY = ("norms", "random")
KEY = ("method", "seed", "pruned", "by", "epochs", "lr")  # of a small net's line
TURNS = 5


def run(config: ConfigDict, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """All lines, of every method and seed, and the times of a step at the end.

    A small net's line is written as soon as it is known, and kept from an earlier time; distances
    and times are always found anew. Lines of methods and seeds that were not asked for stay.

    Raises:
      InputError: no finished run of this config, no checkpoints, or nothing that could be pruned.
    """
    checks.check(config)
    try:
        compare.same(config, (workdir / folder.CONFIG).read_text(), str(workdir))
    except OSError:
        raise InputError(f"{workdir} holds no run. Train one there first") from None
    if not (workdir / folder.SUMMARY).exists():
        raise InputError(f"{workdir} holds a run that is not finished: train on with --resume")
    runs = [(name, seed) for name in config.methods for seed in config.seeds]
    kept = {(name, seed): _kept(config, workdir, f"{name}_{seed}") for name, seed in runs}
    data = planning.load(config)
    same_data.check_data(config, workdir, data.sha256)
    placed: dict[Mesh, Any] = {}
    jobs = {name: assemble.build(config, data, name, placed) for name in config.methods}
    tickets = Tickets(config, data, placed)
    for group in ENDS:
        if any(group in job.costs.widths for job in jobs.values()):
            raise InputError(f"a lottery prunes hidden neurons; {group!r} are a group of this net")
    for share in config.lottery.pruned:
        for job in jobs.values():
            tickets.widths(job.costs.widths, share)
    path = workdir / folder.LOTTERY
    before = [line for line in _known(path) if "method" in line]
    others = [line for line in before if (line["method"], line.get("seed")) not in runs]
    known = {tuple(map(line.get, KEY)): line for line in before if "pruned" in line}
    lines: list[dict[str, Any]] = []
    there = [line for run in runs for key in tickets.asked(*run) if (line := known.get(key))]
    path.write_text("".join(strict_json.dumps(line, "a line") + "\n" for line in [*others, *there]))
    with path.open("a") as file:

        def add(**line: Any) -> None:
            lines.append(line)
            file.write(strict_json.dumps(line, "a line") + "\n")
            file.flush()

        for name, seed in runs:
            job = jobs[name]
            rankings: dict[int, Any] = {}
            for number, net in _nets(job, kept[name, seed], seed, config):
                rankings[number] = pruning.ranking(net, job.names)
            for line in _distances(rankings):
                add(method=name, seed=seed, **line)
            for key in tickets.asked(name, seed):
                if key in known:
                    lines.append(known[key])
                else:
                    found = tickets.trained_on(net, job, *key[1:4])
                    add(**dict(zip(KEY, key, strict=True)), **found)
        for line in tickets.times(jobs[config.methods[0]].costs.widths):
            add(**line)
    return lines


class Tickets:
    """Small nets that are trained on; those of one size share a program."""

    def __init__(self, config: ConfigDict, data: Any, placed: dict[Mesh, Any]):
        self._config, self._data, self._placed = config, data, placed
        self._jobs: dict[tuple[int, ...], Job] = {}

    def asked(self, name: str, seed: int) -> list[tuple]:
        """The ``KEY`` of each small net of a method and seed."""
        how = (self._config.lottery.epochs, self._config.lottery.lr)
        nets = [(0.0, BY[0]), *((share, by) for share in self._config.lottery.pruned for by in BY)]
        return [(name, seed, *net, *how) for net in nets]

    def widths(self, whole: dict[str, int], share: float) -> dict[str, int]:
        """What is left of each group.

        Raises:
          InputError: nothing.
        """
        stay = pruning.at_random(jax.random.key(0), whole, dict.fromkeys(whole, share))
        return {group: ids.shape[-1] for group, ids in stay.items()}

    def trained_on(self, net: Any, job: Job, seed: int, share: float, by: str) -> dict[str, Any]:
        """What a net comes to that is pruned, and what it comes to once it is trained on."""
        shares = dict.fromkeys(job.costs.widths, share)
        if by == "norms":
            stay = pruning.largest(net, job.names, shares)
        else:
            stay = pruning.at_random(jax.random.key(seed), job.costs.widths, shares)
        net, widths = pruning.prune(net, job.names, stay)
        small = self._job(widths)
        state = small.trainer.init(net, jax.random.key(seed))
        pruned, batches = small.evaluate(state), small.batches(seed)
        for number in range(assemble.rounds(self._small(widths), self._data)):
            state, _ = small.trainer.round(state, **small.place(batches(number, {})))
        return {
            "accuracy": pruned["accuracy/test"],
            "accuracy_tuned": small.evaluate(state)["accuracy/test"],
            "parameters": small.costs.net_parameters,
            "flops": small.costs.flops // self._config.local_steps,
        }

    def times(self, whole: dict[str, int]) -> Iterator[dict[str, Any]]:
        """Seconds of a local step of every size, the sizes taking turns."""
        shares = (0.0, *self._config.lottery.pruned)
        jobs = [self._job(self.widths(whole, share)) for share in shares]
        turns = [[job.step_s() for job in jobs] for _ in range(TURNS)]
        for share, job, seconds in zip(shares, jobs, zip(*turns, strict=True), strict=True):
            yield {"timed": share, "parameters": job.costs.net_parameters, "step_s": list(seconds)}

    def _job(self, widths: dict[str, int]) -> Job:
        size = tuple(widths.values())
        if size not in self._jobs:
            self._jobs[size] = assemble.build(
                self._small(widths), self._data, "single", self._placed
            )
        return self._jobs[size]

    def _small(self, widths: dict[str, int]) -> ConfigDict:
        small = self._config.copy_and_resolve_references()
        small.workers, small.warm_up, small.model.widths = 1, 0, ConfigDict(widths)
        small.epochs, small.optimizer.lr = small.lottery.epochs, small.lottery.lr
        small.optimizer.warm_up_steps = 0
        return small


def _known(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of an earlier time, none if they cannot be read."""
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return [line for line in found if isinstance(line, dict)]


def _distances(rankings: dict[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How far the filters' ranks are from those before and from the last, the mean over groups."""
    far = lambda a, b: float(np.mean([pruning.distance(a[group], b[group]) for group in a]))
    before, last = None, rankings[max(rankings)]
    for number, ranked in rankings.items():
        step = None if before is None else far(before, ranked)
        yield {"round": number, "distance": step, "distance_to_last": far(ranked, last)}
        before = ranked


def _kept(config: ConfigDict, workdir: pathlib.Path, name: str) -> Checkpoints:
    kept = Checkpoints(f"{saving.folder(config, workdir)}/{name}")
    if not kept.rounds():
        raise InputError(f"{kept.folder} holds no checkpoint: set config.checkpoint.every")
    return kept


def _nets(job: Job, kept: Checkpoints, seed: int, config: ConfigDict) -> Iterator[tuple[int, Any]]:
    """The net as it began and in each checkpoint, and the rounds it was trained for."""
    schedule = Schedule(job, config.warm_up)
    first = schedule.active_job(0)
    yield 0, jax.tree.map(np.asarray, first.trainer.unsharded(first.state(seed)).params)
    for number in sorted(kept.rounds()):
        shapes = schedule.active_job(number).trainer.shapes
        try:
            state = kept.restore(kept.check(number), shapes)
        except CheckpointError as error:
            raise InputError(str(error)) from None
        yield number, jax.tree.map(np.asarray, state.params)


def table(lines: list[dict[str, Any]]) -> str:
    """Accuracy after pruning and after training on, mean and spread over seeds."""
    rows = [
        ["method", "pruned", "by", "parameters", "FLOPs / step", "ms / step",
         "accuracy pruned (%)", "trained on (%)", "seeds"],
        ["---", "---:", "---"] + ["---:"] * 6,
    ]  # fmt: skip
    times = {x["timed"]: 1e3 * float(np.median(x["step_s"])) for x in lines if "timed" in x}
    places = [(x["method"], x["pruned"], x["by"]) for x in lines if "pruned" in x]
    for place in dict.fromkeys(places):
        some = [x for x in lines if tuple(map(x.get, ("method", "pruned", "by"))) == place]
        accuracies = [spread([x[key] for x in some]) for key in ("accuracy", "accuracy_tuned")]
        one = some[0]
        rows.append(
            [
                place[0],
                f"{place[1]:.0%}",
                place[2],
                f"{one['parameters']:,}",
                f"{one['flops'] / 1e6:.0f} M",
                f"{times[place[1]]:.1f}" if place[1] in times else "",
                *accuracies,
                str(len(some)),
            ]
        )
    return aligned(rows)
