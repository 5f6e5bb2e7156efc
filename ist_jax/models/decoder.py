"""A layer of a decoder: causal attention, then a feed-forward net, each beside a way around it.

Normalised before each part (Zhang and Sennrich, 2019), queries and keys once more (Henry et al.,
2020), rotary positions (Su et al., 2021), grouped queries (Ainslie et al., 2023). An empty slot has
parameters of zeros, which stay zeros, and adds nothing.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PyTree = Any
MATRICES = {  # of each kernel: from which axis to which
    "query": (-4, -1),
    "key": (-3, -1),
    "value": (-3, -1),
    "out": (-2, -1),
    "up": (-2, -1),
    "gate": (-2, -1),
    "down": (-2, -1),
}
ACTIVATIONS = ("relu2", "swiglu")
EPSILON = 1e-6


class Layer(nn.Module):
    """``[B, T, D] -> [B, T, D]``.

    Attributes:
      heads, ffn: key-value heads and feed-forward neurons that it has.
      queries: query heads for each key-value head.
      width: of a head.
      names: of the groups of heads and neurons; None where they are not cut.
      activation: of ``ACTIVATIONS``.
      gains: factors on what attention and the feed-forward net add.
      depth: layers of the net, for the scale of the first parameters.
      dtype: that it computes in.
      remembered: how many positions the keys and values of earlier calls are kept for; 0: none.
    """

    heads: int
    ffn: int
    queries: int
    width: int
    names: tuple[str | None, ...]
    activation: str
    gains: tuple[float, ...]
    depth: int
    dtype: Any
    remembered: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], at: Any) -> Float[Array, "B T D"]:
        normal = self._norm("before_attention", x)
        x = x + self.gains[0] * self._attention(normal, at)
        return x + self.gains[1] * self._feed_forward(self._norm("before_ffn", x))

    def _attention(self, x: Array, at: Any) -> Array:
        group, many = self.names[0], (self.heads, self.queries, self.width)
        q = jnp.einsum("btd,dkgh->btkgh", x, self._kernel("query", x, many, (group, None, None)))
        one = self.heads, self.width
        k, v = (
            jnp.einsum("btd,dkh->btkh", x, self._kernel(name, x, one, (group, None)))
            for name in ("key", "value")
        )
        angles = _angles(x.shape[1], self.width, at)
        q, k = (
            _rotated(self._norm(f"{name}_norm", part), angles)
            for name, part in (("query", q), ("key", k))
        )
        q = q.reshape(*q.shape[:2], -1, self.width)
        if self.remembered:
            k, v = self._with_earlier(k, v, at)
            here, there = at + jnp.arange(x.shape[1]), jnp.arange(self.remembered)
            seen = there[None, :] <= here[:, None]
            out = jax.nn.dot_product_attention(q, k, v, mask=seen[None, None])
        else:
            out = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        out = out.reshape(*out.shape[:2], *many)
        back = self._back("out", (*many, x.shape[-1]), (group, None, None, None))
        return jnp.einsum("btkgh,kghd->btd", out, back)

    def _feed_forward(self, x: Array) -> Array:
        up = x @ self._kernel("up", x, (self.ffn,), (self.names[1],))
        if self.activation == "swiglu":
            active = up * nn.silu(x @ self._kernel("gate", x, (self.ffn,), (self.names[1],)))
        else:
            active = jnp.square(nn.relu(up))
        return active @ self._back("down", (self.ffn, x.shape[-1]), (self.names[1], None))

    def _with_earlier(self, k: Array, v: Array, at: Any) -> tuple[Array, Array]:
        """Keys and values of all positions up to now; those of later ones are zeros."""
        kept = []
        for name, new in (("keys", k), ("values", v)):
            shape = (new.shape[0], self.remembered, *new.shape[2:])
            memory = self.variable("memory", name, jnp.zeros, shape, new.dtype)
            start = (0, at, 0, 0)
            memory.value = jax.lax.dynamic_update_slice(memory.value, new, start)
            kept.append(memory.value)
        return kept[0], kept[1]

    def _kernel(
        self, name: str, x: Array, out: tuple[int, ...], names: tuple[str | None, ...]
    ) -> Array:
        """From the width of the net to some axes."""
        axes = tuple(range(1, len(out) + 1))
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", 0, axes)
        return self._param(name, init, (x.shape[-1], *out), (None, *names))

    def _back(self, name: str, shape: tuple[int, ...], names: tuple[str | None, ...]) -> Array:
        """From some axes to the width of the net; small where many layers are added up."""
        axes, scale = tuple(range(len(shape) - 1)), 1 / (2 * self.depth)
        init = nn.initializers.variance_scaling(scale, "fan_in", "normal", axes, -1)
        return self._param(name, init, shape, names)

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self._param(name, nn.initializers.ones, x.shape[-1:], (None,)))

    def _param(
        self, name: str, init: Any, shape: tuple[int, ...], names: tuple[str | None, ...]
    ) -> Array:
        value: Any = self.param(name, nn.with_partitioning(init, names), shape)
        return jnp.asarray(value, self.dtype)


def matrices(params: PyTree) -> PyTree:
    """Optax's ``MuonDimensionNumbers`` of every kernel of layers; None of all else.

    Heads, query groups and layers count matrices. Embedding and logits are left to Adam, as by
    Muon's authors (Jordan et al., 2024).
    """
    from optax import contrib  # it takes a while

    def one(path: Any, _: Array) -> Any:
        axes = MATRICES.get(getattr(path[-1], "key", ""))
        return None if axes is None else contrib.MuonDimensionNumbers(*axes)

    return jax.tree_util.tree_map_with_path(one, params)


def rms_norm(x: Array, scale: Array) -> Array:
    """Divided by the root of the mean square of the last axis, in float32."""
    wide = jnp.asarray(x, jnp.float32)
    mean = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return jnp.asarray(wide * jax.lax.rsqrt(mean + EPSILON), x.dtype) * scale


def _angles(length: int, width: int, at: Any) -> tuple[Array, Array]:
    """Cosines and sines ``[T, width / 2]`` of the positions from ``at`` on."""
    turns = 10_000.0 ** (-jnp.arange(0, width, 2) / width)
    angles = (at + jnp.arange(length))[:, None] * turns
    return jnp.cos(angles), jnp.sin(angles)


def _rotated(x: Float[Array, "B T *heads h"], angles: tuple[Array, Array]) -> Array:
    """Pairs of entries, turned by their position's angles."""
    between = (1,) * (x.ndim - 3)
    cos, sin = (
        jnp.asarray(part, x.dtype).reshape(len(part), *between, part.shape[-1]) for part in angles
    )
    one, other = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)
