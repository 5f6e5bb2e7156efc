"""Small images are shifted and mirrored at random while they are trained on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


class CropAndFlip(nn.Module):
    """``[B, H, W, C] -> [B, H, W, C]``: cut from images with zeros around them; half are mirrored.

    As He et al. (CVPR 2016, section 4.2) train on CIFAR10, with four zeros on each side. Chance
    comes from the key ``dropout``; without one, as where statistics are taken, and in evaluation,
    images stay as they are.

    Attributes:
      around: zeros on each side, pixels.
    """

    around: int

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B H W C"]:
        x = jnp.asarray(x)
        if not (self.around and train and self.has_rng("dropout")):
            return x
        of_shift, of_side = jax.random.split(self.make_rng("dropout"))
        begin = jax.random.randint(of_shift, (len(x), 2), 0, 2 * self.around + 1)
        mirrored = jax.random.bernoulli(of_side, 0.5, (len(x), 1, 1, 1))
        wide = jnp.pad(x, ((0, 0), *2 * [2 * [self.around]], (0, 0)))
        crop = lambda image, at: lax.dynamic_slice(image, (at[0], at[1], 0), x.shape[1:])
        x = jax.vmap(crop)(wide, begin)
        return jnp.where(mirrored, x[:, :, ::-1], x)
