"""Lottery tickets out of a finished run: filter distances, pruning, fine-tuning.

    python -m experiments.main --config=configs/fashion_loft.py --workdir=runs/fashion_loft
    python -m experiments.lottery --config=configs/fashion_loft.py --workdir=runs/fashion_loft

For each method and seed of the run in --workdir: how far the ranking of the filters is, in each of
its checkpoints, from the one before and from the last; then the last net is pruned to several sizes
(config.lottery.pruned), by the norms of its filters and at random, and each small net is trained on
as an ordinary one for config.lottery.epochs. All of it goes to lottery.jsonl in that folder; what
is there already is not done again.
Source: Dun et al., LoFT.
"""

import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict

from experiments import build, check, command, compare, train
from experiments.command import CONFIG, WORKDIR, mistake
from experiments.keep import FOLDER
from experiments.markdown import aligned, spread
from ist_jax import lottery
from ist_jax.checkpoint import Checkpoints
from ist_jax.errors import CheckpointError, InputError

flags.adopt_module_key_flags(command)
LINES = "lottery.jsonl"
BY = ("norms", "random")


def run(config: ConfigDict, workdir: pathlib.Path) -> list[dict[str, Any]]:
    """All lines, of every method and seed; each is written as soon as it is known, and those of a
    method and seed that are complete are kept.

    Raises:
      InputError: no finished run of this config, no checkpoints, or nothing that could be pruned.
    """
    check.check(config)
    try:
        compare.same(config, (workdir / train.CONFIG).read_text(), str(workdir))
    except OSError:
        raise InputError(f"{workdir} holds no run. Make it first: experiments.main") from None
    if not (workdir / train.SUMMARY).exists():
        raise InputError(f"{workdir} holds a run that is not finished: experiments.main --resume")
    runs = [(name, seed) for name in config.methods for seed in config.seeds]
    kept = {(name, seed): _kept(config, workdir, f"{name}_{seed}") for name, seed in runs}
    data = train.load(config)
    tune = _tuner(config, data)
    jobs = {name: build.build(config, data, name) for name in config.methods}
    before = _known(workdir / LINES)
    found = {run: _complete(before, *run, kept[run].rounds(), config) for run in runs}
    lines = [line for run in runs for line in found[run]]
    with (workdir / LINES).open("w") as file:
        others = [line for line in before if (line.get("method"), line.get("seed")) not in runs]
        file.writelines(json.dumps(line) + "\n" for line in [*others, *lines])
        for name, seed in [run for run in runs if not found[run]]:
            for line in _of(jobs[name], config, kept[name, seed], seed, tune):
                lines.append({"method": name, "seed": seed, **line})
                file.write(json.dumps(lines[-1]) + "\n")
                file.flush()
    return lines


