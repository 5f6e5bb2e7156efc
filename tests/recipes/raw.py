"""Trees of arrays with IST: ``init`` and ``apply`` written by hand."""

import jax
import jax.numpy as jnp

WIDTHS = {"hidden0": 256, "hidden1": 256}


def normal(key, *shape):
    """Of unit variance over all axes but the last."""
    return jax.random.normal(key, shape) / jnp.sqrt(jnp.prod(jnp.array(shape[:-1])))


def standardised(x, axis, given=None):
    """Over the batch (0) or the neurons (-1), with its own statistics or with these."""
    mean, variance = given or (x.mean(axis, keepdims=True), x.var(axis, keepdims=True))
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5), (mean, variance)


def mlp(norm="batch", dropout=0.0, dtype=jnp.float32):
    """``make`` for a net of two hidden layers; only batch normalisation has statistics."""
    affine = norm in ("batch", "layer", "rms")

    def make(widths):
        sizes = {"hidden0": (64, widths["hidden0"])}
        sizes |= {"hidden1": (widths["hidden0"], widths["hidden1"])}
        sizes |= {"out": (widths["hidden1"], 10)}

        def init(key):
            keys = dict(zip(sizes, jax.random.split(key, 3), strict=True))
            layers = {k: {"w": normal(keys[k], *n), "b": jnp.zeros(n[1])} for k, n in sizes.items()}
            for group in WIDTHS if affine else ():
                layers[group]["scale"] = jnp.ones(widths[group])
            return layers

        def with_statistics(params, x, *, train=False, key=None, statistics=None):
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
            x, seen = x.reshape(len(x), -1).astype(dtype), {}
            for n, group in enumerate(WIDTHS):
                layer, given = params[group], (statistics or {}).get(group)
                x = x @ layer["w"]
                if norm == "batch":
                    x, seen[group] = standardised(x, 0, given)
                elif norm.startswith("layer"):
                    x, _ = standardised(x, -1)
                elif norm == "rms":
                    x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
                x = jax.nn.relu(x * layer.get("scale", 1) + layer["b"])
                if norm == "scale" and train:
                    x = x * (WIDTHS[group] / widths[group])
                if train and dropout:
                    kept = jax.random.bernoulli(jax.random.fold_in(key, n), 1 - dropout, x.shape)
                    x = x * kept / (1 - dropout)
            out = (x @ params["out"]["w"] + params["out"]["b"]).astype(jnp.float32)
            return (out, seen) if statistics is None else out

        def apply(params, x, *, train=False, key=None):
            return with_statistics(params, x, train=train, key=key)[0]

        return init, with_statistics if norm == "batch" else apply

    return make


def tied(widths):
    """One kernel there and back: a parameter that is used twice is one leaf."""
    a, b = widths["hidden0"], widths["hidden1"]

    def init(key):
        keys = jax.random.split(key, 3)
        return {"up": normal(keys[0], 64, a), "v": normal(keys[1], 64, b)} | {
            "out": normal(keys[2], b, 10)
        }

    def apply(params, x):
        x = x.reshape(len(x), -1)
        x = x + jax.nn.relu(standardised(x @ params["up"], -1)[0]) @ params["up"].T
        return jax.nn.relu(standardised(x @ params["v"], -1)[0]) @ params["out"]

    return init, apply


def attention(widths):
    """Attention over the rows of an image: heads have an axis of their own."""
    heads, inner = widths["heads"], widths["inner"]

    def init(key):
        sums = {"embed": (8, 32), "up": (32, inner), "down": (inner, 32), "out": (8 * 32, 10)}
        sums |= {"qkv": (32, 3 * heads * 8), "back": (heads * 8, 32)}  # inputs, outputs
        keys = jax.random.split(key, 7)
        params = {k: normal(key, *n) for key, (k, n) in zip(keys, sums.items(), strict=False)}
        params["positions"] = 0.1 * jax.random.normal(keys[6], (8, 32))
        params["qkv"] = params["qkv"].reshape(32, 3, heads, 8)
        params["back"] = params["back"].reshape(heads, 8, 32)
        return params

    def apply(params, x):
        x = x.reshape(len(x), 8, 8) @ params["embed"] + params["positions"]
        y, _ = standardised(x, -1)
        q, k, v = jnp.einsum("brc,cnhd->nbhrd", y, params["qkv"])
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / 8**0.5)
        x = x + jnp.einsum("bhrd,hdc->brc", weights @ v, params["back"])
        y, _ = standardised(x, -1)
        x = x + jax.nn.relu(y @ params["up"]) @ params["down"]
        return x.reshape(len(x), -1) @ params["out"]

    return init, apply
