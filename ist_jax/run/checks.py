"""What is wrong with a config, found before anything is built from it: a table of checks."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ist_jax import compress, named
from ist_jax.core import by_name, paths
from ist_jax.core.errors import InputError
from ist_jax.data import SOURCES
from ist_jax.models import MODELS, OTHER_MODELS, normalise
from ist_jax.models.resnet import ResNet, equal_blocks
from ist_jax.run import faults, optimizers, options, schema, trackers, upgrade, values
from ist_jax.run.tasks import options as task_options

CHOICES = {
    "on_worker_failure": ("raise", "drop"),
    "on_nonfinite": ("raise", "drop"),
    "checkpoint.on_error": ("stop", "go_on"),
}


def check(config: ConfigDict) -> None:
    """Numbers that nothing below would catch.

    Raises:
      InputError: naming the key, what was expected and what was found.
    """
    for check_topic in CHECKS:
        check_topic(config)


def check_numbers(config: ConfigDict) -> None:
    """As ``check``, of what names neither a model nor data: those are given in Python.

    Raises:
      InputError: as ``check``.
    """
    values.check(schema.default(), config)
    for check_topic in (_choices, _compress, _faults, _batch):
        check_topic(config)


def _not_a_figure(config: ConfigDict) -> None:
    if "figure" in config:
        raise InputError("a config with a figure is one of the analysis, for the command sketch")


def _moved(config: ConfigDict) -> None:
    today = schema.default()
    for key in (key for key in config if key not in today):
        if new := upgrade.moved(str(key)):
            raise InputError(f"unknown key config.{key}: it is now config.{new[0]}")


def _choices(config: ConfigDict) -> None:
    for key, known in CHOICES.items():
        if _at(config, key) not in known:
            raise InputError(
                f"config.{key} must be {' or '.join(map(repr, known))}, found {_at(config, key)!r}"
                f"{by_name.near(_at(config, key), known)}"
            )


def _compress(config: ConfigDict) -> None:
    compress.named(config.compress)


def _faults(config: ConfigDict) -> None:
    faults.parse(config.faults, config.workers, 0)


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


def _version(config: ConfigDict) -> None:
    if config.version != schema.VERSION:
        raise InputError(
            f"config.version is that of the keys, {schema.VERSION}, found {config.version!r}"
        )


def _method_options(config: ConfigDict) -> None:
    """Every option is one of a method that there is, whether it is trained here or not."""
    for name, given in _methods_of(config.method_options):
        function = by_name.found(name, named.METHODS, "config.method_options")
        key = f"method_options.{name}"
        by_name.check_options(function, options.plain(given), f"method {name!r}", f"config.{key}")
        values.check_options(key, given, by_name.options_of(function))
    for name in config.methods:
        named.find(name, **options.of_method(config, name))


def _methods_of(found: ConfigDict, above: str = "") -> list[tuple[str, ConfigDict]]:
    """Names of methods and their options; dots in a name are steps of the tree."""
    methods: list[tuple[str, ConfigDict]] = []
    for key, inner in found.items():
        name = f"{above}{key}"
        if not isinstance(inner, ConfigDict):
            raise InputError(
                f"config.method_options.{name} must be options of a method by its name, as "
                f'{{"ist": {{"assignment": "balanced"}}}}; found {values.shown(inner)}'
            )
        ends = name in named.METHODS or by_name.is_theirs(name)
        deeper = not ends and all(isinstance(part, ConfigDict) for part in inner.values()) and inner
        methods += _methods_of(inner, f"{name}.") if deeper else [(name, inner)]
    return methods


def _scale_of_equal_workers(config: ConfigDict) -> None:
    for name in upgrade.looked_at(config.methods):
        if config.normalise == "scale" and options.of_method(config, name).get("shares"):
            raise InputError(
                "config.normalise='scale' multiplies by N/m, the same in every worker, and needs "
                f"workers of one size: leave config.method_options.{name}.shares empty, or use "
                "'standardise'"
            )


def _values(config: ConfigDict) -> None:
    """Types and bounds; those of options come from the model and the data set they are for."""
    values.check(schema.default(), config)
    for key in (key.removeprefix("config.") for key in values.OPEN):
        if key != "method_options":
            values.check_names(key, _at(config, key))
    values.check_widths(config.model.widths)
    _options(config)
    for key in ("data.path", "data.cache", "checkpoint.folder"):
        if "://" not in _at(config, key):
            paths.expanded(_at(config, key), f"config.{key}")


def _policy(config: ConfigDict) -> None:
    """One that there is, and that the model knows."""
    normalise.check_policy(config.normalise)
    name = config.model.name
    if config.normalise == "none" or not by_name.is_theirs(name):
        return
    kind = by_name.found(name, {}, "config.model.name")
    if "normalise" not in by_name.options_of(kind) and not by_name.takes_any(kind):
        raise InputError(
            f"config.normalise={config.normalise!r}, but {name!r} takes no argument 'normalise' to "
            "know it by: set config.normalise='none', or let it take one "
            "(ist_jax/models/normalise.py)"
        )


def _options(config: ConfigDict) -> None:
    """Of the model, the data set and the task."""
    model, data = config.model, config.data
    kind = by_name.found(model.name, {**MODELS, **OTHER_MODELS}, "config.model.name")
    skip, given = options.OF_A_MODEL, options.plain(model.options)
    by_name.check_options(kind, given, model.name, "config.model.options", skip)
    values.check_options("model.options", model.options, by_name.options_of(kind, skip))
    if data.name in SOURCES or by_name.is_theirs(data.name):
        load = by_name.found(data.name, SOURCES, "config.data.name")
        usual = by_name.options_of(load, options.OF_A_SOURCE)
        values.check_options("data.options", data.options, usual)
    task_options.check(model.name, config.task.options)


def _at(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


CHECKS: tuple[Callable[[ConfigDict], Any], ...] = (  # in this order: each may rely on those before
    _not_a_figure,
    _moved,
    _values,
    _version,
    _choices,
    _pruned,
    _compress,
    _faults,
    _different_runs,
    _equal_blocks,
    _batch,
    _policy,
    optimizers.check,
    trackers.check,
    _method_options,
    _scale_of_equal_workers,
)
