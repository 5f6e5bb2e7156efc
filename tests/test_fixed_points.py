"""With a linear term: where iterates tend to, how far they scatter, what the bias is made of."""

import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import family, problem
from test_moments import K, alike, parts
from test_sketches import close

from ist_jax.core.errors import InputError
from ist_jax.sketch import moments, perm_1, quadratics, recursion, sketches


def test_the_preconditioned_step_is_newtons_with_a_bias():
    """(16) and (17): E g = x - n^-1/2 mean D_i^-1/2 b_i = Lbar^-1 grad f(x) + h."""
    given, _, theirs = family("preconditioned")
    x = np.arange(1.0, 5)
    g = oracle.average(theirs, lambda C: parts(given, C)[0] @ x - parts(given, C)[1])
    close(g, x - (given.D**-0.5 * given.b).mean(0) / 2)
    close(g, np.linalg.solve(given.Lbar, given.gradient(x)) + perm_1.bias(given))
    sketch = sketches.preconditioned(given)
    close(perm_1.bias(given), given.solution - moments.mean_limit(given, sketch))


def test_the_law_of_the_preconditioned_iteration_is_exact():
    given, _, theirs = family("preconditioned")
    x0 = np.arange(1.0, 5)
    for k, (mean, covariance) in enumerate(oracle.moments(given.L, given.b, theirs, x0, 0.3, K)):
        found = perm_1.law(given, x0, 0.3, k)
        close(found[0], mean)
        close(found[1], covariance)


def test_the_scatter_of_the_preconditioned_gradient_is_the_same_everywhere():
    """(18) is an equality: sigma^2 = tr(Lbar Cov Cb), whatever x is."""
    given, sketch, theirs = family("preconditioned")
    for x in (np.zeros(4), np.arange(1.0, 5), np.full(4, -30.0)):
        g = [(odds, parts(given, C)[0] @ x - parts(given, C)[1]) for odds, C in theirs]
        mean = sum(odds * each for odds, each in g)
        scatter = sum(odds * quadratics.norm2(each - mean, given.Lbar) for odds, each in g)
        assert perm_1.sigma2(given) == pytest.approx(scatter, rel=1e-10)
    covariance = moments.covariance_Cb(given, sketch)
    assert perm_1.sigma2(given) == pytest.approx(np.trace(given.Lbar @ covariance), rel=1e-10)


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0, 1.7])
def test_the_neighbourhood_is_the_limit_exactly(step_size):
    given, _, _ = family("preconditioned")
    inverse = np.linalg.inv(given.Lbar)
    steps = int(np.ceil(np.log(1e-13) / np.log(max(abs(1 - step_size), 1e-7))))
    x0 = np.arange(1.0, 5)
    means, covariances = moments.trajectory(
        given, sketches.preconditioned(given), x0, step_size, steps
    )
    limit = quadratics.norm2(given.gradient(means[-1]), inverse)
    limit += np.trace(given.Lbar @ covariances[-1])
    assert perm_1.neighbourhood(given, step_size) == pytest.approx(limit, rel=1e-10)


def test_one_loss_leaves_no_scatter_and_a_bias_but_for_an_eigenvector():
    """C = n^1/2 e e' on (29): g = x - b~ n^-1/2; x_inf = x* just if L~ b~ = n^1/2 b~."""
    scaled = quadratics.preconditioned(alike())
    x = np.arange(1.0, 5)
    for _, C in oracle.perm(4, 4, 2.0):
        B, Cb = parts(scaled, C)
        close(B @ x - Cb, x - scaled.bbar / 2)
    sketch = sketches.perm(4, 4, scale=2.0)
    close(moments.mean_limit(scaled, sketch), scaled.bbar / 2)
    assert np.abs(moments.covariance_Cb(scaled, sketch)).max() < 1e-12
    assert not np.allclose(scaled.solution, scaled.bbar / 2)
    # A matrix with a diagonal of ones and an eigenvalue n^1/2 = 2: ones + (4 - 1) c = 2.
    c = 1 / 3
    L = (1 - c) * np.eye(4) + c * np.ones((4, 4))
    lucky = quadratics.homogeneous(L, np.full(4, 5.0), 4)
    close(moments.mean_limit(lucky, sketch), lucky.solution)


@pytest.mark.parametrize(("n", "d"), [(4, 4), (3, 6), (2, 6), (6, 3)])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_fixed_point_of_any_scale(n, d, scale):
    given, q = problem(n, d), max(d // n, n // d)
    own = q if d >= n else 1
    mixed = (d - own) / (d - 1) * np.diag(given.Dbar) + (own - 1) / (d - 1) * given.Lbar
    expected = np.linalg.solve(mixed, given.bbar) / scale
    close(moments.fixed_point(given, q=q, scale=scale), expected)


@pytest.mark.parametrize(("n", "d", "scale"), [(3, 3, 1.0), (4, 4, 1.0), (3, 3, 2.0), (2, 4, 1.0)])
@pytest.mark.parametrize("local_steps", [2, 5])
def test_the_fixed_point_of_local_steps_is_the_enumerations(n, d, scale, local_steps):
    given, q = problem(n, d), d // n
    found = moments.fixed_point(given, q, scale, local_steps, step_size=0.3)
    sketch = sketches.perm(n, d, q, scale)
    for rule in ("copy", "step"):
        limit = recursion.mean_limit(given, sketch, 0.3, rule=rule, local_steps=local_steps)
        close(found, limit)
    if q == 1 and scale == 1:
        r = (1 - 0.3 * given.D) ** local_steps
        close(found, ((1 - r) * given.b / given.D).sum(0) / (1 - r).sum(0))


def test_fixed_points_that_cannot_be_had_are_refused():
    given = problem(2, 6)
    with pytest.raises(InputError, match="found q=2, n=2, d=6"):
        moments.fixed_point(given, q=2)
    with pytest.raises(InputError, match="depends on step_size"):
        moments.fixed_point(given, q=3, local_steps=2)
    with pytest.raises(InputError, match="at least 1, found 0"):
        moments.fixed_point(given, q=3, local_steps=0)
    with pytest.raises(InputError, match="184756 blocks"):
        moments.fixed_point(problem(2, 20), q=10, local_steps=2, step_size=0.1)
    with pytest.raises(InputError, match=r"step sizes in \(0, 2\), found 2"):
        perm_1.neighbourhood(problem(4, 4), 2.0)
    with pytest.raises(InputError, match=r"Perm-1 needs n = d; found n=2, d=6"):
        perm_1.neighbourhood(given, 0.1)


@pytest.mark.parametrize("n", [4, 16, 64])
def test_the_bias_does_not_diminish_as_n_grows(n):
    """It is said to as n = d grows; with L~ = I it is the share 1 - n^-1/2 of the solution."""
    given = quadratics.homogeneous(np.eye(n), np.arange(1.0, n + 1), n)
    share = np.linalg.norm(perm_1.bias(given)) / np.linalg.norm(given.solution)
    assert share == pytest.approx(1 - n**-0.5)


def test_the_bias_of_quadratics_does_not_come_from_6():
    """E grad f(C x) = grad f(x), as the gradient is affine; E C L C x is another thing."""
    given, _, theirs = family("Perm-2")
    x = np.arange(1.0, 7)
    close(oracle.average(theirs, lambda C: given.gradient(C[0] @ x)), given.gradient(x))
    sketched = oracle.average(theirs, lambda C: C[0] @ given.gradient(C[0] @ x))
    assert np.abs(sketched - given.gradient(x)).max() > 0.1
