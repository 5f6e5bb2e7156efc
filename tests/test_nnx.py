"""NNX modules as functions of their widths."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import axes, decompose
from ist_jax.core.errors import InputError
from ist_jax.models.nnx import functions

X = jax.random.normal(jax.random.key(1), (5, 6, 8))


class Attention(nnx.Module):
    """A stock layer that keeps the number of its heads in an attribute."""

    def __init__(self, widths, rngs):
        heads = widths["heads"]
        self.attention = nnx.MultiHeadAttention(
            heads, 8, qkv_features=4 * heads, decode=False, rngs=rngs
        )

    def __call__(self, x):
        return self.attention(x)


def test_a_subnet_of_heads_is_the_whole_with_the_others_silent(key):
    make, who = functions(Attention), {"heads": jnp.array([[0, 2], [1, 3]])}
    init, apply = make({"heads": 4})
    params = init(key)
    names = axes.infer(make, {"heads": 4}, check=lambda params: apply(params, X))
    assert names["attention"]["out"]["kernel"] == ("heads", None, None)
    net = jax.tree.map(lambda leaf: leaf[0], decompose.gather(params, names, who))
    out = params["attention"]["out"]
    silent = out | {"kernel": out["kernel"].at[jnp.array([1, 3])].set(0)}
    expected = apply({"attention": params["attention"] | {"out": silent}}, X)
    found = make({"heads": 2})[1](net, X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Many(nnx.Module):
    """More layers in a list than digits sort in text; dropout; batch normalisation."""

    def __init__(self, widths, rngs):
        width = widths["h"]
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(12)])
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return self.down(self.drop(nnx.relu(self.up(self.norm(x)))))


def test_the_functions_say_what_the_module_says(key):
    init, apply = functions(Many)({"h": 16})
    module = Many({"h": 16}, nnx.Rngs(key))
    module.set_attributes(deterministic=True, raise_if_not_found=False)
    x = X[:, 0]
    outputs, statistics = apply(init(key), x)
    np.testing.assert_allclose(outputs, module(x), rtol=1e-5, atol=1e-6)
    norm = statistics["norm"]
    hidden = x
    for layer in module.layers:
        hidden = hidden + layer(hidden)
    np.testing.assert_allclose(norm["mean"], hidden.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm["var"], hidden.var(axis=0), rtol=1e-4)


def test_statistics_that_are_passed_are_used(key):
    init, apply = functions(Many)({"h": 16})
    params, x = init(key), X[:, 0]
    outputs, statistics = apply(params, x)
    part = apply(params, x[:2], statistics=statistics)
    np.testing.assert_allclose(part, outputs[:2], rtol=1e-5, atol=1e-6)
    assert jnp.abs(apply(params, x[:2])[0] - part).max() > 1e-3


def test_dropout_follows_the_key_and_only_in_training(key):
    init, apply = functions(Many)({"h": 16})
    params, x = init(key), X[:, 0]
    first, again, other = (
        apply(params, x, train=True, key=jax.random.key(n))[0] for n in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert (apply(params, x, key=jax.random.key(1))[0] == apply(params, x)[0]).all()
    with pytest.raises(InputError, match="draws random numbers: apply"):
        apply(params, x, train=True)


def test_other_state_is_refused():
    class Counting(nnx.Module):
        def __init__(self, widths, rngs):
            self.layer, self.calls = nnx.Linear(2, 3, rngs=rngs), nnx.Variable(jnp.zeros(()))

    with pytest.raises(InputError, match="Counting has state that is not a parameter: calls"):
        functions(Counting)({})
