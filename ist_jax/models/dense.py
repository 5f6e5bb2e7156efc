"""The dense layers on top of a net, which IST cuts; what is below is shared by all workers.

Each hidden layer is a group of its own. The kernel of the first keeps the axes of what it reads in
their natural shape, so that an image's filters need no rule here.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax import lax
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


class Convolution(nn.Module):
    """A convolution that nothing cuts, without bias: ``[B, H, W, C] -> [B, H/s, W/s, filters]``.

    On CPU it is a product with the patches under the kernel. XLA computes the gradients of a
    convolution there 5 to 40 times slower once they are in a loop (jax-ml/jax#12868), and local
    steps are one. Elsewhere it is XLA's own, which needs no memory for patches.
    """

    filters: int
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array | np.ndarray) -> Float[Array, "B h w filters"]:
        shape = (self.size, self.size, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        strides = (self.stride, self.stride)
        padding = lax.padtype_to_pads(x.shape[1:3], shape[:2], strides, "SAME")

        def patches(x, kernel):
            x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
            rows, columns = (
                [slice(at, n - self.size + at + 1, self.stride) for at in range(self.size)]
                for n in x.shape[1:3]
            )
            under = [x[:, row, column] for row in rows for column in columns]
            return jnp.concatenate(under, -1) @ kernel.reshape(-1, self.filters)

        def whole(x, kernel):
            layout = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)

        return lax.platform_dependent(x, kernel, cpu=patches, default=whole)


def _dense(features: int, names: tuple[str | None, ...], name: str) -> nn.DenseGeneral:
    axes = tuple(range(1 - len(names), 0))
    init = nn.with_partitioning(nn.initializers.lecun_normal(), names)
    return nn.DenseGeneral(features, axes, use_bias=False, kernel_init=init, name=name)
