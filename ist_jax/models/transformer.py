"""A decoder of text: layers of causal attention and a feed-forward net, cut in one of three ways.

=============  =========================================================  =========================
group          its members                                                source
=============  =========================================================  =========================
``heads``      key-value heads, each with the query heads that share it   TwIST
``ffn``        neurons of the feed-forward nets                           IST, TwIST
``layers``     the layers, stacked on a leading axis                      ResIST
=============  =========================================================  =========================

A group is one draw for all layers: worker s holds the same heads and neurons in each. With a number
behind their names (``heads0``, ``ffn0``, ``heads1``, ...) each layer is a group of its own, and the
layers are no stack. Embedding, logits and normalisations are shared by all workers. A group without
a width is not cut; how large it is then the option of its name says.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Array, Float

from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.decoder import ACTIVATIONS, Layer, matrices, rms_norm


class Transformer(nn.Module):
    """``tokens int [B, T] -> logits float32 [B, T, classes]``, of the token after each.

    Attributes:
      widths: of each group that is cut, ``{"heads": 8, "ffn": 256}``.
      classes: tokens that there are.
      width: of the net, D.
      depth: layers; a subnet of ``layers`` has those that it holds.
      heads, ffn: of the whole net, where they are not cut.
      head: the width of a head, an even number.
      queries: query heads for each key-value head.
      activation: ``"relu2"`` (So et al., 2021) or ``"swiglu"`` (Shazeer, 2020).
      tied: logits come from the embedding.
      soft_cap: logits stay within this of 0, by a tanh; 0: as they are.
      compute: dtype of the arithmetic; parameters stay float32.
      normalise: ``"share"``, ``"scale"`` or ``"none"`` (``ist_jax.models.normalise``).
      gains: factor on what a group adds.
      remembered: positions whose keys and values are kept in the collection ``"memory"``; text is
        then given piece by piece, the next one with ``at``, how many tokens went before.
    """

    widths: Mapping[str, int]
    classes: int
    width: int = 64
    depth: int = 2
    heads: int = 8
    ffn: int = 256
    head: int = 8
    queries: int = 1
    activation: str = "relu2"
    tied: bool = False
    soft_cap: float = 0.0
    compute: str = "float32"
    normalise: str = "share"
    gains: Mapping[str, float] = FrozenDict()
    remembered: int = 0

    @property
    def sequences(self) -> tuple[str, ...]:
        """Groups whose members have an order."""
        return tuple(group for group in self.widths if group == "layers")

    @staticmethod
    def matrices(params: Any) -> Any:
        """Which axes of each kernel are a matrix, for Muon; None of what is no matrix.

        Every head of every layer is a matrix of its own.
        """
        return matrices(params)

    @nn.compact
    def __call__(
        self, x: Array | np.ndarray, *, train: bool = False, at: Any = 0
    ) -> Float[Array, "B T classes"]:
        self._check(x)
        init, dtype = nn.initializers.normal(self.width**-0.5), jnp.dtype(self.compute)
        unnamed = lambda init: nn.with_partitioning(init, (None, None))
        embedding: Any = self.param("embedding", unnamed(init), (self.classes, self.width))
        y = jnp.asarray(embedding, dtype)[jnp.asarray(x)] * self.width**0.5
        y = self._layers(y, at)
        scale: Any = self.param(
            "norm", nn.with_partitioning(nn.initializers.ones, (None,)), (self.width,)
        )
        y = rms_norm(y, jnp.asarray(scale, dtype))
        if self.tied:
            kernel = embedding.T
        else:
            kernel = self.param("logits", unnamed(init), (self.width, self.classes))
        logits = jnp.asarray(y @ jnp.asarray(kernel, dtype), jnp.float32)
        return self.soft_cap * jnp.tanh(logits / self.soft_cap) if self.soft_cap else logits

    def _layers(self, y: Array, at: Any) -> Array:
        if self._apart:
            for number in range(self.depth):
                y = self._layer(str(number), f"layer{number}")(y, at)
            return y
        lift = nn.scan(
            lambda layer, y, _: (layer(y, at), None),
            variable_axes={"params": 0, "memory": 0},
            split_rngs={"params": True},
            length=self.widths.get("layers", self.depth),
            metadata_params={nn.PARTITION_NAME: "layers" if "layers" in self.widths else None},
        )
        return lift(self._layer("", "layers"), y, None)[0]

    def _layer(self, number: str, name: str) -> Layer:
        groups = f"heads{number}", f"ffn{number}"
        all_of_it = self.gains.get("layers", 1.0)
        return Layer(
            heads=self.widths.get(groups[0], self.heads),
            ffn=self.widths.get(groups[1], self.ffn),
            queries=self.queries,
            width=self.head,
            names=tuple(group if group in self.widths else None for group in groups),
            activation=self.activation,
            gains=tuple(all_of_it * self.gains.get(group, 1.0) for group in groups),
            depth=self.depth,
            dtype=jnp.dtype(self.compute),
            remembered=self.remembered,
            name=name,
        )

    @property
    def _apart(self) -> bool:
        """Whether each layer is a group of its own."""
        return any(group[-1:].isdigit() for group in self.widths)

    def _check(self, x: Any) -> None:
        if self.normalise == "standardise":
            raise InputError(
                "a Transformer cannot standardise: the statistics of a batch know the tokens to "
                "come. Set normalise to 'share', 'scale' or 'none'"
            )
        normalise.check_policy(self.normalise)
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(
                f"a Transformer takes tokens int [B, T], found {x.dtype}{list(x.shape)}"
            )
        if self.head % 2:
            raise InputError(f"rotary positions turn pairs: head={self.head} must be even")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation must be 'relu2' or 'swiglu', found {self.activation!r}")
        known = {"heads", "ffn", "layers"}
        if self._apart:
            known = {f"{group}{n}" for n in range(self.depth) for group in ("heads", "ffn")}
        for group, count in self.widths.items():
            if group not in known:
                raise InputError(
                    f"a Transformer has no {group!r}; it has {', '.join(sorted(known))}"
                )
            if count < 1 or (group == "layers" and count > self.depth):
                most = f" to {self.depth}" if group == "layers" else " or more"
                raise InputError(f"{group} must have 1{most} members, found {count}")
