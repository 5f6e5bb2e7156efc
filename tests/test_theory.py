"""The masked network against loops, against the library's own round, and against the theorems."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import same_bits

from ist_jax import decompose
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, masked

pytestmark = pytest.mark.usefixtures("strict_types")

X, Y = masked.sample(jax.random.key(0), examples=10, dimension=8)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def last(key, **changes):
    """Mean over seeds of the error after the last round."""
    given = {"rounds": 200, "step": 0.3, "seeds": 4, "width": 256}
    return masked.train(key, X, Y, **{**given, **changes})[:, -1].mean()


# The oracle: nothing of the library, a loop for every index.


def oracle_f(weights, signs, mask, x):
    width = len(weights)
    return sum(mask[r] * signs[r] * max(weights[r] @ x, 0) for r in range(width)) / width**0.5


def oracle_round(weights, signs, masks, x, y, local_steps, step):
    width, total, holders = len(weights), np.zeros_like(weights), np.zeros(len(weights))
    for mask in masks:
        mine = weights.copy()
        for _ in range(local_steps):
            gradient = np.zeros_like(mine)
            for example, target in zip(x, y, strict=True):
                residual = oracle_f(mine, signs, mask, example) - target
                for r in range(width):
                    if mask[r] and mine[r] @ example > 0:
                        gradient[r] += residual * signs[r] / width**0.5 * example
            mine -= step * gradient
        for r in range(width):
            total[r] += mask[r] * (mine[r] - weights[r])
            holders[r] += mask[r]
    after = weights.copy()
    for r in range(width):
        after[r] += min(holders[r], 1) / max(holders[r], 1) * total[r]
    return after


@pytest.mark.parametrize("draw", [additive.bernoulli, additive.categorical])
def test_three_rounds_are_what_loops_say(key, x64, draw):
    """Three workers, two local steps: the curve of ``train`` to 1e-12, relative."""
    workers, width, xi = 3, 12, 1 / 3
    sizes = {"workers": workers, "width": width, "local_steps": 2, "rounds": 3, "seeds": 2}
    errors = masked.train(key, X, Y, draw=draw, xi=xi, step=0.4, kappa=0.7, **sizes)
    for seed in range(2):
        mine = fold(key, "seed", seed)
        net = additive.start(mine, (width, 8), 0.7)
        weights, signs = np.array(net.weights), np.array(net.signs)
        assert set(signs) == {-1.0, 1.0}
        everyone = np.ones(width)
        for number in range(4):
            u = [xi * oracle_f(weights, signs, everyone, x) for x in X]
            assert errors[seed, number] == pytest.approx(np.square(Y - u).sum(), rel=1e-12)
            masks = np.array(draw(fold(mine, "masks", number), workers, width, xi))
            weights = oracle_round(weights, signs, masks, X, Y, 2, 0.4)


def test_the_surrogate_gradient_is_that_of_the_loss(key, x64):
    net, problem = additive.start(key, (32, 8), 1.0), additive.Problem(X, Y)
    mask = jax.random.bernoulli(key, 0.5, (32,))
    at = lambda w: additive.loss(masked.shallow, net._replace(weights=w), problem, mask)
    written = masked.surrogate_gradient(net.weights, net.signs, mask, X, Y)
    np.testing.assert_allclose(written, jax.grad(at)(net.weights), atol=1e-13)
    assert not np.asarray(written)[~np.asarray(mask)].any()


def test_one_worker_and_one_step_is_dropout(key, x64):
    """Dropout on the activations, differentiated whole: silent neurons get no gradient."""
    net = additive.start(key, (64, 8), 1.0)
    masks = additive.bernoulli(key, 1, 64, 0.5)

    def dropout_loss(weights):
        kept = jnp.where(masks[0], jax.nn.relu(X @ weights.T), 0.0)
        return 0.5 * jnp.square(kept @ net.signs / 8 - Y).sum()

    after = additive.one_round(masked.shallow, net, additive.Problem(X, Y), masks, 1, 0.3)
    expected = net.weights - 0.3 * jax.grad(dropout_loss)(net.weights)
    np.testing.assert_allclose(after.weights, expected, atol=1e-14)


def test_a_categorical_round_is_gather_train_scatter(key, x64):
    """The library's own functions on the same masks; workers hold unequal numbers of neurons."""
    net, problem = additive.start(key, (60, 8), 1.0), additive.Problem(X, Y)
    masks = additive.categorical(key, 4, 60, None)
    assert len(set(np.asarray(masks.sum(axis=1)).tolist())) > 1
    after = additive.one_round(masked.shallow, net, problem, masks, 3, 0.3)

    params = {"weights": net.weights, "signs": net.signs}
    names = {"weights": ("hidden", None), "signs": ("hidden",)}
    who = additive.assignment(masks)
    nets = decompose.gather(params, names, who)
    for _ in range(3):
        small_loss = lambda w, a: 0.5 * jnp.square(jax.nn.relu(X @ w.T) @ a / 60**0.5 - Y).sum()
        gradient = jax.vmap(jax.grad(small_loss))(nets["weights"], nets["signs"])
        nets["weights"] = nets["weights"] - 0.3 * gradient
    params = decompose.scatter(params, nets, names, who)
    assert np.abs(params["weights"] - net.weights).max() > 1e-3
    np.testing.assert_allclose(params["weights"], after.weights, rtol=0, atol=1e-12)


