"""Sums over neighbours, their gradients and attention: a dense adjacency says what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.models import message_passing


def graph(nodes=30, edges=60, hub=25, seed=0):
    """Edges both ways, with a hub (more than three rows of neighbours) and nodes without any."""
    draw = np.random.default_rng(seed)
    dense = np.zeros((nodes, nodes), bool)
    ends = draw.integers(0, nodes - 3, (2, edges))
    dense[ends[0], ends[1]] = True
    dense[4, :hub] = True
    dense |= dense.T
    np.fill_diagonal(dense, False)
    return dense, *np.nonzero(dense)


@pytest.fixture(params=[0, 5])
def case(request):
    dense, receivers, senders = graph()
    order = np.random.default_rng(1).permutation(len(senders))
    nodes = 30 + request.param  # the last are not there
    needed = int(message_passing.beyond(dense.sum(1)).sum())
    of = message_passing.links(senders[order], receivers[order], nodes, needed + request.param)
    padded = np.zeros((nodes, nodes), np.float32)
    padded[:30, :30] = dense
    return padded, jax.tree.map(jnp.asarray, of)


def test_rows_hold_every_edge_once_and_know_its_other_way(case):
    dense, of = case
    n = len(dense)
    assert (of.degree == dense.sum(1)).all()
    slots = np.concatenate([of.first, of.more]).ravel()
    owners = np.repeat(np.concatenate([np.arange(n), of.owner]), message_passing.K)
    there = slots < n
    found = np.zeros_like(dense)
    np.add.at(found, (owners[there], slots[there]), 1)
    assert (found == dense).all()
    reverse = np.asarray(of.reverse).ravel()
    assert (reverse[~there] == len(slots)).all()
    back = reverse[there]
    assert (slots[back] == owners[there]).all()
    assert (owners[back] == slots[there]).all()


def test_a_sum_and_its_gradient_are_those_of_the_dense_adjacency(case):
    dense, of = case
    draw = np.random.default_rng(2)
    x, g = (jnp.asarray(draw.normal(size=(len(dense), 2, 5)), jnp.float32) for _ in range(2))
    found, back = jax.vjp(lambda x: message_passing.total(x, of), x)
    np.testing.assert_allclose(found, np.einsum("ij,jhd->ihd", dense, x), atol=1e-5)
    np.testing.assert_allclose(back(g)[0], np.einsum("ji,jhd->ihd", dense, g), atol=1e-5)


def attend(dense):
    """Graph attention on a dense adjacency, to oneself too."""

    def f(x, to, of):
        logits = jax.nn.leaky_relu(to[:, None] + of[None], 0.2)
        there = (dense + jnp.eye(len(dense)))[:, :, None] > 0
        share = jax.nn.softmax(jnp.where(there, logits, -jnp.inf), axis=1)
        return jnp.einsum("ijh,jhd->ihd", share, x)

    return f


def test_attention_and_its_gradients_are_those_of_the_dense_adjacency(case):
    dense, links = case
    draw = np.random.default_rng(2)
    make = lambda *shape: jnp.asarray(draw.normal(size=(len(dense), *shape)), jnp.float32)
    x, to, of, g = make(2, 5), 30 * make(2), 30 * make(2), make(2, 5)

    def ours(x, to, of):
        logits = (jax.nn.leaky_relu(pair, 0.2) for pair in message_passing.across(to, of, links))
        share, mine = message_passing.softmax(*logits, links)
        return message_passing.weighted(x, share, links) + mine[:, :, None] * x

    found, back = jax.vjp(ours, x, to, of)
    expected, back_of = jax.vjp(attend(jnp.asarray(dense)), x, to, of)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for a, b in zip(back(g), back_of(g), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_no_gradient_holds_a_scatter_over_edges(case):
    """Only the rows of hubs are added to their owners."""
    _, of = case
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(message_passing.total(x, of)))))
    jaxpr = str(jax.make_jaxpr(slope)(jnp.ones((len(of.first), 3))))
    assert jaxpr.count("scatter-add") == 2
    assert f"f32[{len(of.more)},3]" in jaxpr


def test_graphs_that_are_not_as_they_should_be():
    two = np.array([0, 1])
    with pytest.raises(InputError, match="an edge ends at node 1; nodes are 0 to 0"):
        message_passing.links(two, two[::-1], 1)
    with pytest.raises(InputError, match="both ways, and stand there once"):
        message_passing.links(two[:1], two[1:], 2)
    with pytest.raises(InputError, match="both ways, and stand there once"):
        message_passing.links(np.tile(two, 2), np.tile(two[::-1], 2), 2)
    star = np.zeros(20, int), np.arange(1, 21)
    with pytest.raises(InputError, match="2 rows of further neighbours, but room for 1"):
        message_passing.links(np.concatenate(star), np.concatenate(star[::-1]), 21, rows=1)
    alone = message_passing.links(two[:0], two[:0], 3)
    assert (alone.first == 3).all()
    assert message_passing.total(jnp.ones((3, 2)), alone).sum() == 0
