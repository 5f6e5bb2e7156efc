"""The dense layers on top of a net, which IST cuts; what is below is shared by all workers.

Each hidden layer is a group of its own. The kernel of the first keeps the axes of what it reads in
their natural shape, so that an image's filters need no rule here.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax import normalise
from ist_jax.models.mlp import hidden


class Head(nn.Module):
    """``x [B, ...] -> logits [B, classes]``; attributes as ``ist_jax.models.mlp.MLP``."""

    widths: Mapping[str, int]
    classes: int
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Float[Array, "B classes"]:
        below: tuple[str | None, ...] = (None,) * (x.ndim - 1)
        for group in hidden(self.widths):
            x = _dense(self.widths[group], (*below, group), name=group)(x)
            if self.normalise == "standardise":
                x = normalise.Standardise(group, self.affine, name=f"norm_{group}")(x, train)
            x = nn.relu(x) * self.gains.get(group, 1.0)
            below = (group,)
        x = _dense(self.classes, (*below, None), name="logits")(x)
        if self.normalise == "standardise" and self.logits:
            x = normalise.Standardise(affine=False, name="norm_logits")(x, train)
        return x


def convolution(filters: int, size: int = 3, stride: int = 1, *, name: str) -> nn.Conv:
    """A convolution that nothing cuts, without bias."""
    return nn.Conv(filters, (size, size), (stride, stride), use_bias=False, name=name)


def _dense(features: int, names: tuple[str | None, ...], name: str) -> nn.DenseGeneral:
    axes = tuple(range(1 - len(names), 0))
    init = nn.with_partitioning(nn.initializers.lecun_normal(), names)
    return nn.DenseGeneral(features, axes, use_bias=False, kernel_init=init, name=name)
