"""Losses and best labels a block at a time: as with all logits at once, which never exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax.tasks import blockwise

B, M, L = 5, 7, 53
KEYS = jax.random.split(jax.random.key(0), 2)
HIDDEN, KERNEL = jax.random.normal(KEYS[0], (B, M)), jax.random.normal(KEYS[1], (M, L))
LABELS = np.full((B, 4), L)
for row, found in enumerate(([3, 52], [50], [0, 1, 47, 48], [], [10, 48])):
    LABELS[row, : len(found)] = found
WEIGHT = np.linspace(-1, 1, L).astype(np.float32)
WEIGHT[5] = -np.inf  # a label that is left out
BIAS = {"softmax": 0.0, "logistic": -2.0}


def all_at_once(kind, hidden, kernel):
    """The definition, in NumPy's float64 where it is given such."""
    z = hidden @ kernel + BIAS[kind]
    own = np.zeros((B, L))
    for row, found in enumerate(LABELS):
        own[row, found[found < L]] = 1
    if kind == "softmax":
        share = own / np.maximum(own.sum(1, keepdims=True), 1)
        return np.log((np.exp(WEIGHT) * np.exp(z)).sum(1)) - (share * z).sum(1)
    return (np.exp(WEIGHT) * np.log1p(np.exp(z))).sum(1) - (own * z).sum(1)


def slopes(kind, upstream):
    """Central differences of the definition, in float64."""
    hidden, kernel = np.asarray(HIDDEN, np.float64), np.asarray(KERNEL, np.float64)
    out = []
    for which, value in enumerate((hidden, kernel)):
        found = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = value.copy()
                moved[at] += step
                both = (moved, kernel) if which == 0 else (hidden, moved)
                ends.append((upstream * all_at_once(kind, *both)).sum())
            found[at] = (ends[0] - ends[1]) / 2e-5
        out.append(found)
    return out


@pytest.mark.parametrize("block", [1, 8, 16, 53, 100])
@pytest.mark.parametrize("kind", blockwise.KINDS)
def test_a_loss_and_its_gradient_are_those_of_all_logits_at_once(kind, block):
    upstream = np.arange(1.0, B + 1)

    def total(hidden, kernel):
        losses = blockwise.loss(
            hidden, kernel, jnp.asarray(LABELS), jnp.asarray(WEIGHT), kind, BIAS[kind], block
        )
        return (jnp.asarray(upstream, jnp.float32) * losses).sum(), losses

    (_, losses), gradient = jax.value_and_grad(total, (0, 1), has_aux=True)(HIDDEN, KERNEL)
    expected = all_at_once(kind, np.asarray(HIDDEN, np.float64), np.asarray(KERNEL, np.float64))
    np.testing.assert_allclose(losses, expected, rtol=2e-6, atol=2e-5)  # sums of 53 floats
    for ours, by_differences in zip(gradient, slopes(kind, upstream), strict=True):
        np.testing.assert_allclose(ours, by_differences, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", blockwise.KINDS)
def test_large_logits_overflow_nowhere(kind):
    hidden = 1e4 * HIDDEN
    loss = lambda h: blockwise.loss(
        h, KERNEL, jnp.asarray(LABELS), jnp.zeros(L), kind, 0.0, 16
    ).sum()
    value, slope = jax.value_and_grad(loss)(hidden)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_no_more_logits_than_a_block_exist_at_once():
    """And no copy of the kernel but its gradient: read off the compiled program."""
    rows, labels, block = 64, 40_000, 1024
    kernel = jax.ShapeDtypeStruct((M, labels), jnp.float32)
    hidden = jax.ShapeDtypeStruct((rows, M), jnp.float32)
    own = jnp.zeros((rows, 4), jnp.int32)

    def loss(hidden, kernel, block):
        return blockwise.loss(
            hidden, kernel, own, jnp.zeros(kernel.shape[1]), "logistic", 0.0, block
        ).sum()

    def temporary(block):
        gradient = jax.jit(jax.grad(lambda h, k: loss(h, k, block), (0, 1)))
        return gradient.lower(hidden, kernel).compile().memory_analysis().temp_size_in_bytes

    assert temporary(block) < 10 * 4 * rows * block + 4 * labels * 4
    assert temporary(labels) > 4 * rows * labels, "all at once would show"


@pytest.mark.parametrize("block", [8, 53, 100])
def test_the_best_labels_are_those_of_all_logits(block):
    expected = np.argsort(-np.asarray(HIDDEN @ KERNEL), axis=1)[:, :5]
    np.testing.assert_array_equal(blockwise.top(HIDDEN, KERNEL, 5, block), expected)


def test_where_there_are_fewer_labels_than_asked_for_the_rest_are_none():
    few = blockwise.top(HIDDEN, KERNEL[:, :3], 5, 2)
    assert sorted(few[0].tolist()) == [0, 1, 2, 3, 3]
