"""Equinox with IST: ``init`` gives a module's arrays, ``apply`` puts them into its narrow self."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ist_jax import axes

WIDTHS = {"hidden0": 256, "hidden1": 256}


class Standardise(eqx.Module):
    """In the place of ``eqx.nn.BatchNorm``: over the batch, with its statistics or with others."""

    scale: jax.Array
    shift: jax.Array

    def __init__(self, width):
        self.scale, self.shift = jnp.ones(width), jnp.zeros(width)

    def __call__(self, x, statistics=None):
        mean, variance = statistics or batch_statistics(x)
        x = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
        return x * self.scale + self.shift, (mean, variance)


def batch_statistics(x):
    mean = jax.lax.pmean(x, "batch")
    return mean, jax.lax.pmean(jnp.square(x - mean), "batch")


class MLP(eqx.Module):
    """Two hidden layers, each normalised before its ReLU; of one example."""

    layers: list
    norms: list
    dropout: eqx.nn.Dropout
    gains: tuple = eqx.field(static=True)
    dtype: type = eqx.field(static=True)

    def __init__(self, widths, key, norm="batch", dropout=0.0, dtype=jnp.float32):
        a, b = widths["hidden0"], widths["hidden1"]
        keys = jax.random.split(key, 3)
        sizes = ((64, a), (a, b), (b, 10))
        self.layers = [eqx.nn.Linear(*size, key=k) for size, k in zip(sizes, keys, strict=True)]
        norms = {
            "batch": Standardise,
            "layer": eqx.nn.LayerNorm,
            "layer, plain": lambda n: eqx.nn.LayerNorm(n, use_weight=False, use_bias=False),
            "rms": eqx.nn.RMSNorm,
        }
        self.norms = [norms[norm](n) if norm in norms else None for n in (a, b)]
        self.dropout = eqx.nn.Dropout(dropout)
        scale = [WIDTHS[g] / widths[g] for g in WIDTHS] if norm == "scale" else [1, 1]
        self.gains, self.dtype = tuple(scale), dtype

    def __call__(self, x, key, train, statistics=None):
        x, seen = jnp.ravel(x).astype(self.dtype), []
        for n, (layer, norm) in enumerate(zip(self.layers[:-1], self.norms, strict=True)):
            x = layer(x)
            if isinstance(norm, Standardise):
                x, found = norm(x, statistics and statistics[n])
                seen.append(found)
            elif norm is not None:
                x = norm(x)
            x = jax.nn.relu(x) * (self.gains[n] if train else 1)
            x = self.dropout(x, key=jax.random.fold_in(key, n), inference=not train)
        return self.layers[-1](x).astype(jnp.float32), seen


def parts(build):
    """``build(key) -> `` a module, as ``init`` and the way back from its arrays."""
    shapes = eqx.filter_eval_shape(build, jax.random.key(0))
    _, rest = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    init = lambda key: eqx.filter(build(key), eqx.is_array)
    return init, lambda params: eqx.combine(params, rest)


def mlp(norm="batch", dropout=0.0, dtype=jnp.float32):
    """``make`` for that net; only batch normalisation has statistics."""

    def make(widths):
        init, module = parts(lambda key: MLP(widths, key, norm, dropout, dtype))

        def with_statistics(params, x, *, train=False, key=None, statistics=None):
            model = module(jax.tree.map(lambda leaf: leaf.astype(dtype), params))
            keys = jax.random.split(jax.random.key(0) if key is None else key, len(x))
            run = jax.vmap(
                lambda x, key: model(x, key, train, statistics),
                out_axes=(0, None),
                axis_name="batch",
            )
            outputs, seen = run(x, keys)
            return (outputs, seen) if statistics is None else outputs

        def apply(params, x, *, train=False, key=None):
            return with_statistics(params, x, train=train, key=key)[0]

        return init, with_statistics if norm == "batch" else apply

    return make


class Tied(eqx.Module):
    """One kernel there and back: a parameter that is used twice is one leaf."""

    up: eqx.nn.Linear
    layer: eqx.nn.Linear
    out: eqx.nn.Linear
    norms: list

    def __init__(self, widths, key):
        a, b = widths["hidden0"], widths["hidden1"]
        keys = jax.random.split(key, 3)
        self.up = eqx.nn.Linear(64, a, use_bias=False, key=keys[0])
        self.layer = eqx.nn.Linear(64, b, key=keys[1])
        self.out = eqx.nn.Linear(b, 10, key=keys[2])
        self.norms = [eqx.nn.LayerNorm(a), eqx.nn.LayerNorm(b)]

    def __call__(self, x):
        x = jnp.ravel(x)
        x = x + self.up.weight.T @ jax.nn.relu(self.norms[0](self.up(x)))
        return self.out(jax.nn.relu(self.norms[1](self.layer(x))))


class Attention(eqx.Module):
    """Attention over the rows of an image by heads of 8, then a feed-forward layer."""

    embed: eqx.nn.Linear
    positions: jax.Array
    heads: eqx.nn.MultiheadAttention
    inner: list
    norms: list
    out: eqx.nn.Linear

    def __init__(self, widths, key):
        heads, inner = widths["heads"], widths["inner"]
        keys = jax.random.split(key, 6)
        self.embed = eqx.nn.Linear(8, 32, key=keys[0])
        self.positions = 0.1 * jax.random.normal(keys[1], (8, 32))
        self.heads = eqx.nn.MultiheadAttention(heads, 32, qk_size=8, vo_size=8, key=keys[2])
        self.inner = [
            eqx.nn.Linear(32, inner, key=keys[3]),
            eqx.nn.Linear(inner, 32, key=keys[4]),
        ]
        self.norms = [eqx.nn.LayerNorm(32), eqx.nn.LayerNorm(32)]
        self.out = eqx.nn.Linear(8 * 32, 10, key=keys[5])

    def __call__(self, x):
        x = jax.vmap(self.embed)(x.reshape(8, 8)) + self.positions
        y = jax.vmap(self.norms[0])(x)
        x = x + self.heads(y, y, y)
        up, down = self.inner
        x = x + jax.vmap(lambda row: down(jax.nn.relu(up(self.norms[1](row)))))(x)
        return self.out(jnp.ravel(x))


def stock(module):
    """``make`` for a module without statistics or dropout."""

    def make(widths):
        init, whole = parts(lambda key: module(widths, key))
        return init, lambda params, x: jax.vmap(whole(params))(x)

    return make


SPLIT = {
    ".heads.query_proj.weight": (("heads", -1), None),  # [heads * 8, 32]
    ".heads.key_proj.weight": (("heads", -1), None),
    ".heads.value_proj.weight": (("heads", -1), None),
    ".heads.output_proj.weight": (None, ("heads", -1)),  # [32, heads * 8]
}

tied = stock(Tied)
attention = axes.unfuse(stock(Attention), SPLIT)
