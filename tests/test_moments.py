"""Closed forms against enumeration in dense NumPy, to 1e-10; and what the source printed."""

import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import FAMILY, family, problem
from test_sketches import close

from ist_jax.core.errors import InputError
from ist_jax.sketch import bounds, moments, perm_1, quadratics, recursion, sketches

K = 6


def parts(given, C):
    return oracle.gradient_parts(given.L, given.b, C)


@pytest.mark.parametrize("name", FAMILY)
def test_every_moment_of_a_step_is_that_of_the_enumeration(name):
    given, sketch, theirs = family(name)
    mean = lambda f: oracle.average(theirs, lambda C: f(*parts(given, C)))
    M = np.random.default_rng(1).normal(size=(given.d, given.d))
    M, m = M + M.T, M[0]
    close(moments.expected_B(given, sketch), mean(lambda B, c: B))
    close(moments.expected_Cb(given, sketch), mean(lambda B, c: c))
    close(moments.second_B(given, sketch), mean(lambda B, c: B @ given.Lbar @ B))
    close(moments.second_B(given, sketch, M), mean(lambda B, c: B @ M @ B))
    close(moments.cross(given, sketch, m), mean(lambda B, c: np.outer(B @ m, c)))
    Cb = mean(lambda B, c: c)
    close(moments.covariance_Cb(given, sketch), mean(lambda B, c: np.outer(c - Cb, c - Cb)))
    W = mean(lambda B, c: given.Lbar @ B + B @ given.Lbar) / 2
    close(moments.W(given, sketch), W)


@pytest.mark.parametrize("name", FAMILY)
def test_mean_and_covariance_of_every_iterate_are_those_of_both_recursions(name):
    given, sketch, theirs = family(name)
    x0 = np.arange(1.0, given.d + 1)
    expected = oracle.moments(given.L, given.b, theirs, x0, 0.2, K)
    for found in (
        moments.trajectory(given, sketch, x0, 0.2, K),
        recursion.trajectory(given, sketch, x0, 0.2, K),
    ):
        for k, (mean, covariance) in enumerate(expected):
            close(found[0][k], mean)
            close(found[1][k], covariance)


@pytest.mark.parametrize(
    ("name", "rule", "local_steps"),
    [
        ("Perm-1", "copy", 3),
        ("Perm-2, s = 1", "copy", 1),
        ("Perm-2, s = 1", "copy", 3),
        ("Perm-2, s = 1", "merge", 2),
        ("Rand-2", "copy", 2),
        ("Bernoulli", "merge", 2),
        ("preconditioned, q = 3", "step", 2),
        ("block preconditioned", "merge", 2),
        ("n = 2 d", "copy", 2),
    ],
)
def test_the_recursion_is_the_enumeration_for_every_rule_and_local_steps(name, rule, local_steps):
    given, sketch, theirs = family(name)
    x0 = np.arange(1.0, given.d + 1)
    expected = oracle.moments(given.L, given.b, theirs, x0, 0.1, K, rule, local_steps)
    found = recursion.trajectory(given, sketch, x0, 0.1, K, rule=rule, local_steps=local_steps)
    close(found[0][-1], expected[-1][0])
    close(found[1][-1], expected[-1][1])


@pytest.mark.parametrize("name", ["Perm-2", "preconditioned", "block preconditioned", "Rand-2"])
def test_noise_adds_what_its_sketch_lets_through(name):
    """In one step gamma^2 noise^2 E (1/n^2) sum C_i^2; later ones through both recursions."""
    given, sketch, theirs = family(name)
    x0 = np.ones(given.d)
    quiet, loud = (moments.trajectory(given, sketch, x0, 0.2, K, noise) for noise in (0, 0.5))
    squares = oracle.average(theirs, lambda C: sum(c @ c for c in C)) / given.n**2
    close(loud[1][1] - quiet[1][1], (0.2 * 0.5) ** 2 * squares)
    close(loud[1], recursion.trajectory(given, sketch, x0, 0.2, K, noise=0.5)[1])
    close(loud[0], quiet[0])


