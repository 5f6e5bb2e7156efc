"""The theorems: both sides, where they hold, and where the printed form does not."""

import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import FAMILY, family, problem
from test_moments import alike
from test_sketches import close

from ist_jax.core.errors import InputError
from ist_jax.sketch import bounds, compressed, iterate, moments, perm_1, quadratics, sketches

SEEDS = range(5)


def without_linear_term(name, seed):
    n, d, ours, _ = FAMILY[name]
    given = problem(n, d, seed, interpolation=True, condition=30.0)
    return given, ours(given)


def test_both_sides_of_24_are_those_of_the_enumeration():
    given, sketch, theirs = family("Perm-2")
    x0, step_size = np.arange(1.0, 7), 0.1
    each = oracle.moments(given.L, given.b, theirs, x0, step_size, 4)
    B = oracle.average(theirs, lambda C: oracle.gradient_parts(given.L, given.b, C)[0])
    W = (given.Lbar @ B + B @ given.Lbar) / 2
    inverse = np.linalg.inv(given.Lbar)

    def squared(mean, covariance):
        g = given.Lbar @ mean - given.bbar
        square = given.Lbar @ covariance @ given.Lbar + np.outer(g, g)
        return np.trace(inverse @ W @ inverse @ square)

    value = lambda m, S: (m @ given.Lbar @ m + np.trace(given.Lbar @ S)) / 2 - given.bbar @ m
    bound = bounds.stationary(given, sketch, x0, step_size, 4)
    assert bound.left == pytest.approx(np.mean([squared(*one) for one in each[:-1]]), rel=1e-10)
    right = 2 * (value(*each[0]) - value(*each[-1])) / (step_size * 4)
    assert bound.right == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAMILY)
def test_24_and_the_contraction_hold_where_their_conditions_do(name, seed):
    """(22) to (24) with 1/theta and half of it; all sketches, five problems each."""
    given, sketch = without_linear_term(name, seed)
    x0 = np.arange(1.0, given.d + 1)
    theta = moments.theta(given, sketch)
    if not np.isfinite(theta):
        bound = bounds.stationary(given, sketch, x0, 0.01, 5)
        assert "W positive definite" in bound.failing
        return
    for step_size in (1 / theta, 0.5 / theta):
        for claim in (bounds.stationary, bounds.contraction):
            bound = claim(given, sketch, x0, step_size, 12)
            assert not bound.failing
            assert bound.holds, (claim.__name__, bound)


def test_what_fails_is_named():
    given, sketch, _ = family("Perm-1")
    bound = bounds.stationary(given, sketch, np.ones(4), 2 / moments.theta(given, sketch), 3)
    assert bound.failing == ("no linear term", "step size at most 1/theta")
    W_indefinite = quadratics.homogeneous([[1.0, 2.0], [2.0, 8.0]], [0.0, 0.0], 2)
    bound = bounds.contraction(W_indefinite, sketches.perm(2, 2), np.ones(2), 0.01, 3)
    assert bound.failing == ("W positive definite", "step size at most 1/theta")
    assert bounds.homogeneous_preconditioned(given, np.ones(4), 3).failing == (
        "all workers have one loss",
        "no linear term",
    )
    assert bounds.heterogeneous_preconditioned(given, np.ones(4), 3).failing == ("no linear term",)


