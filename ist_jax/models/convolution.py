"""Convolutions whose filters may be cut; those that nothing cuts are shared and averaged."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError


def check_counts(what: str, given: Any) -> None:
    """Complains about what should be whole numbers above 0, and is not."""
    whole = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    if not whole or not all(isinstance(n, int) and n > 0 for n in given):
        raise InputError(f"{what} must be whole numbers above 0, in a tuple; found {given!r}")


class Convolution(nn.Module):
    """Without bias: ``[B, H, W, C] -> [B, H/s, W/s, filters]``.

    Attributes:
      filters: that come out.
      size, stride: of the kernel, both ways.
      names: of the kernel's axes, ``[size, size, C, filters]``.

    On CPU it is a product with the patches under the kernel. XLA computes the gradients of a
    convolution there 5 to 40 times slower once they are in a loop (jax-ml/jax#12868), and local
    steps are one. Elsewhere it is XLA's own, which needs no memory for patches.
    """

    filters: int
    size: int = 3
    stride: int = 1
    names: tuple[str | None, ...] = (None,) * 4

    @nn.compact
    def __call__(self, x: Array | np.ndarray) -> Float[Array, "B h w filters"]:
        shape = (self.size, self.size, x.shape[-1], self.filters)
        init = nn.with_partitioning(nn.initializers.lecun_normal(), self.names)
        kernel: Any = self.param("kernel", init, shape)
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
