"""What the command line has trained: a run folder as a ``Run``; no data are needed."""

import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from ist_jax.checkpoint import Checkpoints
from ist_jax.core import by_name
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.models import OTHER_MODELS
from ist_jax.models.ensemble import MEMBERS, Ensemble
from ist_jax.run import folder, lock, report, saving, schema, sweep, upgrade, values
from ist_jax.run.tasks import task as parts
from ist_jax.run.trained import Run

PYTHON = "python"  # the name of a model that ``ist_jax.fit`` was handed


def read(workdir: pathlib.Path, method: str | None, seed: int | None, allow_code: bool) -> Run:
    """As ``ist_jax.load``."""
    config, about = _config(workdir), summary(workdir)
    name, number = _which(config, workdir, method, seed)
    if config.model.name == PYTHON:
        raise InputError(
            f"{workdir} was trained by ist_jax.fit, which was handed its model: call fit as then, "
            "with workdir and resume=True, and it gives the run back"
        )
    for word in (config.model.name, name):
        if by_name.is_theirs(word) and not allow_code:
            raise InputError(
                f"{workdir} names code of somebody's own, {word!r}. It is run only with "
                "allow_code=True: give that if you trust who wrote it"
            )
    kept = Checkpoints(f"{saving.folder(config, workdir)}/{name}_{number}")
    saved = kept.rounds()
    if not saved:
        raise InputError(f"{kept.folder} holds no checkpoint: it was moved, or not kept")
    try:
        gains = kept.about(saved[0])["about"].get("gains", {})
    except CheckpointError as error:
        raise InputError(str(error)) from None
    example = _example(about["data"])
    lines = report.read(workdir / folder.METRICS).get((name, number), [])
    return Run(
        name,
        number,
        _model(config, name, about["data"]["classes"], example, gains),
        lambda: kept.net(saved[0]),
        lines,
        example,
    )


def _config(workdir: pathlib.Path) -> ConfigDict:
    path = workdir / folder.CONFIG
    if (workdir / sweep.NAME).is_file():
        raise InputError(
            f"{workdir} is a sweep, whose runs are folders in it: ist-jax report {workdir} says "
            "which is picked. Load that one"
        )
    if not path.is_file():
        raise InputError(f"{workdir} is no run folder: it holds no {folder.CONFIG}")
    if owner := lock.owner(workdir):
        raise InputError(f"{workdir} is still going ({owner}): load it when it is over")
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path} cannot be read") from None
    config = upgrade.config_of(stored)
    values.check(schema.default(), config)
    values.check_widths(config.model.widths)
    return config


def summary(workdir: pathlib.Path) -> dict[str, Any]:
    """What a finished run has said of itself.

    Raises:
      InputError: it is not finished, or cannot be read.
    """
    path = workdir / folder.SUMMARY
    if not path.is_file():
        raise InputError(
            f"{workdir} holds a run that is not finished: go on with it (train --resume) first"
        )
    try:
        found = json.loads(path.read_text())
        if isinstance(found["data"]["classes"], int):
            return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path} cannot be read")


def _which(
    config: ConfigDict, workdir: pathlib.Path, method: str | None, seed: int | None
) -> tuple[str, int]:
    """The method and the seed meant: those asked for, or the only ones there are."""
    found: list[Any] = []
    for what, asked, there in (("method", method, config.methods), ("seed", seed, config.seeds)):
        if asked is None and len(there) > 1:
            raise InputError(f"{workdir} holds more than one {what}: {what}= one of {tuple(there)}")
        if asked is not None and asked not in there:
            raise InputError(f"{workdir} holds no {what} {asked!r}; it has {tuple(there)}")
        found.append(there[0] if asked is None else asked)
    return found[0], found[1]


def _model(
    config: ConfigDict,
    name: str,
    classes: int,
    example: tuple[tuple[int, ...], str] | None,
    gains: dict[str, float],
) -> Any:
    """The whole net's, as it is asked; None of nets whose inputs are no arrays ``[n, ...]``."""
    if config.model.name in OTHER_MODELS:
        return None
    how = parts.method_of(config, name)
    shapes = example and jax.ShapeDtypeStruct((1, *example[0]), example[1])
    model = parts.net(config, how, classes, shapes)
    if how.meant.members:
        return Ensemble(model, {MEMBERS: config.workers}, config.normalise)
    return model.clone(gains=gains) if gains else model


def _example(data: dict[str, Any]) -> tuple[tuple[int, ...], str] | None:
    return (tuple(data["shape"]), data["dtype"]) if "shape" in data else None
