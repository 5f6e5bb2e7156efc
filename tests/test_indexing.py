"""The order of numbers, found by one sort or, where they are too large for that, by two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax.core.indexing import stable_order


@pytest.mark.parametrize("below", [3, 40, 2**25, 2**31 - 1], ids=str)
@pytest.mark.parametrize("shape", [(1,), (64,), (5, 64)], ids=str)
def test_equal_keys_keep_their_order(below, shape):
    draw = np.random.default_rng(below)
    keys = draw.integers(0, below, shape).astype(np.int32)
    keys.ravel()[::2] = below - 1  # many that are equal, and as large as they may be
    found = jax.jit(stable_order, static_argnums=1)(jnp.asarray(keys), below)
    np.testing.assert_array_equal(found, np.argsort(keys, axis=-1, kind="stable"))
