"""Models of somebody's own as functions of their widths, in pure JAX, Linen and NNX."""

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp


def make(widths, classes, scale=1.0):
    """A hidden layer with a root mean square norm."""

    def init(key):
        one, two = jax.random.split(key)
        return {
            "in": jax.random.normal(one, (64, widths["hidden"])) / 8,
            "out": jax.random.normal(two, (widths["hidden"], classes)) / widths["hidden"] ** 0.5,
        }

    def apply(params, x):
        hidden = jax.nn.relu(x.reshape(len(x), 64) @ params["in"])
        hidden = hidden * jax.lax.rsqrt((hidden**2).mean(-1, keepdims=True) + 1e-5)
        return scale * hidden @ params["out"]

    return init, apply


class Plain(nn.Module):
    """Of Linen, without names and without ``train``."""

    widths: dict
    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.widths["hidden"])(x.reshape(len(x), 64))
        return nn.Dense(self.classes)(nn.relu(nn.LayerNorm()(x)))


class Module(nnx.Module):
    """Of NNX."""

    def __init__(self, widths, rngs, classes):
        self.into = nnx.Linear(64, widths["hidden"], rngs=rngs)
        self.norm = nnx.LayerNorm(widths["hidden"], rngs=rngs)
        self.outof = nnx.Linear(widths["hidden"], classes, rngs=rngs)

    def __call__(self, x):
        return self.outof(nnx.relu(self.norm(self.into(x.reshape(len(x), 64)))))


def ordered(widths, classes):
    """Knows its neurons by their order: it adds each to the next."""
    init, _ = make(widths, classes)
    apply = lambda params, x: jnp.cumsum(x.reshape(len(x), 64) @ params["in"], -1) @ params["out"]
    return init, apply


def nothing(widths):
    """No model."""


class NoWidths(nn.Module):
    """Of Linen, made by a function, without an attribute ``widths``."""

    hidden: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.LayerNorm()(nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), 64)))))


def returns_linen(widths):
    return NoWidths(widths["hidden"])
