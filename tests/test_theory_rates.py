"""Kernels against Monte Carlo and Jacobians; the printed rates by hand."""

import jax
import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, kernels, masked, rates
from ist_jax.theory.rates import Constants, Setting

pytestmark = pytest.mark.usefixtures("strict_types")

X, Y = masked.sample(jax.random.key(0), examples=10, dimension=8)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_the_infinite_kernel_is_the_mean_over_gaussian_neurons():
    """200,000 of them, every entry within 4 standard errors."""
    draws = 200_000
    active = np.random.default_rng(0).normal(size=(draws, 8)) @ X.T > 0
    share = active.T.astype(float) @ active / draws
    error = np.abs(X @ X.T) * np.sqrt(share * (1 - share) / draws)
    assert (np.abs(kernels.infinite(X) - X @ X.T * share) < 4 * error + 1e-12).all()
    ends = kernels.spectrum(kernels.infinite(X))
    assert 0 < ends.lambda_0 < 0.5 < ends.lambda_max < 5  # the trace is n / 2


def test_finite_kernels_are_those_of_the_jacobian(key, x64):
    """Of the network without xi, and of a worker's surrogate."""
    net = additive.start(key, (32, 8), 1.0)
    mask = jax.random.bernoulli(key, 0.5, (32,))
    for some, found in (
        (None, kernels.finite(net.weights, X)),
        (mask, kernels.worker(net.weights, X, mask)),
    ):
        f = lambda w, some=some: additive.output(masked.shallow, net._replace(weights=w), X, some)
        jacobian = jax.jacobian(f)(net.weights).reshape(10, -1)
        np.testing.assert_allclose(found, jacobian @ jacobian.T, atol=1e-13)


def test_kernels_approach_the_infinite_one_as_one_over_the_root_of_the_width(key):
    """Sixteen times as wide, about four times as near; a worker's is farther off than the mean."""
    given = {"workers": 4, "rounds": 1, "step": 0.1, "seeds": 16}
    near, far = (kernels.distances(key, X, Y, width=m, **given) for m in (2048, 128))
    for a, b in zip(near, far, strict=True):
        assert 3 < b[:, 0].mean() / a[:, 0].mean() < 5.3
    assert (near.of_mean < near.of_worker).all()


def test_where_every_neuron_has_one_holder_the_mean_kernel_is_the_networks(key, x64):
    net = additive.start(key, (40, 8), 1.0)
    masks = additive.categorical(key, 4, 40, None)
    mean = np.mean([kernels.worker(net.weights, X, mask) for mask in masks], axis=0)
    np.testing.assert_allclose(4 * mean, kernels.finite(net.weights, X), atol=1e-14)


def test_the_distance_is_recorded_on_the_weights_and_masks_of_each_round(key, x64):
    given = {"workers": 2, "width": 16, "rounds": 1, "step": 0.5, "seeds": 1}
    found = kernels.distances(key, X, Y, draw=additive.bernoulli, xi=0.5, **given)
    mine = fold(key, "seed", 0)
    net, limit = additive.start(mine, (16, 8), 1.0), kernels.infinite(X)
    for number in range(2):
        masks = additive.bernoulli(fold(mine, "masks", number), 2, 16, 0.5)
        each = [np.asarray(kernels.worker(net.weights, X, mask)) / 0.5 for mask in masks]
        apart = [np.linalg.norm(k - limit) / np.linalg.norm(limit) for k in (*each, sum(each) / 2)]
        worker = np.sqrt(np.mean(np.square(apart[:2])))
        np.testing.assert_allclose(found.of_worker[0, number], worker, rtol=1e-12)
        np.testing.assert_allclose(found.of_mean[0, number], apart[2], rtol=1e-12)
        net = additive.one_round(masked.shallow, net, additive.Problem(X, Y), masks, 1, 0.5)


S = Setting(examples=2, workers=2, rounds=5, step=0.1, width=512, local_steps=2)
GAMMA = 0.5 ** (1 / 3)  # (1 - 1/p)^(1/3) of two workers


@pytest.mark.parametrize(
    ("bound", "rate", "terms"),
    [
        (
            rates.corollary_3(S, lambda_0=0.4, xi=0.5),  # theta = 3/4
            0.985,
            [0.025, 0.25, 0.140625],
        ),
        (
            rates.theorem_4(S, lambda_0=0.5, lambda_max=2.0),  # kappa^2 = 16
            GAMMA + (1 - GAMMA) * 0.950625,
            [512 * GAMMA],
        ),
        (
            rates.theorem_4(S, lambda_0=0.5, lambda_max=2.0, kappa=0.5),
            GAMMA + (1 - GAMMA) * 0.950625,
            [8 * GAMMA],
        ),
        (
            rates.gist_theorem_2(S._replace(width=8), lambda_0=0.5, dimension=3, norm_a2=4.0),
            GAMMA + (1 - GAMMA) * 0.950625,
            [1.5 / GAMMA],
        ),
        (
            rates.loft_theorem_3(
                S._replace(rounds=10, width=16, delta=0.25, local_steps=1),
                lambda_0=0.5,
                dimension=4,
                xi=0.5,
                kappa=2.0,
            ),
            0.0,
            [16.0, 0.0140625],
        ),
        (rates.resist_theorem_b1(S._replace(local_steps=3), lambda_min=0.5, depth=2), 0.925, []),
        (
            rates.asynchronous(
                S._replace(step=0.2, width=2),  # theta step = 0.15
                lambda_0=0.5,
                xi=0.5,
                kappa=2.0,
                dimension=3,
                delay=2.0,
            ),
            0.98125,
            [0.01875, 0.9, 0.00140625, 0.016875, 0.00140625, 0.03375, 2.0],
        ),
    ],
    ids=["corollary 3", "theorem 4", "at a kappa", "GIST", "LoFT", "ResIST", "asynchronous"],
)
def test_rates_and_regions_by_hand(bound, rate, terms):
    assert bound.rate == pytest.approx(rate, rel=1e-12)
    assert list(bound.terms.values()) == pytest.approx(terms, rel=1e-12)
    assert bound.region == pytest.approx(sum(terms), rel=1e-12)
    assert bound.after(2, 3.0) == pytest.approx(rate**2 * 3 + sum(terms), rel=1e-12)


