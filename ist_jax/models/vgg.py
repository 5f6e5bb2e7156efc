"""VGG with nine convolutions and three dense layers, of which IST cuts the dense ones.

The paper trains a "VGG12" on all 21,841 classes of ImageNet and does not print its layers. Here
they are five stages of 3x3 convolutions (1, 1, 2, 2, 3 of them; 64 to 512 filters) with 2x2 max
pooling after each, two dense layers of 4,096, and the logits: twelve layers with weights, after
Simonyan and Zisserman (ICLR 2015). Convolutions are shared by all workers and averaged (Yuan et
al., PVLDB 15(8), 2022, section 2.2, "other architectures").
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.convolution import Convolution, check_counts
from ist_jax.models.mlp import MLP

VGG12 = ((64,), (128,), (256, 256), (512, 512), (512, 512, 512))


class VGG(nn.Module):
    """``x [B, H, W, C] -> logits [B, classes]``.

    A stage ends with a pooling that halves the image, unless only one pixel is left: images of 224
    come to 7 x 7, those of 32 to 1 x 1.

    Attributes:
      widths: neurons of the dense layers, ``{"hidden0": 4096, "hidden1": 4096}``.
      classes: number of logits.
      stages: filters of the convolutions of each stage.
      normalise, affine, logits, gains: as ``ist_jax.models.mlp.MLP``.
    """

    widths: Mapping[str, int]
    classes: int
    stages: Sequence[Sequence[int]] = VGG12
    normalise: str = "standardise"
    affine: bool = True
    logits: bool = True
    gains: Mapping[str, float] = FrozenDict()

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B classes"]:
        normalise.check_policy(self.normalise)
        if x.ndim != 4:
            raise InputError(f"a VGG takes images [B, H, W, C]; found shape {x.shape}")
        x = jnp.asarray(x)
        if not isinstance(self.stages, Sequence) or isinstance(self.stages, str):
            raise InputError(f"stages of a VGG must be a tuple of tuples; found {self.stages!r}")
        for stage, of_stage in enumerate(self.stages):
            check_counts(f"stage {stage} of a VGG", of_stage)
            for number, filters in enumerate(of_stage):
                name = f"stage{stage}_{number}"
                x = Convolution(filters, name=name)(x)
                if self.normalise == "standardise":
                    x = normalise.Standardise(affine=self.affine, name=f"norm_{name}")(x, train)
                x = nn.relu(x)
            if min(x.shape[1:3]) > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
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
        return head(x, train=train)