def _known(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of an earlier time, none if they cannot be read."""
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return [line for line in found if isinstance(line, dict)]


def _complete(
    lines: list[dict[str, Any]], name: str, seed: int, rounds: Sequence[int], config: ConfigDict
) -> list[dict[str, Any]]:
    """Those of a method and seed, if they are all that this config asks for."""
    mine = [line for line in lines if (line.get("method"), line.get("seed")) == (name, seed)]
    nets = {tuple(map(x.get, ("pruned", "by", "epochs", "lr"))) for x in mine if "pruned" in x}
    asked = [(0.0, "norms"), *((share, by) for share in config.lottery.pruned for by in BY)]
    how = (config.lottery.epochs, config.lottery.lr)
    there = {line["round"] for line in mine if "round" in line}
    return mine if nets == {(*net, *how) for net in asked} and there == set(rounds) else []


def _of(
    job: build.Job,
    config: ConfigDict,
    kept: Checkpoints,
    seed: int,
    tune: Callable[[Any, dict[str, int], int], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    nets = dict(_nets(job, kept))
    rankings = {number: lottery.ranking(net, job.names) for number, net in nets.items()}
    last = max(nets)
    before = None
    for number, ranked in rankings.items():
        yield {
            "round": number,
            "distance": None if before is None else _far(before, ranked),
            "distance_to_last": _far(ranked, rankings[last]),
        }
        before = ranked
    net, widths = nets[last], job.plan.widths
    for share in (0.0, *config.lottery.pruned):
        shares = dict.fromkeys(widths, share)
        ways = {"norms": lottery.largest(net, job.names, shares)}
        if share:
            ways["random"] = lottery.at_random(jax.random.key(seed), widths, shares)
        for way, stay in ways.items():
            small, left = lottery.prune(net, job.names, stay)
            yield {"pruned": share, "by": way, **tune(small, left, seed)}


def _far(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The mean over the groups of how far their rankings went."""
    return float(np.mean([lottery.distance(before[group], after[group]) for group in before]))


def _kept(config: ConfigDict, workdir: pathlib.Path, name: str) -> Checkpoints:
    kept = Checkpoints(f"{config.checkpoint.folder or workdir / FOLDER}/{name}")
    if not kept.rounds():
        raise InputError(f"{kept.folder} holds no checkpoint: set config.checkpoint.every")
    return kept


def _nets(job: build.Job, kept: Checkpoints) -> Iterator[tuple[int, Any]]:
    """The net in each checkpoint, the oldest first."""
    for number in sorted(kept.rounds()):
        try:
            state = kept.restore(kept.check(number), job.trainer.shapes)
        except CheckpointError as error:
            raise InputError(str(error)) from None
        yield number, jax.tree.map(np.asarray, state.params)


def _tuner(config: ConfigDict, data: Any) -> Callable[[Any, dict[str, int], int], dict[str, Any]]:
    """Trains a small net on; nets of one size share a program."""
    jobs: dict[tuple[int, ...], tuple[build.Job, ConfigDict, float]] = {}

    def small_job(widths: dict[str, int]) -> tuple[build.Job, ConfigDict, float]:
        size = tuple(widths.values())
        if size not in jobs:
            small = config.copy_and_resolve_references()
            small.workers, small.warm_up = 1, 0
            small.model.widths = ConfigDict(widths)
            small.epochs, small.optimizer.lr = config.lottery.epochs, config.lottery.lr
            job = build.build(small, data, "single")
            jobs[size] = job, small, job.step_s()
        return jobs[size]

    def tune(net: Any, widths: dict[str, int], seed: int) -> dict[str, Any]:
        job, small, step_s = small_job(widths)
        state = job.trainer.init(net, jax.random.key(seed))
        pruned, batches = job.evaluate(state), job.batches(seed)
        for number in range(build.rounds(small, data)):
            state, _ = job.trainer.round(state, **job.place(batches(number, {})))
        return {
            "epochs": config.lottery.epochs,
            "lr": config.lottery.lr,
            "accuracy": pruned["accuracy/test"],
            "accuracy_tuned": job.evaluate(state)["accuracy/test"],
            "parameters": job.plan.net_parameters,
            "flops": job.plan.flops // config.local_steps,
            "step_s": step_s,
        }

    return tune


def table(lines: list[dict[str, Any]]) -> str:
    """Accuracy after pruning and after training on, mean and spread over seeds."""
    rows = [
        ["method", "pruned", "by", "parameters", "FLOPs / step", "ms / step",
         "accuracy pruned (%)", "trained on (%)", "seeds"],
        ["---", "---:", "---"] + ["---:"] * 6,
    ]  # fmt: skip
    places = [(x["method"], x["pruned"], x["by"]) for x in lines if "pruned" in x]
    for place in dict.fromkeys(places):
        some = [x for x in lines if (x["method"], x.get("pruned"), x.get("by")) == place]
        accuracies = [spread([x[key] for x in some]) for key in ("accuracy", "accuracy_tuned")]
        one = some[0]
        rows.append(
            [
                place[0],
                f"{place[1]:.0%}",
                place[2],
                f"{one['parameters']:,}",
                f"{one['flops'] / 1e6:.0f} M",
                f"{1e3 * one['step_s']:.1f}",
                *accuracies,
                str(len(some)),
            ]
        )
    return aligned(rows)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)
    if wrong := command.unasked(argv, "configs/fashion_loft.py"):
        return mistake(wrong)
    if not WORKDIR.value:
        return mistake("--workdir is missing: the folder of a finished run")
    try:
        print(table(run(CONFIG.value, pathlib.Path(WORKDIR.value))))
    except InputError as error:
        return mistake(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=command.parse)
