"""Digests: against an oracle in plain integers, on any number of devices, and what they notice."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ist_jax.checkpoint import digest

digest_of = jax.jit(digest.lanes)


def oracle(leaf):
    """Entry by entry."""
    low = lambda n: n & 0xFFFFFFFF

    def mix(word):
        word = low((word ^ (word >> 16)) * 0x85EBCA6B)
        word = low((word ^ (word >> 13)) * 0xC2B2AE35)
        return word ^ (word >> 16)

    leaf = np.asarray(leaf)
    size = leaf.dtype.itemsize
    entries = leaf.ravel().view(f"u{size}")
    words = [int(w) for w in entries]
    if leaf.dtype.kind == "c":
        words = [int(w) for w in leaf.ravel().view(f"u{size // 2}")]
    totals = [0, 0]
    for position, word in enumerate(words):
        for lane, salt in enumerate((0x9E3779B9, 0x85EBCA77)):
            totals[lane] = low(totals[lane] + mix(low(word + mix(low(position + salt)))))
    return totals


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 4)])
def test_a_digest_is_the_oracles(dtype, shape):
    draw = np.random.default_rng(0)
    leaf = jnp.asarray(draw.normal(size=shape) * 3, dtype)
    assert [int(lane) for lane in digest_of(leaf)] == oracle(leaf)


@pytest.mark.parametrize("rows", [1, 3, 4, 10])
def test_digests_of_blocks_add_up(rows):
    leaf = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    parts = [digest_of(leaf[first : first + rows], first) for first in range(0, 10, rows)]
    np.testing.assert_array_equal(sum(parts), digest_of(leaf))


@pytest.mark.parametrize(("axis", "devices"), [(0, 2), (1, 2), (0, 4), (1, 4)])
def test_a_digest_does_not_depend_on_how_a_leaf_is_spread(axis, devices):
    leaf = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()[:devices]), "d")
    spread = jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*(None,) * axis, "d")))
    np.testing.assert_array_equal(digest_of(spread), digest_of(leaf))


@settings(deadline=None)
@given(st.integers(0, 59), st.integers(0, 31), st.integers(0, 2**32 - 1))
def test_one_flipped_bit_is_always_noticed(entry, bit, seed):
    leaf = np.random.default_rng(seed).normal(size=60).astype(np.float32)
    changed = leaf.copy()
    changed.view(np.uint32)[entry] ^= np.uint32(1) << np.uint32(bit)
    assert (digest_of(leaf) != digest_of(changed)).all()


def test_entries_that_change_places_are_noticed():
    leaf = np.arange(60, dtype=np.float32)
    for i, j in itertools.combinations(range(12), 2):
        changed = leaf.copy()
        changed[[i, j]] = changed[[j, i]]
        assert (digest_of(leaf) != digest_of(changed)).any()
    assert (digest_of(np.zeros(3)) != digest_of(np.full(3, -0.0))).any()
