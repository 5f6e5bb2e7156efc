"""Nets on graphs: as NumPy on a dense adjacency, and cut like every other net."""

import functools

import jax
import numpy as np
import pytest
from conftest import drawn, on_host, same_bits
from test_messages import graph

from ist_jax import axes, decompose, partition
from ist_jax.core.errors import InputError
from ist_jax.models import message_passing, normalise
from ist_jax.models.gcn import KINDS, GraphNet

DENSE, RECEIVERS, SENDERS = graph()
X = {
    "features": np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32),
    "links": message_passing.links(SENDERS, RECEIVERS, 30),
}
WIDTHS = {"hidden0": 8, "hidden1": 6}


def net(kind, **changes):
    model = GraphNet(WIDTHS, 3, kind, heads=2, **changes)
    return model, *drawn(model, X)


def by_hand(kind, params, layer_norm):
    """The whole net in NumPy, float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    adjacency, h = DENSE.astype(float), X["features"].astype(np.float64)
    for name in ("hidden0", "hidden1", "logits"):
        flat = h.reshape(30, -1)
        kernel = lambda which, n=name: p[f"{which}_{n}"]["kernel"]
        if kind == "gcn":
            loops = adjacency + np.eye(30)
            root = 1 / np.sqrt(loops.sum(1))
            h = (root[:, None] * loops * root) @ flat @ kernel("all")
        elif kind == "sage":
            mean = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
            h = flat @ kernel("self") + mean @ flat @ kernel("neighbours")
        else:
            whole = kernel("all").reshape(flat.shape[1], 2, -1)
            z = np.einsum("nf,fhd->nhd", flat, whole)
            to, of = (np.einsum("nhd,hd->nh", z, p[f"{w}_{name}"]) for w in ("to", "of"))
            logits = to[:, None] + of[None]
            logits = np.where(logits > 0, logits, 0.2 * logits)
            logits = np.where((adjacency + np.eye(30))[:, :, None] > 0, logits, -np.inf)
            share = np.exp(logits - logits.max(1, keepdims=True))
            h = np.einsum("ijh,jhd->ihd", share / share.sum(1, keepdims=True), z)
        if name == "logits":
            break
        if layer_norm:
            over = tuple(range(1, h.ndim))
            h = (h - h.mean(over, keepdims=True)) / np.sqrt(h.var(over, keepdims=True) + 1e-5)
        h = np.maximum(h, 0)
    return (h.mean(1) if kind == "gat" else h) + p["bias"]


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_numpy_on_a_dense_adjacency(kind, layer_norm):
    model, params, _ = net(kind, layer_norm=layer_norm)
    found = jax.jit(functools.partial(model.apply, train=True))(params, X)
    np.testing.assert_allclose(found, by_hand(kind, params, layer_norm), atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subnet_is_a_narrower_net_and_comes_back_the_same(kind):
    model, params, names = net(kind)
    widths = axes.widths(params, names)
    assert widths == WIDTHS
    who = partition.permutation(jax.random.key(0), widths, 2)
    nets = decompose.gather(params, names, who)
    narrow, _ = drawn(normalise.subnet(model, {"hidden0": 4, "hidden1": 3}), X)
    assert jax.tree.map(lambda leaf: leaf.shape[1:], nets) == jax.tree.map(np.shape, narrow)
    assert same_bits(on_host(decompose.scatter(params, nets, names, who)), on_host(params))
    shared = [path for path, _, of_leaf in axes.walk(params, names) if not any(of_leaf)]
    of_gat = ["of_logits", "to_logits"] if kind == "gat" else []
    assert shared == [f"['params']['{name}']" for name in ("bias", *of_gat)]


def test_what_is_dropped_out_is_so_in_training_alone():
    model, params, _ = net("sage", drop=0.5)
    calls = [
        model.apply(params, X, train=train, rngs={"dropout": jax.random.key(key)})
        for train, key in ((True, 0), (True, 1), (False, 0), (False, 1))
    ]
    assert np.abs(calls[0] - calls[1]).max() > 0.1
    assert same_bits(calls[2], calls[3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "gin"}, "one of gcn, sage, gat; found 'gin'"),
        ({"drop": 1.0}, r"drop must be in \[0, 1\), found 1.0"),
        ({"heads": 0}, "at least one head"),
        ({"normalise": "standardise"}, "normalises each node by itself"),
        ({"widths": {"h": 3}}, "groups are hidden0, hidden1"),
    ],
)
def test_nets_that_cannot_be_built(changes, message):
    model = GraphNet(WIDTHS, 3).clone(**changes)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), X, train=True))
