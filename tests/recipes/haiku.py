"""Haiku with IST: ``hk.transform`` of a function that knows its widths."""

import haiku as hk
import jax
import jax.numpy as jnp

from ist_jax import axes

WIDTHS = {"hidden0": 256, "hidden1": 256}


def normalised(norm, x, given):
    if norm == "batch":  # at the first call, Haiku's average is that of the batch
        return hk.BatchNorm(True, True, decay_rate=0.9)(x, is_training=not given)
    if norm.startswith("layer"):
        return hk.LayerNorm(-1, create_scale=norm == "layer", create_offset=norm == "layer")(x)
    return hk.RMSNorm(-1)(x) if norm == "rms" else x


def mlp(norm="batch", dropout=0.0, dtype=jnp.float32):
    """``make`` for a net of two hidden layers; only batch normalisation has statistics."""

    def make(widths):
        def forward(x, train, given):
            x = x.reshape(len(x), -1).astype(dtype)
            for group in ("hidden0", "hidden1"):
                x = jax.nn.relu(normalised(norm, hk.Linear(widths[group])(x), given))
                if norm == "scale" and train:
                    x = x * (WIDTHS[group] / widths[group])
                if train and dropout:
                    x = hk.dropout(hk.next_rng_key(), dropout, x)
            return hk.Linear(10)(x).astype(jnp.float32)

        model = hk.transform_with_state(forward)
        start = lambda key: model.init(key, jnp.ones((1, 64)), False, False)

        def init(key):
            return start(key)[0]

        def with_statistics(params, x, *, train=False, key=None, statistics=None):
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
            if statistics is not None:
                return model.apply(params, statistics, key, x, train, True)[0]
            shapes = jax.eval_shape(start, jax.random.key(0))[1]
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            return model.apply(params, zeros, key, x, train, False)

        def apply(params, x, *, train=False, key=None):
            return with_statistics(params, x, train=train, key=key, statistics={})

        return init, with_statistics if norm == "batch" else apply

    return make


def pure(forward):
    """``make`` for ``forward(widths, x)`` without statistics or dropout."""

    def make(widths):
        model = hk.without_apply_rng(hk.transform(lambda x: forward(widths, x)))
        return lambda key: model.init(key, jnp.ones((1, 8, 8))), model.apply

    return make


@pure
def tied(widths, x):
    """One kernel there and back: a parameter that is used twice is one leaf."""
    x = x.reshape(len(x), -1)
    init = hk.initializers.VarianceScaling()
    kernel = hk.get_parameter("kernel", (64, widths["hidden0"]), init=init)
    x = x + jax.nn.relu(hk.LayerNorm(-1, True, True)(x @ kernel)) @ kernel.T
    x = jax.nn.relu(hk.LayerNorm(-1, True, True)(hk.Linear(widths["hidden1"])(x)))
    return hk.Linear(10)(x)


@pure
def fused_attention(widths, x):
    """Attention over the rows of an image by heads of 8, then a feed-forward layer."""
    x = hk.Linear(32)(x.reshape(len(x), 8, 8))
    x = x + hk.get_parameter("positions", (8, 32), init=hk.initializers.RandomNormal(0.1))
    y = hk.LayerNorm(-1, True, True)(x)
    heads = hk.MultiHeadAttention(
        widths["heads"], 8, model_size=32, w_init=hk.initializers.VarianceScaling(), name="heads"
    )
    x = x + heads(y, y, y)
    y = jax.nn.relu(hk.Linear(widths["inner"])(hk.LayerNorm(-1, True, True)(x)))
    return hk.Linear(10)((x + hk.Linear(32)(y)).reshape(len(x), -1))


into = {"w": (None, ("heads", -1)), "b": (("heads", -1),)}  # [32, heads * 8]
SPLIT = {
    f"['heads/{part}']['{name}']": form
    for part in ("query", "key", "value")
    for name, form in into.items()
} | {"['heads/linear']['w']": (("heads", -1), None)}

attention = axes.unfuse(fused_attention, SPLIT)