def test_bounds_of_no_steps_are_refused():
    given, sketch, _ = family("Perm-1")
    for claim in (bounds.stationary, bounds.contraction):
        with pytest.raises(InputError, match="step_size must be positive and finite"):
            claim(given, sketch, np.ones(4), -0.1, 3)
        with pytest.raises(InputError, match="steps must be positive"):
            claim(given, sketch, np.ones(4), 0.1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_26_31_and_34_hold(seed):
    x0 = np.arange(1.0, 5)
    given = problem(4, 4, seed, interpolation=True, condition=100.0)
    one_loss = alike(seed=seed, interpolation=True, condition=100.0)
    for bound in (
        bounds.gradient_descent(given, x0, 10),
        bounds.gradient_descent(problem(4, 4, seed), x0, 10),  # (26) allows a linear term
        bounds.homogeneous_preconditioned(one_loss, x0, 10),
        bounds.heterogeneous_preconditioned(given, x0, 10),
    ):
        assert bound.holds
        assert not bound.failing


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("beta", [0.05, 0.25, 0.45])
def test_19_is_true_and_loose_and_its_2_over_beta_may_be_1_over_2_beta(seed, beta):
    given, x0, steps = problem(4, 4, seed, condition=30.0), np.arange(1.0, 5), 15
    step_size = (0.5 - beta) / (0.5 + beta)
    printed = bounds.neighbourhood(given, x0, step_size, steps, beta)
    tight = bounds.neighbourhood_tight(given, x0, step_size, steps)
    assert printed.holds
    assert tight.holds
    assert not printed.failing + tight.failing
    h = quadratics.norm2(perm_1.bias(given), given.Lbar)
    mended = printed.right - (2 - 1 / 2) / beta * (1 - step_size) * h
    assert tight.right < mended < printed.right
    assert printed.left <= mended


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tight_form_of_19_is_an_equality_at_1_and_false_above(seed):
    given, x0 = problem(4, 4, seed), np.arange(1.0, 5)
    at_one = bounds.neighbourhood_tight(given, x0, 1.0, 7)
    assert at_one.left == pytest.approx(at_one.right, rel=1e-10)
    above = bounds.neighbourhood_tight(given, x0, 1.4, 7)
    assert above.failing == ("step size at most 1",)
    assert not above.holds


def test_the_printed_range_of_19_is_sufficient_and_not_needed():
    given, x0 = problem(4, 4), np.arange(1.0, 5)
    beyond = bounds.neighbourhood(given, x0, 0.9, 7, beta=0.25)
    assert beyond.failing == ("step size at most (1/2 - beta) / (1/2 + beta)",)
    assert beyond.holds
    assert "beta below 1/2" in bounds.neighbourhood(given, x0, 0.1, 7, beta=0.7).failing
    with pytest.raises(InputError, match=r"beta must lie in \(0, 1/2\), found 0"):
        bounds.neighbourhood(given, x0, 0.1, 7, beta=0)


def tame(seed=0, n=1, **options):
    return problem(n, 4, seed, condition=2.0, **options)


@pytest.mark.parametrize("seed", SEEDS)
def test_theorem_1_of_compressed_iterates_holds_where_its_conditions_do(seed):
    given, w0 = tame(seed), np.arange(1.0, 5)
    c = compressed.constants(given)
    assert (c.M, c.M_f) == (pytest.approx(0, abs=1e-20), pytest.approx(1))
    omega = 0.9 * c.mu**2 / (10 * c.L_max**2)
    bound = compressed.theorem_1(given, 1 / (1 + omega), w0, 40)
    assert not bound.failing
    assert bound.holds
    too_much = compressed.theorem_1(given, 1 / (1 + 1.2 * omega), w0, 40)
    assert too_much.failing == ("omega < mu^2 / (10 L^2)", "alpha > 0")


def test_second_moments_of_compressed_iterates_are_those_of_the_enumeration():
    given, w0 = tame(n=2), np.arange(1.0, 5)
    means, squares = compressed.second_moments(given, 0.7, w0, 0.3, 3)
    mean, square = w0, np.outer(w0, w0)
    masks = list(oracle.bernoulli(1, 4, 0.7, 1 / 0.7))
    for k in range(1, 4):
        parts = [
            (odds / 2, (np.eye(4) - 0.3 * L) @ C, 0.3 * b)
            for odds, (C,) in masks
            for L, b in zip(given.L, given.b, strict=True)
        ]
        square = sum(
            o * (A @ square @ A.T + np.outer(A @ mean, c) + np.outer(c, A @ mean) + np.outer(c, c))
            for o, A, c in parts
        )
        mean = sum(o * (A @ mean + c) for o, A, c in parts)
        close(means[k], mean)
        close(squares[k], square)


def test_the_variance_constants_bound_the_gradients_of_single_losses():
    given = tame(n=3)
    c = compressed.constants(given)
    w = given.solution + np.random.default_rng(0).normal(size=(2000, 4)) * 3
    each = np.einsum("nab,wb->nwa", given.L, w) - given.b[:, None]
    total = (each**2).sum(-1).mean(0)
    assert (total <= c.M + c.M_f * quadratics.norm2(given.gradient(w)) + 1e-9).all()
    with pytest.raises(InputError, match="M_f must be above"):
        compressed.constants(given, M_f=1.0)


def test_theorem_1_needs_more_than_is_printed_where_M_f_is_above_1():
    """alpha > 0 asks for omega < mu^2 (1 - M_f / 2) / (5 L^2), less than mu^2 / (10 L^2)."""
    given, w0 = tame(n=3), np.arange(1.0, 5)
    c = compressed.constants(given)
    assert c.M_f > 1
    omega = 0.95 * c.mu**2 / (10 * c.L_max**2)
    bound = compressed.theorem_1(given, 1 / (1 + omega), w0, 5)
    assert bound.failing == ("alpha > 0",)


def test_corollary_1_as_printed_has_c_in_the_denominator_and_its_alpha_is_then_negative():
    """Printed: omega < mu^2 / (5 L^2 c). alpha > 0 needs omega < mu^2 c / (5 L^2)."""
    c = compressed.Constants(L_max=1.0, mu=1.0, M=1.0, M_f=0.5)
    share = 0.5 - c.M_f / 2
    printed, right = 1 / (5 * share), share / 5
    assert compressed._alpha(c, 0.99 * right, share) > 0 > compressed._alpha(c, 1.01 * right, share)
    assert compressed._alpha(c, 0.99 * printed, share) < 0


def test_corollary_1_says_nothing_about_quadratics():
    """Gradients are unbounded, so that M_f >= 1 and c = 1/2 - M_f / 2 is never positive."""
    for given in (tame(), tame(n=3)):
        bound = compressed.corollary_1(given, 0.999, np.ones(4), 5)
        assert "c > 0" in bound.failing
        assert bound.right == np.inf


def test_compressed_iterates_diverge_where_independent_subnets_converge(key):
    """diag(1, 4), half of the coordinates: what is masked is zeroed there, and kept in IST."""
    given = quadratics.homogeneous(np.diag([1.0, 4.0]), np.zeros(2), 2)
    _, squares = compressed.second_moments(given, 0.5, np.ones(2), 1 / 8, 60)
    assert np.trace(squares[60]) > 1e6
    ist = iterate.run(
        *(given, sketches.perm(2, 2, scale=1.0), np.ones(2), key),
        steps=60,
        step_size=1 / 8,
        rule="copy",
        runs=20,
    )
    assert np.abs(ist.x).max() < 1e-2


@pytest.mark.parametrize("n", [2, 4])
def test_a_permutation_is_too_much_compression_for_theorem_1(n):
    """Its variance is omega = n - 1, and omega < mu^2 / (10 L^2) <= 1/10 leaves n = 1."""
    given = tame()
    assert compressed.variance(1 / n) == n - 1
    bound = compressed.theorem_1(given, 1 / n, np.ones(4), 5)
    assert "omega < mu^2 / (10 L^2)" in bound.failing
    assert not compressed.theorem_1(given, 1, np.ones(4), 5).failing
    with pytest.raises(InputError, match=r"in \(0, 1\], found 0"):
        compressed.theorem_1(given, 0, np.ones(4), 5)


def test_the_factor_that_makes_a_layer_unbiased_is_n_and_not_n_squared():
    """Equation 2 of the IST paper: summed over the workers, E of the masked layer is W f / n."""
    draw = np.random.default_rng(0)
    n, W, f = 2, draw.normal(size=(4, 4)), draw.normal(size=4)
    cuts = list(oracle.perm(n, 4, 1.0))
    summed = sum(
        odds * other * sum(into[s] @ W @ out[s] @ f for s in range(n))
        for odds, out in cuts
        for other, into in cuts
    )
    close(n * summed, W @ f)
    assert np.abs(n**2 * summed - W @ f).max() > 0.5


@pytest.mark.parametrize("n", [2, 4])
def test_the_inputs_deviation_grows_by_the_root_of_n(n):
    """Over weights of mean zero, with a worker's share of the inputs: sqrt(n) under the factor n,
    n^1.5 under the printed n^2; the paper says n."""
    f = np.arange(1.0, 5)
    whole = f @ f
    for scale, growth in ((n, n**0.5), (n**2, n**1.5)):
        cut = oracle.average(oracle.perm(n, 4, scale), lambda C: np.sum((C[0] @ f) ** 2))
        assert np.sqrt(cut / whole) == pytest.approx(growth)
