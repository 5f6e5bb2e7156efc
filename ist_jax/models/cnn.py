"""A small convolutional net, all of whose hidden units are groups: filters and dense neurons.

Two blocks of 3x3 convolution, normalisation, ReLU and 2x2 mean pooling; one dense hidden layer;
logits. The dense layer's kernel keeps its natural shape [H, W, filters, neurons], so that a filter
is one slice of it and needs no rule of its own.
"""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise

GROUPS = ("filters0", "filters1", "hidden0")


class CNN(nn.Module):
    """``x [B, H, W, C] -> logits [B, classes]``; H and W at least 4.

    Attributes:
      widths: filters of the two convolutions and neurons of the dense layer (``GROUPS``).
      classes: number of logits.
      normalise, affine, logits, gains: as ``ist_jax.models.mlp.MLP``.
    """

    widths: Mapping[str, int]
    classes: int
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B classes"]:
        normalise.check_policy(self.normalise)
        if set(self.widths) != set(GROUPS):
            raise InputError(f"a CNN's groups are {GROUPS}; found {sorted(self.widths)}")
        if x.ndim != 4:
            raise InputError(f"a CNN takes images [B, H, W, C]; found shape {x.shape}")

        def activate(x, group):
            if self.normalise == "standardise":
                x = normalise.Standardise(group, self.affine, name=f"norm_{group}")(x, train)
            return nn.relu(x) * self.gains.get(group, 1.0)

        def kernel(*names):
            return nn.with_partitioning(nn.initializers.lecun_normal(), names)

        below = None
        for group in GROUPS[:2]:
            init = kernel(None, None, below, group)
            convolve = nn.Conv(
                self.widths[group], (3, 3), use_bias=False, kernel_init=init, name=group
            )
            x = nn.avg_pool(activate(convolve(x), group), (2, 2), (2, 2))
            below = group
        dense = nn.DenseGeneral(
            self.widths["hidden0"],
            axis=(-3, -2, -1),
            use_bias=False,
            kernel_init=kernel(None, None, below, "hidden0"),
            name="hidden0",
        )
        x = activate(dense(x), "hidden0")
        init = kernel("hidden0", None)
        x = nn.Dense(self.classes, use_bias=False, kernel_init=init, name="logits")(x)
        if self.normalise == "standardise" and self.logits:
            x = normalise.Standardise(affine=False, name="norm_logits")(x, train)
        return x
