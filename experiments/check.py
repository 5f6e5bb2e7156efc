"""What can be said of a config before anything is built from it."""

import difflib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import quickstart
from experiments.tasks import MODELS, OTHERS
from ist_jax import blockwise, compress, faults, normalise
from ist_jax.errors import InputError
from ist_jax.models.convolution import check_counts
from ist_jax.models.resnet import ResNet, equal_blocks

DRAWS = (  # a key, what it is where nobody asked, and the methods that look at it
    ("assignment", "permutation", ("ist", "ensemble", "dense_subnet")),
    ("shares", (), ("ist", "ensemble", "dense_subnet")),
    ("min_depth", 0, ("resist", "shallow_ensemble")),
)


def check(config: ConfigDict) -> None:
    """Numbers that nothing below would catch.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    if "figure" in config:
        raise InputError("a config with a figure is one of the analysis: experiments.sketch")
    _check_keys(quickstart.get_config(), config, "config")
    at_least_one = (
        "workers",
        "local_steps",
        "rounds",
        "eval_every",
        "data.batch",
        "top",
        "xmc.block",
        "mesh.data",
        "checkpoint.last",
    )
    for key in at_least_one:
        if _at(config, key) < 1:
            raise InputError(f"config.{key} must be at least 1, found {_at(config, key)}")
    for key in (
        "epochs",
        "min_depth",
        "warm_up",
        "mesh.workers",
        "checkpoint.every",
        "checkpoint.permanent",
        "checkpoint.best",
        "round_timeout_s",
        "link_gbps",
        "link_latency_ms",
        "optimizer.clip",
        "optimizer.weight_decay",
        "xmc.sampled",
    ):
        if not 0 <= _at(config, key) < np.inf:
            raise InputError(f"config.{key} must not be negative, found {_at(config, key)}")
    for key in ("optimizer.lr", "lottery.lr", "lottery.epochs"):
        if not 0 < _at(config, key) < np.inf:
            raise InputError(f"config.{key} must be positive, found {_at(config, key)}")
    if not 0 <= config.optimizer.momentum < 1:
        raise InputError(
            f"config.optimizer.momentum must be in [0, 1), found {config.optimizer.momentum}"
        )
    if config.statistics_examples < normalise.FEWEST_EXAMPLES:
        raise InputError(
            f"config.statistics_examples must be at least {normalise.FEWEST_EXAMPLES}, found "
            f"{config.statistics_examples}"
        )
    choices = {
        "on_worker_failure": ("raise", "drop"),
        "on_nonfinite": ("raise", "drop"),
        "checkpoint.on_error": ("stop", "go_on"),
        "xmc.loss": tuple(blockwise.KINDS),
    }
    for key, known in choices.items():
        if _at(config, key) not in known:
            raise InputError(
                f"config.{key} must be {' or '.join(map(repr, known))}, found {_at(config, key)!r}"
            )
    if len(config.xmc.propensity) != 2 or not all(0 < n < np.inf for n in config.xmc.propensity):
        raise InputError(
            f"config.xmc.propensity must be two positive numbers, found {config.xmc.propensity}"
        )
    pruned = config.lottery.pruned
    if len(set(pruned)) != len(pruned) or not all(0 < share < 1 for share in pruned):
        raise InputError(
            f"config.lottery.pruned must be different shares between 0 and 1, found {pruned}"
        )
    compress.named(config.compress)
    faults.plan(config.faults, config.workers, 0)
    for key in ("methods", "seeds"):
        if not config[key] or len(set(config[key])) != len(config[key]):
            raise InputError(
                f"config.{key} must be a tuple of different values, found {config[key]}"
            )
    if not all(isinstance(seed, int) and seed >= 0 for seed in config.seeds):
        raise InputError(f"config.seeds must be integers from 0, found {config.seeds}")
    for group, width in config.model.widths.items():
        if not isinstance(width, int) or width < 1:
            raise InputError(f"config.model.widths.{group} must be an integer >= 1, found {width}")
    if config.model.name == "resnet":
        blocks = config.model.options.get("blocks", ResNet.blocks)
        check_counts("config.model.options.blocks", blocks)
        for group, count in equal_blocks(blocks).items():
            if (width := config.model.widths.get(group, count)) != count:
                raise InputError(
                    f"config.model.widths.{group}={width}, but of the blocks of that stage {count} "
                    f"are equal (config.model.options.blocks={blocks})"
                )
    if config.normalise == "standardise" and config.data.batch < 2:
        raise InputError("config.data.batch must be at least 2 to standardise over a batch")
    if config.data.batch % config.mesh.data:
        raise InputError(
            f"config.data.batch={config.data.batch} cannot be split evenly over the "
            f"config.mesh.data={config.mesh.data} devices of a worker"
        )
    if config.optimizer.momentum and config.optimizer.name != "sgd":
        raise InputError(f"config.optimizer.momentum is sgd's, found {config.optimizer.name!r}")
    models = sorted([*MODELS, *OTHERS.values()])
    if config.model.name not in models:
        raise InputError(f"config.model.name must be one of {models}, found {config.model.name!r}")
    normalise.check_policy(config.normalise)
    drawing = set(config.methods) - {"local_sgd", "data_parallel", "single"}
    for key, usual, users in DRAWS:
        if config[key] != usual and drawing and not drawing & set(users):
            raise InputError(
                f"config.{key}={config[key]!r} is for {', '.join(users)}; config.methods="
                f"{tuple(config.methods)} do not look at it"
            )
    if config.normalise == "scale" and config.shares:
        raise InputError(
            "config.normalise='scale' multiplies by N/m, the same in every worker, and needs "
            "workers of one size: leave config.shares empty, or use 'standardise'"
        )


def devices(config: ConfigDict, processes: int) -> None:
    """Has this process provide its part of the mesh's devices, where they are CPUs.

    Raises:
      InputError: a mesh that the processes do not divide.
    """
    wanted = config.mesh.workers * config.mesh.data
    if wanted % processes:
        raise InputError(
            f"{wanted} devices (config.mesh.workers={config.mesh.workers} x config.mesh.data="
            f"{config.mesh.data}) cannot be dealt out evenly to {processes} processes"
        )
    if wanted:  # of other platforms than CPU there are as many as there are
        jax.config.update("jax_num_cpu_devices", wanted // processes)


def _check_keys(known: ConfigDict, given: ConfigDict, where: str) -> None:
    """The quickstart has every key there is; groups of neurons and options may have any name."""
    if where in ("config.model.widths", "config.model.options", "config.data.options"):
        return
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, list(known), n=1)
            hint = (
                f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
            )
            raise InputError(f"unknown key {where}.{key}{hint}")
    for key in known:
        if key not in given:
            raise InputError(f"{where}.{key} is missing; configs/quickstart.py says what it means")
        if isinstance(known[key], ConfigDict) != isinstance(given[key], ConfigDict):
            raise InputError(f"{where}.{key} should look like {known[key]!r}, found {given[key]!r}")
        if isinstance(known[key], ConfigDict):
            _check_keys(known[key], given[key], f"{where}.{key}")


def _at(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
