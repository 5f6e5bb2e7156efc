"""What is wrong with a config, found before anything is built from it: a table of checks."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from ist_jax import compress
from ist_jax.core import by_name, paths
from ist_jax.core.errors import InputError
from ist_jax.data import SOURCES
from ist_jax.models import MODELS, OTHER_MODELS, normalise
from ist_jax.models.resnet import ResNet, equal_blocks
from ist_jax.run import faults, optimizers, schema, trackers, values
from ist_jax.tasks import blockwise

CHOICES = {
    "on_worker_failure": ("raise", "drop"),
    "on_nonfinite": ("raise", "drop"),
    "checkpoint.on_error": ("stop", "go_on"),
    "xmc.loss": tuple(blockwise.KINDS),
}
DRAWS = (  # a key, its default, and the methods that look at it
    ("assignment", "permutation", ("ist", "ensemble", "dense_subnet")),
    ("shares", (), ("ist", "ensemble", "dense_subnet")),
    ("min_depth", 0, ("resist", "shallow_ensemble")),
)


def check(config: ConfigDict) -> None:
    """Numbers that nothing below would catch.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    for check_topic in CHECKS:
        check_topic(config)


def devices(config: ConfigDict, processes: int) -> None:
    """Has this process provide its part of the mesh's devices, where they are CPUs.

    Raises:
      InputError: a mesh that the processes do not divide.
    """
    groups = config.mesh.workers
    if config.workers > 1 and groups and config.workers % groups:
        raise InputError(
            f"{config.workers} workers cannot be dealt out evenly to config.mesh.workers={groups}"
        )
    wanted = groups * config.mesh.data
    if wanted % processes:
        raise InputError(
            f"{wanted} devices (config.mesh.workers={config.mesh.workers} x config.mesh.data="
            f"{config.mesh.data}) cannot be dealt out evenly to {processes} processes"
        )
    if wanted:  # of other platforms than CPU there are as many as there are
        jax.config.update("jax_num_cpu_devices", wanted // processes)


def _not_a_figure(config: ConfigDict) -> None:
    if "figure" in config:
        raise InputError("a config with a figure is one of the analysis, for the command sketch")


def _choices(config: ConfigDict) -> None:
    for key, known in CHOICES.items():
        if _at(config, key) not in known:
            raise InputError(
                f"config.{key} must be {' or '.join(map(repr, known))}, found {_at(config, key)!r}"
            )


def _propensity(config: ConfigDict) -> None:
    if len(config.xmc.propensity) != 2:
        raise InputError(
            f"config.xmc.propensity must be two numbers, found {config.xmc.propensity}"
        )


def _pruned(config: ConfigDict) -> None:
    pruned = config.lottery.pruned
    if len(set(pruned)) != len(pruned):
        raise InputError(f"config.lottery.pruned must be different shares, found {pruned}")


def _different_runs(config: ConfigDict) -> None:
    for key in ("methods", "seeds"):
        if len(set(config[key])) != len(config[key]):
            raise InputError(
                f"config.{key} must be a tuple of different values, found {config[key]}"
            )


def _equal_blocks(config: ConfigDict) -> None:
    if config.model.name != "resnet":
        return
    blocks = config.model.options.get("blocks", ResNet.blocks)
    for group, count in equal_blocks(blocks).items():
        if (width := config.model.widths.get(group, count)) != count:
            raise InputError(
                f"config.model.widths.{group}={width}, but of the blocks of that stage {count} "
                f"are equal (config.model.options.blocks={blocks})"
            )


def _batch(config: ConfigDict) -> None:
    if config.normalise == "standardise" and config.data.batch < 2:
        raise InputError("config.data.batch must be at least 2 to standardise over a batch")
    if config.data.batch % config.mesh.data:
        raise InputError(
            f"config.data.batch={config.data.batch} cannot be split evenly over the "
            f"config.mesh.data={config.mesh.data} devices of a worker"
        )


def _optimizer(config: ConfigDict) -> None:
    optimizers.named(config.optimizer.name, config.optimizer.momentum)


def _keys_of_drawing(config: ConfigDict) -> None:
    """A key that only some of the methods that draw subnets look at is set for one of them."""
    drawing = set(config.methods) - {"local_sgd", "data_parallel", "single"}
    for key, usual, users in DRAWS:
        if config[key] != usual and drawing and not drawing & set(users):
            raise InputError(
                f"config.{key}={config[key]!r} is for {', '.join(users)}; config.methods="
                f"{tuple(config.methods)} do not look at it"
            )


def _scale_of_equal_workers(config: ConfigDict) -> None:
    if config.normalise == "scale" and config.shares:
        raise InputError(
            "config.normalise='scale' multiplies by N/m, the same in every worker, and needs "
            "workers of one size: leave config.shares empty, or use 'standardise'"
        )


def _values(config: ConfigDict) -> None:
    """Types and bounds; those of options come from the model and the data set they are for."""
    values.check(schema.default(), config)
    for key in ("model.widths", "model.options", "data.options"):
        values.check_names(key, _at(config, key))
    values.check_widths(config.model.widths)
    _options(config.model, config.data)
    for key in ("data.path", "data.cache", "checkpoint.folder"):
        if "://" not in _at(config, key):
            paths.expanded(_at(config, key), f"config.{key}")


def _options(model: ConfigDict, data: ConfigDict) -> None:
    kind = by_name.found(model.name, {**MODELS, **OTHER_MODELS}, "config.model.name")
    known = values.fields_of(kind)
    if unknown := sorted(set(model.options) - set(known)):
        raise InputError(
            f"config.model.options: {model.name} has no option {unknown[0]!r}; it has "
            f"{', '.join(known) or 'none'}"
        )
    values.check_options("model.options", model.options, known)
    if data.name in SOURCES or by_name.is_theirs(data.name):
        load = by_name.found(data.name, SOURCES, "config.data.name")
        values.check_options("data.options", data.options, values.options_of(load))


def _at(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


CHECKS: tuple[Callable[[ConfigDict], Any], ...] = (  # in this order: each may rely on those before
    _not_a_figure,
    _values,
    _choices,
    _propensity,
    _pruned,
    lambda config: compress.named(config.compress),
    lambda config: faults.parse(config.faults, config.workers, 0),
    _different_runs,
    _equal_blocks,
    _batch,
    _optimizer,
    lambda config: normalise.check_policy(config.normalise),
    trackers.check,
    _keys_of_drawing,
    _scale_of_equal_workers,
)
