"""All combinations of a sweep, trained one after another in this process, and what they come to."""

import contextlib
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from urllib.parse import quote

import jax
from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import (
    compare,
    lock,
    planning,
    programs,
    selection,
    sweep,
    sweep_plan,
    training,
)
from ist_jax.run.folder import CONFIG, METRICS, SUMMARY
from ist_jax.run.selection import BEST
from ist_jax.run.signals import Stop, Stopped
from ist_jax.run.sweep import Combination, Values

FRESH = f"{sweep.NAME}.new"  # about to take that file's place


def run(
    config: ConfigDict,
    given: Values,
    workdir: pathlib.Path,
    overwrite: bool = False,
    resume: bool = False,
    retrain: bool = False,
    command: str = "",
) -> None:
    """Leaves sweep.json in ``workdir``, and below it a run folder for each combination.

    Args:
      config: of all of them, but for the keys of the sweep.
      given: values of these (``sweep.parse``).
      retrain: also train what is picked for each method on all training data, in ``best-METHOD``.
      command: the words that started it, for ``summary.json``.

    Raises:
      InputError: a mistake in the config or a combination; or the folder holds something else.
      Stopped: a signal asked for it, and what was running is saved.
      CheckpointError: as a run.
    """
    order = sweep.combinations(given)
    configs = {one.name: sweep.applied(config, one.settings, one.name) for one in order}
    sweep_plan.check(order, configs)
    with contextlib.ExitStack() as until_the_end:
        there = workdir.is_dir()
        if there:
            until_the_end.enter_context(lock.held(workdir))
            _look(workdir, given, overwrite, resume)
        until_the_end.enter_context(programs.kept())
        stop = until_the_end.enter_context(Stop())
        shared = training.Shared(planning.load(config), stop)
        for one in order:  # before hours pass
            if not (resume and _finished(workdir, configs[one.name], one.name, shared)):
                sweep_plan.plan(one, configs[one.name], shared.data)
        if not there:
            until_the_end.enter_context(lock.held(workdir, make=True))
        _begin(workdir, config, given, overwrite)
        for number, one in enumerate(order, start=1):
            title = f"{one.name} ({number} of {len(order)})"
            how = workdir, title, overwrite, resume, command
            _train(configs[one.name], one.name, shared, *how)
        if retrain:
            _retrain(config, order, stop, workdir, command)
    print(selection.table(workdir))


def _look(workdir: pathlib.Path, given: Values, overwrite: bool, resume: bool) -> None:
    """Complains about what a folder holds."""
    names = {path.name for path in workdir.iterdir()} - {lock.NAME, FRESH}
    if not names:
        return
    if sweep.NAME not in names:
        held = "a run" if METRICS in names else sorted(names)[0]
        raise InputError(f"{workdir} holds {held} and no sweep. Choose a new --workdir.")
    if resume:
        sweep.same_keys(workdir, given)
    elif not overwrite:
        done = all((workdir / one.name / SUMMARY).exists() for one in sweep.read(workdir))
        raise InputError(
            f"{workdir} holds {'a finished' if done else 'an interrupted'} sweep. Choose another "
            "--workdir, go on with it (--resume), or replace it (--overwrite)."
        )


def _begin(workdir: pathlib.Path, config: ConfigDict, given: Values, overwrite: bool) -> None:
    """Writes ``sweep.json``; what an older sweep has left goes, if asked."""
    try:
        if overwrite and (workdir / sweep.NAME).exists():
            old = [workdir / one.name for one in sweep.read(workdir)]
            for folder in (*old, *workdir.glob(f"{BEST}*")):
                if (folder / CONFIG).exists():
                    shutil.rmtree(folder)
        fresh = workdir / FRESH
        fresh.write_text(sweep.stored(config, given))
        fresh.replace(workdir / sweep.NAME)
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error}") from None


def _finished(
    workdir: pathlib.Path, config: ConfigDict, name: str, shared: training.Shared
) -> bool:
    """Whether a folder holds this very run, from its first round to its last.

    Raises:
      InputError: it does, and of other data.
    """
    folder = workdir / name
    try:
        old = compare.flat(json.loads((folder / CONFIG).read_text()))
        digest = json.loads((folder / SUMMARY).read_text())["data"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    new = compare.flat(json.loads(compare.as_json(config)))
    if any(
        old.get(key) != new.get(key)
        for key in old.keys() | new.keys()
        if not key.startswith(sweep.IDLE)
    ):
        return False
    if digest != shared.data.sha256:
        raise InputError(
            f"{folder} was trained on other data: their SHA-256 was {digest}, now it is "
            f"{shared.data.sha256}"
        )
    return True


def _train(
    config: ConfigDict,
    name: str,
    shared: training.Shared,
    workdir: pathlib.Path,
    title: str,
    overwrite: bool,
    resume: bool,
    command: str,
) -> None:
    """One run, unless it is finished; its programs are forgotten, and stay in the cache."""
    if resume and _finished(workdir, config, name, shared):
        return
    if shared.stop.asked():
        raise Stopped(f"the sweep is stopped before {name}")
    print(title, file=sys.stderr, flush=True)
    training.run(config, workdir / name, overwrite, resume, command=command, shared=shared)
    jax.clear_caches()


def _retrain(
    config: ConfigDict,
    order: Sequence[Combination],
    stop: Stop,
    workdir: pathlib.Path,
    command: str,
) -> None:
    """What is picked for each method, trained on all training data with all seeds."""
    chosen = selection.pick(selection.of_sweep(workdir, order))
    settings = {one.words: one.settings for one in order}
    shared = None
    for method, one in chosen.items():
        if one.share == 1:
            print(f"{method}: nothing was held out of what it was trained on", file=sys.stderr)
            continue
        name = BEST + quote(method, safe=":.")
        whole = sweep.applied(config, settings[one.label], name)
        whole.methods, whole.data.validation = (method,), 0.0
        shared = shared or training.Shared(planning.load(whole), stop)
        same = _is_of(workdir / name, whole)
        how = workdir, f"{name}: {one.label}", not same, same, command
        _train(whole, name, shared, *how)


def _is_of(folder: pathlib.Path, config: ConfigDict) -> bool:
    """Whether a folder holds a run of this config that can go on."""
    try:
        compare.same(config, (folder / CONFIG).read_text(), str(folder))
    except (OSError, InputError):
        return False
    return True