@pytest.mark.parametrize(("n", "d"), [(4, 4), (3, 6), (2, 6), (2, 8)])
def test_expected_B_of_perm_q_is_the_closed_form(n, d):
    """n [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar]; n Dbar for q = 1, (27)."""
    given, q = problem(n, d), d // n
    mixed = (d - q) / (d - 1) * np.diag(given.Dbar) + (q - 1) / (d - 1) * given.Lbar
    close(moments.expected_B(given, q), n * mixed)
    assert q > 1 or np.allclose(moments.expected_B(given, 1), n * np.diag(given.Dbar))


def test_expected_B_where_a_coordinate_has_several_workers():
    """n = q d: E Bbar = d Dbar."""
    given, sketch, _ = family("n = 2 d")
    close(moments.expected_B(given, sketch), 3 * np.diag(given.Dbar))


def test_preconditioned_perm_1_makes_Bbar_the_identity_in_every_draw():
    """Stronger than (13) and (33), which say so of its mean."""
    given, _, theirs = family("preconditioned")
    for _, C in theirs:
        close(parts(given, C)[0], np.eye(given.d))
        each = np.array([c @ L @ c for c, L in zip(C, given.L, strict=True)])
        assert not np.allclose(each, np.eye(given.d))  # (13) is of the mean, not of each worker


def test_each_preconditioned_worker_is_the_identity_on_average():
    """(13), (33): E C_i L_i C_i = I; and (14)."""
    given, sketch, theirs = family("preconditioned")
    for worker, L in enumerate(given.L):
        close(oracle.average(theirs, lambda C, i=worker, L=L: C[i] @ L @ C[i]), np.eye(given.d))
    mean = (given.D**-0.5 * given.b).mean(0) / np.sqrt(given.n)
    close(moments.expected_Cb(given, sketch), mean)


def test_preconditioned_blocks_are_not_the_identity_on_average():
    """q > 1: (d-q)/(d-1) I + (q-1)/(d-1) mean D_i^-1/2 L_i D_i^-1/2."""
    given, sketch, _ = family("preconditioned, q = 3")
    scaled = given.L * given.D[:, :, None] ** -0.5 * given.D[:, None, :] ** -0.5
    q, d = 3, 6
    expected = (d - q) / (d - 1) * np.eye(d) + (q - 1) / (d - 1) * scaled.mean(0)
    close(moments.expected_B(given, sketch), expected)
    assert np.abs(expected - np.eye(d)).max() > 0.01


def test_inverse_roots_of_whole_blocks_make_Bbar_the_identity_in_every_draw():
    given, _, theirs = family("block preconditioned")
    for _, C in theirs:
        close(parts(given, C)[0], np.eye(given.d))


def alike(n=4, seed=0, **options):
    base = problem(1, n, seed, **options)
    return quadratics.homogeneous(base.L[0], base.b[0], n)


def test_homogeneous_preconditioning_makes_Bbar_n_times_the_identity():
    """(30), in every draw."""
    scaled = quadratics.preconditioned(alike())
    for _, C in oracle.perm(4, 4, 4.0):
        close(parts(scaled, C)[0], 4 * np.eye(4))


def test_28_is_exact_for_one_loss():
    """E[Bbar L Bbar] = n^2 D L D."""
    given = alike()
    D = np.diag(given.Dbar)
    close(moments.second_B(given, sketches.perm(4, 4)), 16 * D @ given.Lbar @ D)
    assert moments.theta(given, sketches.perm(4, 4)) == pytest.approx(bounds.theta_printed(given))


def spiky(n=4):
    """Worker i has its large entry at coordinate i: as heterogeneous as diagonals can be."""
    L = np.full((n, n, n), 0.05) + np.eye(n)
    L[np.arange(n), np.arange(n), np.arange(n)] += 30
    return quadratics.Quadratics(L, np.zeros((n, n)))