def test_aggregation_leaves_neurons_without_a_holder_alone(x64):
    """Bit for bit, the sign of a zero too; one holder's change is taken whole, two are averaged."""
    before = jnp.array([[-0.0, 1e-310], [1.0, 2.0], [1.0, 2.0]])
    masks = jnp.array([[False, True, True], [False, False, True]])
    after = jnp.stack([before + 4.0, before + 8.0])
    merged = np.asarray(additive.aggregate(before, after, masks))
    assert same_bits(merged[0], np.asarray(before[0]))
    np.testing.assert_array_equal(merged[1:], [[5.0, 6.0], [7.0, 8.0]])


def test_categorical_masks_have_one_holder_each_and_bernoulli_ones_are_independent(key):
    """Counts over 4,000 neurons within 4.5 standard errors."""
    masks = np.asarray(additive.categorical(key, 5, 4000, None))
    assert (masks.sum(axis=0) == 1).all()
    assert np.abs(masks.mean(axis=1) - 0.2).max() < 4.5 * np.sqrt(0.2 * 0.8 / 4000)
    first, second = np.asarray(additive.bernoulli(key, 2, 4000, 0.3))
    for found, chance in ((first, 0.3), (second, 0.3), (first & second, 0.09)):
        assert abs(found.mean() - chance) < 4.5 * np.sqrt(chance * (1 - chance) / 4000)


def test_the_error_goes_to_exactly_zero_where_every_surrogate_is_the_network(key):
    """xi = 1, and one worker that holds everything; two workers keep a floor."""
    assert last(key, draw=additive.bernoulli, workers=4, xi=1.0, rounds=800) < 1e-18
    assert last(key, workers=1, rounds=800) < 1e-18
    assert last(key, workers=2, rounds=800) > 1e-4


def test_bernoulli_error_falls_about_as_one_over_p(key):
    """Slope of log error on log p over p = 1 .. 16: mean of 8 seeds and rounds 200 to 300.

    Averaging p independent workers would give -1. With few workers a neuron has few holders (the
    mean number, given one, is xi p / theta: 1, 4/3, 2.1, 4, 8), and the theorem's own term
    (theta - xi^2) / p has slope -0.60 on this range. Measured over six keys: -0.76 to -0.81.
    """
    workers = np.array([1, 2, 4, 8, 16])
    given = {"draw": additive.bernoulli, "xi": 0.5, "rounds": 300, "step": 0.3, "seeds": 8}
    errors = [masked.train(key, X, Y, workers=int(p), **given)[:, 200:].mean() for p in workers]
    slope = np.polyfit(np.log(workers), np.log(errors), 1)[0]
    assert -1 < slope < -0.6, errors
    assert all(a > 1.2 * b for a, b in itertools.pairwise(errors)), errors


def test_categorical_error_grows_with_p_and_falls_with_m(key):
    by_workers = [last(key, workers=p) for p in (1, 2, 4, 8)]
    assert all(2 * a < b for a, b in itertools.pairwise(by_workers)), by_workers
    by_width = [last(key, workers=4, width=m) for m in (64, 256, 1024)]
    assert by_width[0] > 2 * by_width[1] > 4 * by_width[2], by_width


def test_callers_types_and_starts_are_left_alone(key):
    """float64 comes out, x64 stays off; a seed starts the same whatever else is asked for."""
    few, more = (
        masked.train(key, X, Y, draw=additive.bernoulli, workers=p, xi=0.5, rounds=2, seeds=s)
        for p, s in ((2, 3), (5, 4))
    )
    assert few.dtype == np.float64
    assert jnp.ones(1).dtype == jnp.float32
    assert same_bits(few[:, 0], more[:3, 0])
    assert len(set(more[:, 0])) == 4
    assert (few[:, 1:] != more[:3, 1:]).all()


def test_xi_step_and_kappa_compile_nothing_anew(key, compilations):
    train = lambda **given: masked.train(
        key, X, Y, draw=additive.bernoulli, workers=2, width=16, rounds=3, seeds=2, **given
    )
    train(xi=0.5)
    compilations()
    train(xi=0.25, step=0.1, kappa=2.0)
    assert compilations() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draw": additive.bernoulli, "xi": 0.0}, r"xi must be in \(0, 1\]; found xi=0"),
        ({"draw": additive.bernoulli, "xi": 1.5}, r"found xi=1.5"),
        ({"draw": additive.bernoulli}, "xi is missing"),
        ({"xi": 0.5}, "of 4 workers have xi = 0.25; found xi=0.5"),
        ({"workers": 0}, "workers must be a whole number >= 1; found workers=0"),
        ({"width": 0}, "width must be a whole number >= 1; found width=0"),
        ({"local_steps": 0}, "found local_steps=0"),
        ({"rounds": 0}, "found rounds=0"),
        ({"seeds": 0}, "found seeds=0"),
        ({"step": 0.0}, "step must be finite and > 0; found step=0"),
        ({"kappa": float("nan")}, "kappa must be finite and > 0; found kappa=nan"),
        ({"x": X * np.where(np.arange(10) == 3, 2, 1)[:, None]}, "row 3 of x has norm 2. Divide"),
        ({"x": np.full((10, 8), np.nan)}, "row 0 of x has norm nan"),
        ({"y": Y[:9]}, r"y must have 10 rows, one an example; found \[9\]"),
    ],
)
def test_bad_input(key, changes, message):
    with pytest.raises(InputError, match=message):
        masked.train(key, **{"x": X, "y": Y, "workers": 4, **changes})
