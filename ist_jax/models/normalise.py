"""What keeps a subnet's activations like those of the whole net.

A neuron of a subnet sums over fewer inputs than the same neuron of the whole net. Four policies:

* ``standardise``: every pre-activation is standardised with the statistics of its batch; before the
  net is used whole, they are recomputed with it over training data (Yuan et al., section 2.2). A
  scale and a shift, if wanted, are parameters of the neuron and travel with it.
* ``scale``: no normalisation; activations of a group cut to m of N neurons are multiplied by N/m
  while training, which makes the next layer's input unbiased. (The paper prints n^2; the factor for
  independent draws of each layer is n.)
* ``share``: no normalisation while training; where the whole net is evaluated, what a group that is
  cut adds is multiplied by the share of it that a worker held. For nets that add branches up.
* ``none``: neither.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError
from jax import lax
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError

PyTree = Any
Model = Any  # a module of Linen, or ``functions.Functions`` in its place
POLICIES = ("standardise", "scale", "share", "none")
FEWEST_EXAMPLES = 256


class Standardise(nn.Module):
    """Zero mean and unit variance over all axes but the last; empty slots stay zero.

    Attributes:
      group: the name of the last axis, if it is cut.
      affine: with a scale (initially one) and a shift (zero) for each neuron.
      epsilon: added to the variance.

    With ``train`` the statistics are the batch's, and are written to the collection
    ``"statistics"`` where that is mutable; without, they are read from it.
    """

    group: str | None = None
    affine: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array | np.ndarray, "*batch n"], train: bool
    ) -> Float[Array, "*batch n"]:
        if train:
            over = tuple(range(x.ndim - 1))
            mean = x.mean(axis=over)
            variance = jnp.mean(jnp.square(x - mean), axis=over)
            if self.is_mutable_collection("statistics") and not self.is_initializing():
                self.put_variable("statistics", "mean", mean)
                self.put_variable("statistics", "variance", variance)
        else:
            mean = self.get_variable("statistics", "mean")
            variance = self.get_variable("statistics", "variance")
            if mean is None or variance is None:
                raise InputError(
                    f"no statistics for {'/'.join(self.path)}: with train=False a net is asked "
                    "with those of the whole net, which a checkpoint that stays holds "
                    "(Checkpoints.net), or normalise.statistics finds in training data"
                )
        x, factor = jnp.asarray(x), lax.rsqrt(variance + self.epsilon)
        if self.affine:
            named = lambda init: nn.with_partitioning(init, (self.group,))
            scale: Any = self.param("scale", named(nn.initializers.ones), x.shape[-1:])
            shift: Any = self.param("shift", named(nn.initializers.zeros), x.shape[-1:])
            factor *= scale
            return (x - mean) * factor + shift
        return (x - mean) * factor


def statistics(model: Model, params: PyTree, x: PyTree) -> PyTree:
    """The whole net's statistics over training examples, to evaluate it with.

    One forward pass over all of ``x`` at once: each layer's statistics are exactly those that the
    net with the earlier ones gives, whatever the batches were in training.

    Args:
      model: the whole model, policy ``standardise`` (others have none, and get an empty tree).
      params: its parameters.
      x: training inputs, at least 256 where there are so many.

    Returns:
      A tree to merge with the parameters: ``model.apply({**params, **found}, x, train=False)``.
    """
    if getattr(model, "normalise", "none") != "standardise":
        return {}
    how: Any = {"train": True, "mutable": ["statistics"]}
    try:
        _, updated = model.apply(params, x, **how)
    except InvalidRngError:  # a module that drops out whenever it trains does so here too
        _, updated = model.apply(params, x, rngs={"dropout": jax.random.key(0)}, **how)
    return {name: part for name, part in dict(updated).items() if jax.tree.leaves(part)}


def recompute(
    model: Model, statistics_from: Any, compiled: Callable[..., Any] = jax.jit
) -> Callable[[PyTree], PyTree]:
    """``params -> statistics(model, params, statistics_from)``, in a program of its own.

    Args:
      statistics_from: training inputs; or such a function, which is given back.
      compiled: ``trainer.on_params`` for a net that lies as ``trainer.sharded_params(state)``.
    """
    if callable(statistics_from):
        return statistics_from
    found = compiled(lambda params, x: statistics(model, params, x))
    return lambda params: found(params, statistics_from)


def subnet(model: Model, widths: Mapping[str, int]) -> Model:
    """The model of a subnet: the same layers, narrower, and under ``scale`` their gains.

    Args:
      model: it has an attribute ``widths``, and for ``scale`` also ``normalise`` and ``gains``.
      widths: the widths of the subnet (``partition.sub_widths``); groups left out stay whole.
    """
    narrow = {**model.widths, **widths}
    unknown = sorted(set(widths) - set(model.widths))
    if unknown:
        raise InputError(f"unknown group {unknown[0]!r}; the model has {sorted(model.widths)}")
    if not hasattr(model, "gains"):
        return model.clone(widths=narrow)
    gains = {}
    if model.normalise == "scale":
        gains = {g: n / narrow[g] for g, n in model.widths.items() if narrow[g] != n}
    return model.clone(widths=narrow, gains=gains)


def check_policy(policy: str) -> None:
    if policy not in POLICIES:
        raise InputError(f"normalise must be one of {', '.join(POLICIES)}; found {policy!r}")
