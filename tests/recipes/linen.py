"""Flax Linen with IST: stock layers, no names of axes, and ``make(widths) -> (init, apply)``."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

WIDTHS = {"hidden0": 256, "hidden1": 256}


class MLP(nn.Module):
    """Two hidden layers, each normalised before its ReLU."""

    widths: Mapping[str, int]
    norm: str = "batch"
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train, given):
        x = x.reshape(len(x), -1)
        for group in ("hidden0", "hidden1"):
            x = nn.Dense(self.widths[group], dtype=self.dtype)(x)
            if self.norm == "batch":  # no running mean: statistics are those of one batch
                x = nn.BatchNorm(use_running_average=given, momentum=0.0, dtype=self.dtype)(x)
            elif self.norm.startswith("layer"):
                affine = self.norm == "layer"
                x = nn.LayerNorm(use_bias=affine, use_scale=affine, dtype=self.dtype)(x)
            elif self.norm == "rms":
                x = nn.RMSNorm(dtype=self.dtype)(x)
            x = nn.relu(x)
            if self.norm == "scale" and train:
                x = x * (WIDTHS[group] / self.widths[group])
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(10, dtype=self.dtype)(x).astype(jnp.float32)


def mlp(norm="batch", dropout=0.0, dtype=jnp.float32):
    """``make`` for that net; only batch normalisation has statistics."""

    def make(widths):
        model = MLP(widths, norm, dropout, dtype)

        def init(key):
            return {"params": model.init(key, jnp.ones((1, 64)), False, False)["params"]}

        def with_statistics(params, x, *, train=False, key=None, statistics=None):
            rngs = {"dropout": key} if train else {}
            if statistics is None:
                return model.apply(params, x, train, False, rngs=rngs, mutable=["batch_stats"])
            return model.apply({**params, **statistics}, x, train, True, rngs=rngs)

        def apply(params, x, *, train=False, key=None):
            return model.apply(params, x, train, False, rngs={"dropout": key} if train else {})

        return init, with_statistics if norm == "batch" else apply

    return make


class Tied(nn.Module):
    """One kernel there and back: a parameter that is used twice is one leaf."""

    widths: Mapping[str, int]

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (64, self.widths["hidden0"]))
        x = x + nn.relu(nn.LayerNorm()(x @ kernel)) @ kernel.T
        return nn.Dense(10)(nn.relu(nn.LayerNorm()(nn.Dense(self.widths["hidden1"])(x))))


class Attention(nn.Module):
    """Attention over the rows of an image by heads of 8, then a feed-forward layer."""

    widths: Mapping[str, int]

    @nn.compact
    def __call__(self, x):
        heads = self.widths["heads"]
        x = nn.Dense(32)(x.reshape(len(x), 8, 8))
        x = x + self.param("positions", nn.initializers.normal(0.1), (8, 32))
        x = x + nn.MultiHeadDotProductAttention(heads, qkv_features=8 * heads, out_features=32)(
            nn.LayerNorm()(x)
        )
        x = x + nn.Dense(32)(nn.relu(nn.Dense(self.widths["inner"])(nn.LayerNorm()(x))))
        return nn.Dense(10)(x.reshape(len(x), -1))


def stock(module):
    """``make`` for a module without statistics or dropout."""

    def make(widths):
        model = module(widths)
        return lambda key: model.init(key, jnp.ones((1, 8, 8))), model.apply

    return make


tied, attention = stock(Tied), stock(Attention)
