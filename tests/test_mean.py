"""The mean over holders: exact where all values are one, on every path and number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits
from training import run

import ist_jax
from ist_jax import decompose, method
from ist_jax.sharded import placement as devices

pytestmark = pytest.mark.optimized


def awkward(dtype, size=999):
    """Numbers whose sum of three times a third is not the number; zeros of both signs, infinity."""
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    values[:6] = [0.0, -0.0, np.inf, -np.inf, 1e-42, 6e4]
    return jnp.asarray(values, dtype)


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_mean_of_equal_values_is_that_value(workers, dtype):
    """Shared leaves and overlapping slots; the net they are put into holds something else."""
    params = {"shared": awkward(dtype), "cut": awkward(dtype)}
    names = {"shared": (None,), "cut": ("h",)}
    who = {"h": jnp.tile(jnp.arange(990), (workers, 1))}  # nobody holds the last nine
    nets = decompose.gather(params, names, who)
    others = jax.tree.map(lambda leaf: jnp.ones_like(leaf), params)
    merge = jax.jit(lambda params, nets: decompose.scatter(params, nets, names, who))
    assert same_bits(merge(params, nets), params)
    moved = merge(others, nets)
    assert same_bits(moved["shared"], params["shared"])
    assert same_bits(moved["cut"], params["cut"].at[990:].set(1))


def test_the_mean_of_many_halves_is_right_to_half_a_last_place():
    """Added up in 16 bits, 64 numbers would lose six of their eight."""
    pieces = jnp.asarray(1 + np.random.default_rng(0).random((64, 500)), jnp.bfloat16)
    names, who = {"w": (None,)}, {}
    found = decompose.scatter({"w": pieces[0]}, {"w": pieces}, names, who)["w"]
    expected = np.asarray(pieces, np.float64).mean(axis=0)
    assert same_bits(found, jnp.asarray(expected, jnp.float32).astype(jnp.bfloat16))


def test_the_slope_of_a_mean_of_equal_values_is_that_of_a_mean():
    names = {"w": (None,)}
    pieces = jnp.ones((3, 4))
    total = lambda nets: decompose.scatter({"w": jnp.zeros(4)}, {"w": nets}, names, {})["w"].sum()
    np.testing.assert_allclose(jax.grad(total)(pieces), np.full((3, 4), 1 / 3), rtol=1e-6)


METHODS = {
    "local_sgd": method.local_sgd(),
    "resist": method.resist(2),  # three workers with two blocks of four: some have two holders
    "ist": method.ist(),
}


def blocks(workers):
    """A net with a shared leaf, a stack of blocks, and hidden neurons."""
    draw = np.random.default_rng(1)
    shapes = {"w0": (6, 12), "stack": (12, 4), "w1": (12, 3), "bias": (3,)}
    params = {k: jnp.asarray(draw.normal(size=n), jnp.float32) for k, n in shapes.items()}
    names = {"w0": (None, "h"), "stack": ("h", None), "w1": ("h", None), "bias": (None,)}
    return params, names


def still(net, batch, key):
    """A loss without a slope."""
    return sum(0.0 * leaf.sum() for leaf in jax.tree.leaves(net)) + 0.0 * batch["x"].sum()


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("workers", "many"), [(1, 1), (2, 2), (3, 1), (3, 3), (6, 1), (6, 2), (6, 6)]
)
def test_a_run_whose_updates_are_zero_does_not_drift(how, exact, workers, many):
    params, names = blocks(workers)
    trainer = ist_jax.build(
        still, optax.sgd(0.1), params, names, method=METHODS[how], workers=workers,
        mesh=devices.mesh(workers, many), exact=exact,
    )  # fmt: skip
    state = trainer.init(params, jax.random.key(0))
    for number in range(3):
        state, _ = trainer.round(state, regression_batches(1, workers, 2, 4, 6, 3, number)[0])
    assert same_bits(trainer.whole(state).params, params)


@pytest.mark.parametrize(("workers", "many"), [(2, 1), (3, 1), (3, 3), (6, 3)])
def test_workers_that_move_alike_are_one_worker(workers, many):
    """All see the same batches, so that their mean is what one of them has, bit for bit."""
    params, names = mlp_tree((6, 12, 8, 3))
    alone = regression_batches(3, 1, 4, 8, 6, 3)
    all_of_them = [jax.tree.map(lambda x: np.repeat(x, workers, axis=0), b) for b in alone]
    one, _ = run(params, names, method.local_sgd(), alone, 1)
    trainer = ist_jax.build(
        mlp_loss, optax.sgd(0.1), params, names, method=method.local_sgd(), workers=workers,
        mesh=devices.mesh(workers, many), exact=True,
    )  # fmt: skip
    state = trainer.init(params, jax.random.key(3))
    for batch in all_of_them:
        state, _ = trainer.round(state, batch)
    assert same_bits(trainer.whole(state).params, one.params)
    assert not same_bits(one.params, params)
