"""The optimizer of a config: clipping, weight decay, a learning rate and an update, all optax's.

``name`` is any optimizer of optax or of ``optax.contrib``, or ``"module:function"``. It is called
with the learning rate (``learning_rate``), ``momentum`` if that is not 0, and ``options``.
"""

import functools
import importlib
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from ist_jax.core import by_name
from ist_jax.core.errors import InputError, first_line
from ist_jax.run import learning_rate, options, values
from ist_jax.run.bounds import ANY

PyTree = Any
MATRICES = "muon_weight_dimension_numbers"  # an option of ``optax.contrib.muon``
KEY = "config.optimizer.options"
Make = Callable[..., optax.GradientTransformation]


def make(config: ConfigDict, steps: int, model: Any = None) -> optax.GradientTransformation:
    """The optimizer of so many steps.

    Args:
      model: what it trains. Its ``matrices``, if it has such a function of the parameters, say to
        Muon which axes of a kernel are a matrix, and which only count matrices.

    Raises:
      InputError: an unknown schedule, optimizer or option; an option that is missing, or refused.
    """
    wanted = config.optimizer
    rate = learning_rate.make(wanted, steps)
    before = []
    if wanted.clip:
        before.append(optax.clip_by_global_norm(float(wanted.clip)))
    if wanted.weight_decay:
        before.append(optax.add_decayed_weights(float(wanted.weight_decay)))
    update, more = named(wanted.name), _options(wanted)
    if _takes_matrices(wanted) and hasattr(model, "matrices"):
        more[MATRICES] = model.matrices
    try:
        made = optax.chain(*before, update(rate, **more))
        _tried(made)
    except Exception as error:  # what optax, or a stranger's function, makes of strange values
        raise InputError(
            f"config.optimizer.name={wanted.name!r} fails with {values.shown(more) if more else ''}"
            f"{' and ' if more else ''}schedule {wanted.schedule!r} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    return made


def check_kernels(config: ConfigDict, model: Any, params: PyTree) -> None:
    """Complains about kernels that are no matrices, where the optimizer is for those.

    Raises:
      InputError: one with more than two axes, of a model without ``matrices``: Muon would leave it
        to Adam.
    """
    if not _takes_matrices(config.optimizer) or hasattr(model, "matrices"):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if len(leaf.shape) > 2:
            raise InputError(
                f"config.optimizer.name={config.optimizer.name!r} is for matrices, and "
                f"{jax.tree_util.keystr(path)} is {list(leaf.shape)}: Adam would train it. Give "
                f"{type(model).__name__} a function 'matrices' of its parameters, as "
                "ist_jax.models.Transformer has one, or take another optimizer"
            )


def _takes_matrices(wanted: ConfigDict) -> bool:
    """Whether it is to be said to the optimizer which axes are matrices, and nobody has."""
    return MATRICES in by_name.options_of(named(wanted.name)) and MATRICES not in wanted.options


def check(config: ConfigDict) -> None:
    """What is wrong with the config's optimizer for any number of steps.

    Raises:
      InputError: as ``make``.
    """
    make(config, config.optimizer.warm_up_steps + 100)


def named(name: str) -> Make:
    """The function of optax of that name, or ``module:function``: a learning rate, and options.

    Raises:
      InputError: there is none that takes a learning rate first.
    """
    ours = known()
    if name not in ours and not by_name.is_theirs(name):
        ours = {**_of(importlib.import_module("optax.contrib")), **ours}  # it takes a while
    return by_name.found(name, ours, "config.optimizer.name")


@functools.cache
def known() -> dict[str, Make]:
    """Optax's optimizers that take a learning rate first, by name.

    ``lbfgs`` is left out: its line search needs more than a gradient, and its history is not reset.
    """
    return _of(optax)


def _of(module: ModuleType) -> dict[str, Make]:
    found: dict[str, Make] = {}
    for name, make in vars(module).items():
        if not isinstance(make, FunctionType) or name.startswith(("_", "scale_by_")):
            continue
        if [*by_name.options_of(make)][:1] == ["learning_rate"] and name != "lbfgs":
            found[name] = make
    return found


def _options(wanted: ConfigDict) -> dict[str, Any]:
    """What an optimizer is called with beside the rate."""
    function, given = named(wanted.name), options.plain(wanted.options)
    rate = [*by_name.options_of(function)][:1]
    if wanted.momentum:
        if "momentum" in given:
            raise InputError(f"{KEY}.momentum and config.optimizer.momentum: which of them?")
        if "momentum" not in by_name.options_of(function) and not by_name.takes_any(function):
            raise InputError(
                f"config.optimizer.momentum is {wanted.momentum}, and {wanted.name!r} takes none: "
                "set it to 0"
            )
        given["momentum"] = float(wanted.momentum)
    if set(rate) & set(given):
        raise InputError(f"{KEY}.{rate[0]}: set config.optimizer.lr in its place")
    by_name.check_options(function, given, f"optimizer {wanted.name!r}", KEY, rate)
    values.check_options("optimizer.options", given, options.examples(function, rate), ANY)
    return given


def _tried(optimizer: optax.GradientTransformation) -> None:
    """One update of two numbers, of which only shapes are computed."""
    numbers = {"w": jax.ShapeDtypeStruct((2,), "float32")}

    def update(params: Any) -> Any:
        return optimizer.update(params, optimizer.init(params), params)

    jax.eval_shape(update, numbers)
