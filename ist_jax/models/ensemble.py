"""Several nets of one kind that are trained apart and asked together.

The nets are stacked on a leading axis, and that axis is a group: an assignment that gives each
worker one of them (``method.shallow_ensemble``) trains them on the same round as everything else.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

MEMBERS = "members"


class Ensemble(nn.Module):
    """``x [B, ...] -> [B, classes]``: logarithms of the mean of the members' probabilities.

    Attributes:
      member: a net that gives logits; the axes of all its parameters are boxed.
      widths: how many there are, ``{"members": S}``.
      normalise, gains: as ``ist_jax.models.mlp.MLP``; nothing is scaled here.
    """

    member: nn.Module
    widths: Mapping[str, int]
    normalise: str = "standardise"
    gains: Mapping[str, float] = FrozenDict()

    @property
    def matrices(self) -> Callable[..., Any]:
        """The member's, if it has them: each net has matrices of its own."""
        return self.member.matrices

    @nn.compact
    def __call__(self, x: Array | np.ndarray, *, train: bool) -> Float[Array, "B classes"]:
        count = self.widths[MEMBERS]
        each = nn.vmap(
            lambda member, x: member(x, train=train),
            variable_axes={"params": 0, "statistics": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=None,
            axis_size=count,
            metadata_params={nn.PARTITION_NAME: MEMBERS},
        )
        logits = each(self.member, jnp.asarray(x))
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(count)
