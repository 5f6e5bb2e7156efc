"""ResNets of basic blocks for small images, with a dense part that IST cuts.

He et al. (CVPR 2016) have no hidden dense layer: the pooled filters go to the logits. Yuan et al.
(PVLDB 15(8), 2022) cut "the fully connected part" of a ResNet18 and do not print its width; here it
is any number of hidden layers between the pooling and the logits. Everything below is shared by all
workers and averaged.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax import normalise
from ist_jax.errors import InputError
from ist_jax.models.augment import CropAndFlip
from ist_jax.models.convolution import Convolution, check_counts
from ist_jax.models.mlp import MLP


class ResNet(nn.Module):
    """``x [B, H, W, C] -> logits [B, classes]``.

    Attributes:
      widths: neurons of the dense layers, ``{"hidden0": 4096}``.
      classes: number of logits.
      blocks: of each stage; a stage has twice the filters of the one before it and half its image.
        The default is ResNet18.
      base: filters of the first stage.
      crop: pixels that training images are shifted by at most; half are mirrored (``augment``).
      normalise, affine, logits, gains: as ``ist_jax.models.mlp.MLP``.
    """

    widths: Mapping[str, int]
    classes: int
    blocks: Sequence[int] = (2, 2, 2, 2)
    base: int = 64
    crop: int = 0
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()

    @nn.compact
    def __call__(self, x: Array | np.ndarray, train: bool = True) -> Float[Array, "B classes"]:
        normalise.check_policy(self.normalise)
        if x.ndim != 4:
            raise InputError(f"a ResNet takes images [B, H, W, C]; found shape {x.shape}")
        check_counts("blocks of a ResNet", self.blocks)
        check_counts("base of a ResNet", (self.base,))
        if self.crop < 0:
            raise InputError(f"crop of a ResNet must not be negative; found {self.crop}")

        def norm(x, name):
            if self.normalise != "standardise":
                return x
            return normalise.Standardise(affine=self.affine, name=f"norm_{name}")(x, train)

        x = Convolution(self.base, name="stem")(CropAndFlip(self.crop)(x, train))
        x = nn.relu(norm(x, "stem"))
        for stage, count in enumerate(self.blocks):
            filters = self.base * 2**stage
            for block in range(count):
                name = f"stage{stage}_{block}"
                stride = 2 if stage and not block else 1
                y = Convolution(filters, stride=stride, name=f"{name}_in")(x)
                y = nn.relu(norm(y, f"{name}_in"))
                y = norm(Convolution(filters, name=f"{name}_out")(y), f"{name}_out")
                if stride > 1 or x.shape[-1] != filters:
                    x = Convolution(filters, 1, stride, name=f"{name}_skip")(x)
                    x = norm(x, f"{name}_skip")
                x = nn.relu(x + y)
        head = MLP(
            self.widths,
            self.classes,
            self.normalise,
            self.affine,
            self.logits,
            self.gains,
            flat=False,
            name="head",
        )
        return head(x.mean(axis=(1, 2)), train)
