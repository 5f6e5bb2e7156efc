"""Flax NNX with IST: modules as they are; ``functions`` makes two pure functions of them."""

import flax.nnx as nnx
import jax.numpy as jnp

from ist_jax.models.nnx import functions

WIDTHS = {"hidden0": 256, "hidden1": 256}


class MLP(nnx.Module):
    """Two hidden layers, each normalised before its ReLU."""

    def __init__(self, widths, rngs, norm="batch", dropout=0.0, dtype=jnp.float32):
        a, b = widths["hidden0"], widths["hidden1"]
        affine = norm == "layer"
        norms = {
            "batch": lambda n: nnx.BatchNorm(n, dtype=dtype, rngs=rngs),
            "layer": lambda n: nnx.LayerNorm(n, dtype=dtype, rngs=rngs),
            "layer, plain": lambda n: nnx.LayerNorm(
                n, use_bias=affine, use_scale=affine, dtype=dtype, rngs=rngs
            ),
            "rms": lambda n: nnx.RMSNorm(n, dtype=dtype, rngs=rngs),
        }
        norm_of = norms.get(norm, lambda n: lambda x: x)
        self.layer0 = nnx.Linear(64, a, dtype=dtype, rngs=rngs)
        self.layer1 = nnx.Linear(a, b, dtype=dtype, rngs=rngs)
        self.norm0, self.norm1 = norm_of(a), norm_of(b)
        self.out = nnx.Linear(b, 10, dtype=dtype, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        x = self.drop(nnx.relu(self.norm0(self.layer0(x))))
        x = self.drop(nnx.relu(self.norm1(self.layer1(x))))
        return self.out(x).astype(jnp.float32)


def mlp(norm="batch", dropout=0.0, dtype=jnp.float32):
    return functions(lambda widths, rngs: MLP(widths, rngs, norm, dropout, dtype))


class Tied(nnx.Module):
    """One kernel there and back: a parameter that is used twice is one leaf."""

    def __init__(self, widths, rngs):
        a, b = widths["hidden0"], widths["hidden1"]
        self.up = nnx.Linear(64, a, use_bias=False, rngs=rngs)
        self.layer, self.out = nnx.Linear(64, b, rngs=rngs), nnx.Linear(b, 10, rngs=rngs)
        self.norm0, self.norm1 = nnx.LayerNorm(a, rngs=rngs), nnx.LayerNorm(b, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        x = x + nnx.relu(self.norm0(self.up(x))) @ self.up.kernel[...].T
        return self.out(nnx.relu(self.norm1(self.layer(x))))


class Attention(nnx.Module):
    """Attention over the rows of an image by heads of 8, then a feed-forward layer."""

    def __init__(self, widths, rngs):
        heads, inner = widths["heads"], widths["inner"]
        self.embed = nnx.Linear(8, 32, rngs=rngs)
        self.positions = nnx.Param(0.1 * rngs.params.normal((8, 32)))
        self.attention = nnx.MultiHeadAttention(
            heads, 32, qkv_features=8 * heads, out_features=32, decode=False, rngs=rngs
        )
        self.norm0, self.norm1 = nnx.LayerNorm(32, rngs=rngs), nnx.LayerNorm(32, rngs=rngs)
        self.up, self.down = nnx.Linear(32, inner, rngs=rngs), nnx.Linear(inner, 32, rngs=rngs)
        self.out = nnx.Linear(8 * 32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x.reshape(len(x), 8, 8)) + self.positions
        x = x + self.attention(self.norm0(x))
        x = x + self.down(nnx.relu(self.up(self.norm1(x))))
        return self.out(x.reshape(len(x), -1))


tied, attention = functions(Tied), functions(Attention)