def test_theorem_4s_region_does_not_fall_with_the_width_and_gists_does():
    """At the stated kappa: gamma tau n^2 lambda_max^2 / lambda_0^4, whatever the width."""
    wide = [S._replace(width=m) for m in (64, 1024, 10**12)]
    regions = [rates.theorem_4(s, lambda_0=0.5, lambda_max=2.0).region for s in wide]
    assert len(set(regions)) == 1
    assert regions[0] == pytest.approx(GAMMA * 2 * 4 * 4 / 0.5**4)
    gist = [rates.gist_theorem_2(s, lambda_0=0.5, dimension=3, norm_a2=4.0).region for s in wide]
    assert gist == pytest.approx([64 * gist[0] / s.width for s in wide])


def test_regions_vanish_where_every_surrogate_is_the_network():
    alone = S._replace(workers=1, local_steps=1)
    assert rates.theorem_4(alone, lambda_0=0.5, lambda_max=2.0).region == 0
    assert rates.gist_theorem_2(alone, lambda_0=0.5, dimension=3, norm_a2=4.0).region == 0
    assert rates.corollary_3(S, lambda_0=0.5, xi=1.0).region == 0


@pytest.mark.parametrize(
    ("bound", "step", "width"),
    [
        (lambda s, c: rates.corollary_3(s, lambda_0=0.4, xi=0.5, constants=c), 0.05, 166_666.67),
        (
            lambda s, c: rates.theorem_4(s, lambda_0=0.5, lambda_max=2.0, constants=c),
            0.125,  # p / (gamma^2 tau) is above 1
            819_200.0,
        ),
        (
            lambda s, c: rates.gist_theorem_2(
                s, lambda_0=0.5, dimension=4, norm_a2=4.0, constants=c
            ),
            0.03125,
            8 * 100**2 / (GAMMA * (1 - GAMMA) ** 2 * 0.0625) * 6,
        ),
        (
            lambda s, c: rates.loft_theorem_3(
                s, lambda_0=0.5, dimension=4, xi=0.5, kappa=2.0, constants=c
            ),
            0.125,
            2_560_000.0,
        ),
        (
            lambda s, c: rates.resist_theorem_b1(s, lambda_min=0.5, depth=1, constants=c),
            0.015625,
            256.0,
        ),
    ],
    ids=["corollary 3", "theorem 4", "GIST", "LoFT", "ResIST"],
)
def test_conditions_hold_up_to_their_limits_and_no_farther(bound, step, width):
    """The limits by hand, each held from one side of it and broken from the other."""
    for factor, holds in ((0.99, True), (1.01, False)):
        for c in (1.0, 5.0):
            given = bound(S._replace(step=factor * step * c), Constants(step=c))
            assert given.conditions["step"] is holds
            given = bound(S._replace(width=round(width * c / factor)), Constants(width=c))
            assert given.conditions["width"] is holds


def test_theorem_4_says_when_kappa_is_not_the_stated_one():
    assert rates.theorem_4(S, lambda_0=0.5, lambda_max=2.0, kappa=4.0).conditions["kappa"]
    assert not rates.theorem_4(S, lambda_0=0.5, lambda_max=2.0, kappa=3.9).conditions["kappa"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: rates.corollary_3(S, lambda_0=0.5, xi=1.5), "found xi=1.5"),
        (lambda k: rates.corollary_3(S, lambda_0=0.0, xi=0.5), "found lambda_0=0"),
        (lambda k: rates.theorem_4(S._replace(delta=0.0), lambda_0=1.0, lambda_max=1.0), "delta=0"),
        (
            lambda k: rates.theorem_4(S._replace(workers=0), lambda_0=1.0, lambda_max=1.0),
            "workers must be a whole number >= 1; found workers=0",
        ),
        (lambda k: rates.resist_theorem_b1(S, lambda_min=-1.0, depth=1), "lambda_min=-1"),
        (lambda k: rates.resist_theorem_b1(S, lambda_min=1.0, depth=0), "depth=0"),
        (lambda k: kernels.distances(k, 2 * X, Y, workers=2), "row 0 of x has norm 2"),
        (lambda k: kernels.distances(k, X, Y, workers=2, width=0), "width=0"),
    ],
)
def test_bad_input(key, call, message):
    with pytest.raises(InputError, match=message):
        call(key)
