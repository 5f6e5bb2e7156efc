"""A net for extreme classification: sparse inputs, one hidden layer, very many labels.

Its logits are ``hidden [B, m] @ kernel [m, L]``, and since nobody should hold all of them, the net
gives the two factors (``tasks.many_labels`` has the loss and the measures). Both kernels have the
hidden neurons as their first axis, so that a neuron owns one row of each: a subnet of m neurons has
m rows, and no worker ever holds a column over all neurons. The second axes may be groups too, whose
members are told in every round: the features that a worker's examples have, the labels it trains.
Source of the task: Yuan et al., PVLDB 15(8), 2022, section 3, table 4 (they print no more of the
net than its widths).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise

GROUPS = ("features", "hidden0", "labels")


class XMC(nn.Module):
    """``{"ids": [B, F], "values": [B, F]} -> hidden [B, m], kernel [m, L]``.

    Ids from ``widths["features"]`` on are padding (their values must be 0).

    Attributes:
      widths: number of features, hidden neurons and labels (``GROUPS``).
      external: which of ``features`` and ``labels`` are groups, whose neurons come with a round.
      normalise, affine, gains: of the hidden layer, as ``ist_jax.models.mlp.MLP``.
      drop_inputs, drop_hidden: how many of the features and of the neurons are left out in
        training, at random, in every example.
    """

    widths: Mapping[str, int]
    external: tuple[str, ...] = ()
    normalise: str = "none"
    affine: bool = True
    gains: Mapping[str, float] = FrozenDict()
    drop_inputs: float = 0.0
    drop_hidden: float = 0.0

    @nn.compact
    def __call__(
        self, x: Mapping[str, Any], *, train: bool
    ) -> tuple[Float[Array, "B m"], Float[Array, "m L"]]:
        normalise.check_policy(self.normalise)
        if set(self.widths) != set(GROUPS):
            raise InputError(f"an XMC net's widths are of {GROUPS}; found {sorted(self.widths)}")
        for rate in (self.drop_inputs, self.drop_hidden):
            if not 0 <= rate < 1:
                raise InputError(f"drop_inputs and drop_hidden must be in [0, 1), found {rate}")
        if unknown := set(self.external) - {"features", "labels"}:
            raise InputError(f"only features and labels can be external, found {sorted(unknown)}")
        width = self.widths["hidden0"]
        whole = not (train and self.has_rng("dropout"))  # statistics are taken of whole examples

        def kernel(group, init) -> Any:
            named = nn.with_partitioning(
                init, ("hidden0", group if group in self.external else None)
            )
            return self.param(f"of_{group}", named, (width, self.widths[group]))

        # A row of tf-idf has norm 1: pre-activations then begin with a deviation of a half.
        rows = kernel("features", nn.initializers.normal(0.5))
        ids = jnp.minimum(jnp.asarray(x["ids"]), self.widths["features"] - 1)
        values = nn.Dropout(self.drop_inputs, deterministic=whole)(jnp.asarray(x["values"]))
        h = jnp.einsum("bf,bfm->bm", values, rows.T[ids])
        if self.normalise == "standardise":
            h = normalise.Standardise("hidden0", self.affine, name="norm_hidden0")(h, train)
        h = nn.relu(h) * self.gains.get("hidden0", 1.0)
        h = nn.Dropout(self.drop_hidden, deterministic=whole)(h)
        return h, kernel("labels", nn.initializers.zeros)