def test_28_is_too_weak_where_losses_differ():
    """The moment is n^2 F o Lbar; with the printed theta's step (24) fails and descent with it."""
    given, n = spiky(), 4
    D = given.D
    F = (D.sum(0)[:, None] * D.sum(0) - D.T @ D) / (n * (n - 1))
    np.fill_diagonal(F, (D**2).mean(0))
    sketch = sketches.perm(n, n)
    close(moments.second_B(given, sketch), n**2 * F * given.Lbar)
    printed, true = bounds.theta_printed(given), moments.theta(given, sketch)
    assert printed < 0.5 * true
    x0 = np.ones(n)
    with_true = bounds.stationary(given, sketch, x0, 1 / true, 20)
    assert with_true.holds
    assert not with_true.failing
    with_printed = bounds.stationary(given, sketch, x0, 1 / printed, 20)
    assert not with_printed.holds
    assert with_printed.failing == ("step size at most 1/theta",)
    means, covariances = moments.trajectory(given, sketch, x0, 1 / printed, 20)
    ends = given.value(means[-1]) + np.trace(given.Lbar @ covariances[-1]) / 2
    assert ends > given.value(x0)


def test_theta_of_gradient_descent_and_of_both_preconditionings():
    given = problem(4, 4)
    top = np.linalg.eigvalsh(given.Lbar)[-1]
    assert moments.theta(given, sketches.identity(4, 4)) == pytest.approx(top)
    assert moments.theta(given, sketches.preconditioned(given)) == pytest.approx(1)
    scaled = quadratics.preconditioned(alike())
    assert moments.theta(scaled, sketches.perm(4, 4)) == pytest.approx(4)


def test_without_a_linear_term_both_preconditionings_take_one_step():
    x0 = np.arange(1.0, 5)
    zero = problem(4, 4, interpolation=True)
    means, covariances = moments.trajectory(zero, sketches.preconditioned(zero), x0, 1.0, 1)
    assert np.abs(means[1]).max() < 1e-12
    assert np.abs(covariances[1]).max() < 1e-12
    scaled = quadratics.preconditioned(alike(interpolation=True))
    means, covariances = moments.trajectory(scaled, sketches.perm(4, 4), x0, 1 / 4, 1)
    assert np.abs(means[1]).max() < 1e-12
    assert np.abs(covariances[1]).max() < 1e-12


@pytest.mark.parametrize(("a", "b", "indefinite"), [(1, 8, True), (1, 8, False), (3, 2, False)])
def test_W_can_be_indefinite(a, b, indefinite):
    """n = d = 2: det W < 0 just where the off-diagonal |c| > 2 a b / (a + b)."""
    edge = 2 * a * b / (a + b)
    c = edge * (1.01 if indefinite else 0.99)
    if c**2 >= a * b:
        c = 0.99 * np.sqrt(a * b)
    given = quadratics.homogeneous(np.array([[a, c], [c, b]]), np.ones(2), 2)
    W = moments.W(given, sketches.perm(2, 2))
    assert (np.linalg.det(W) < 0) == indefinite == (c > edge)
    assert np.isinf(moments.theta(given, sketches.perm(2, 2))) == indefinite


def test_numbers_may_be_numpys_and_a_sketch_must_fit():
    given = problem(4, 8)
    for q in (2, np.int64(2)):
        close(moments.expected_B(given, q), moments.expected_B(given, sketches.perm(4, 8)))
        assert moments.theta(given, q) == moments.theta(given, sketches.perm(4, 8))
    assert sketches.bernoulli(np.int64(8), np.int64(8), 0.5).support.outcomes == 2**64
    with pytest.raises(InputError, match="sketch is for n=1, d=8, the problem has n=4, d=8"):
        moments.theta(given, sketches.rand(1, 8, 2))
    with pytest.raises(InputError, match=r"Perm-1 needs n = d; found n=4, d=8"):
        perm_1.bias(given)
    with pytest.raises(InputError, match=r"a point must be \[8\]"):
        moments.trajectory(given, sketches.perm(4, 8), np.ones(3), 0.1, 2)
