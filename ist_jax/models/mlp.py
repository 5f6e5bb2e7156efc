"""The fully connected nets of the IST paper, at any depth and width.

Linear layers without bias; each hidden pre-activation is standardised, with a scale and a shift,
and the logits without (Yuan et al., and its release). Groups: ``hidden0``, ``hidden1``, ..., one
for each hidden layer; inputs and classes are not cut.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise


class MLP(nn.Module):
    """``x [B, ...] -> logits [B, classes]``.

    Attributes:
      widths: neurons of each hidden layer, ``{"hidden0": 4096, ...}``.
      classes: number of logits.
      normalise: ``standardise``, ``scale`` or ``none`` (``ist_jax.models.normalise``).
      affine: a scale and a shift for each hidden neuron (``standardise`` only).
      logits: standardise the logits too, without scale and shift (``standardise`` only).
      gains: factor on the activations of a group; a subnet's, under ``scale``.
      flat: inputs are laid flat first. If not, the first kernel keeps their axes: on top of filters
        it is ``[H, W, C, neurons]``, so that a filter is a slice of it.
      bias: of the logits.
    """

    widths: Mapping[str, int]
    classes: int
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()
    flat: bool = True
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B classes"]:
        normalise.check_policy(self.normalise)
        x = jnp.asarray(x).reshape(x.shape[0], -1) if self.flat else jnp.asarray(x)
        below: tuple[str | None, ...] = (None,) * (x.ndim - 1)
        for group in hidden(self.widths):
            x = _linear(x, self.widths[group], (*below, group), name=group)
            if self.normalise == "standardise":
                x = normalise.Standardise(group, self.affine, name=f"norm_{group}")(x, train)
            x = nn.relu(x) * self.gains.get(group, 1.0)
            below = (group,)
        x = _linear(x, self.classes, (*below, None), name="logits", bias=self.bias)
        if self.normalise == "standardise" and self.logits:
            x = normalise.Standardise(affine=False, name="norm_logits")(x, train)
        return x


def hidden(widths: Mapping[str, int]) -> list[str]:
    """The hidden layers in order: hidden0, hidden1, ...; complains about any other name."""
    names = [f"hidden{layer}" for layer in range(len(widths))]
    if set(names) != set(widths):
        raise InputError(f"hidden layers' groups are hidden0, hidden1, ...; found {sorted(widths)}")
    return names


def _linear(
    x: Array, features: int, names: tuple[str | None, ...], name: str, bias: bool = False
) -> Array:
    axes = tuple(range(1 - len(names), 0))
    layer = nn.DenseGeneral(
        features,
        axes,
        use_bias=bias,
        kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), names),
        bias_init=nn.with_partitioning(nn.initializers.zeros, names[-1:]),
        name=name,
    )
    return layer(x)
