"""Problems and sketches: what is drawn, how likely, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import FAMILY, family, problem

from ist_jax.core.errors import InputError
from ist_jax.sketch import quadratics, sketches

PERMS = ["Perm-1", "Perm-2", "Perm-3", "n = 2 d"]


def close(a, b, rtol=1e-10):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1, np.abs(b).max()))


@pytest.mark.parametrize("name", FAMILY)
def test_outcomes_are_the_oracles_with_their_probabilities(name):
    _, sketch, theirs = family(name)
    chances, drawn = sketch.outcomes()
    weight: dict = {}
    for odds, C in theirs:
        key = np.round(C, 9).tobytes()
        weight[key] = weight.get(key, 0) + odds
    ours = {
        np.round(C, 9).tobytes(): odds
        for C, odds in zip(dense(sketch, drawn), chances, strict=True)
    }
    assert sketch.support.outcomes == len(ours) == len(weight)
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    for key, odds in ours.items():
        assert odds == pytest.approx(weight[key], rel=1e-10)


def dense(sketch, drawn):
    return sketches.dense(drawn, sketch.d) + 0.0  # no -0


@pytest.mark.parametrize("name", FAMILY)
def test_draws_come_as_often_as_they_are_likely(name):
    """Every outcome within 4 standard errors of its probability, in 20,000 draws."""
    _, sketch, _ = family(name)
    chances, drawn = sketch.outcomes()
    held = lambda ids: tuple(tuple(sorted(int(a) for a in row)) for row in ids)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(3), 20_000)
        ids = np.asarray(jax.jit(jax.vmap(lambda key: sketch.draw(key).ids))(keys))
    seen: dict = {}
    for one in ids:
        seen[held(one)] = seen.get(held(one), 0) + 1
    assert len(seen) <= len(chances)
    errors = [
        abs(seen.get(held(one), 0) - len(ids) * odds) / np.sqrt(len(ids) * odds * (1 - odds) + 1e-9)
        for one, odds in zip(drawn.ids, chances, strict=True)
    ]
    unlucky = np.mean(np.array(errors) > 4)  # of many outcomes, a few are
    assert unlucky <= (0 if len(errors) < 100 else 0.002)


@pytest.mark.parametrize("name", PERMS)
def test_perm_is_unbiased_and_its_mean_is_the_identity_in_every_draw(name):
    """(5): E C_i = I, (1/n) sum C_i = I, E|C_i x - x|^2 = (n - 1) |x|^2 (d - 1 for n = q d)."""
    _, sketch, _ = family(name)
    chances, drawn = sketch.outcomes()
    C = dense(sketch, drawn)
    close(np.einsum("k,knab->nab", chances, C), np.broadcast_to(np.eye(sketch.d), C.shape[1:]))
    close(C.mean(1), np.broadcast_to(np.eye(sketch.d), C.mean(1).shape))
    x = np.arange(1.0, sketch.d + 1)
    variance = np.einsum("k,kn->n", chances, ((C @ x - x) ** 2).sum(-1))
    close(variance, np.full(sketch.n, (min(sketch.n, sketch.d) - 1) * (x @ x)))


def test_perm_as_printed_for_n_equal_to_d_fits_q_1_only():
    """(5) says "for n = d", and its sum runs to q n, which is more than d for q > 1."""
    assert sketches.perm(4, 4, q=1).draw(jax.random.key(0)).ids.shape == (4, 1)
    with pytest.raises(InputError, match=r"q n = d or n = q d; found q=2, n=4, d=4"):
        sketches.perm(4, 4, q=2)


@pytest.mark.parametrize("name", FAMILY)
def test_a_draw_is_a_pure_function_of_its_key_in_float64(name):
    _, sketch, theirs = family(name)
    first, again, other = (sketch.draw(jax.random.key(seed)) for seed in (5, 5, 7))
    assert np.asarray(first.ids).tobytes() == np.asarray(again.ids).tobytes()
    assert name == "identity" or not np.array_equal(first.ids, other.ids)
    assert first.ids.dtype == jnp.int32
    assert first.scales.dtype == jnp.float64
    assert first.scales.size <= sketch.n * sketch.d**2 / 2  # indices and factors, no matrices
    assert any(np.allclose(dense(sketch, first), C) for _, C in theirs)


def test_the_users_setting_is_not_touched():
    assert not jax.config.jax_enable_x64
    sketch = family("Perm-2")[1]
    sketch.draw(jax.random.key(0))
    sketch.outcomes()
    assert jnp.ones(1).dtype == jnp.float32
    with pytest.raises(InputError, match="compile them under jax"):
        jax.jit(sketch.draw)(jax.random.key(0))


def test_bad_sketches_are_refused():
    with pytest.raises(InputError, match=r"found n=3, d=7"):
        sketches.perm(3, 7)
    with pytest.raises(InputError, match=r"found n=0, d=7"):
        sketches.perm(0, 7)
    with pytest.raises(InputError, match=r"q from 1 to d = 4, found q=5"):
        sketches.rand(2, 4, 5)
    with pytest.raises(InputError, match=r"chance in \(0, 1\], found 0"):
        sketches.bernoulli(2, 4, 0.0)
    with pytest.raises(InputError, match="positive and finite, found 0"):
        sketches.perm(2, 4, scale=0.0)
    with pytest.raises(InputError, match=r"q n = d; found n=4 workers, d=2"):
        sketches.preconditioned(problem(4, 2))
    with pytest.raises(InputError, match=r"Perm-10 with n = 2, d = 20 has 184756 outcomes"):
        sketches.perm(2, 20).outcomes()


def test_a_zero_on_the_diagonal_is_named_where_it_is_divided_by():
    L = np.array([np.eye(2), np.diag([3.0, 0.0])])
    given = quadratics.Quadratics(L, np.ones((2, 2)))
    with pytest.raises(InputError, match=r"L of worker 1 has 0 on its diagonal at coordinate 1"):
        sketches.preconditioned(given)
    with pytest.raises(InputError, match="L of worker 1 is singular"):
        sketches.block_preconditioned(given)


@pytest.mark.parametrize(
    ("L", "b", "told"),
    [
        (np.ones((2, 2)), np.ones((2, 2)), r"L must be \[n, d, d\].*found \(2, 2\)"),
        (np.ones((0, 2, 2)), np.ones((0, 2)), r"found \(0, 2, 2\)"),
        ([np.eye(2)] * 3, np.ones((2, 2)), r"b must be .* = \(3, 2\).*found \(2, 2\)"),
        ([np.eye(2), [[1, 0.5], [0, 1]]], np.ones((2, 2)), "L of worker 1 is not symmetric"),
        ([np.eye(2), [[1, 2], [2, 1]]], np.ones((2, 2)), r"worker 1 .*definite.*eigenvalue is -1"),
        ([np.diag([1.0, 0])] * 2, np.ones((2, 2)), "mean of the L_i is not positive definite"),
        ([np.eye(2), np.full((2, 2), np.nan)], np.ones((2, 2)), "L of worker 1 holds .* finite"),
        ([np.eye(2)] * 2, [[1, 1], [1, np.inf]], "b of worker 1 holds .* finite"),
        ([np.diag([1, -1e-8]), np.eye(2)], np.ones((2, 2)), "L of worker 0 is not .*definite"),
        ([np.eye(2) * 1j], np.ones((1, 2)), "L must be an array of real numbers; found complex"),
        ([[1, 2], [3]], np.ones((1, 2)), "L must be an array of real numbers"),
    ],
)
def test_a_bad_problem_names_the_worker_and_the_quantity(L, b, told):
    with pytest.raises(InputError, match=told):
        quadratics.Quadratics(L, b)


def test_rounding_of_float32_is_no_mistake():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    L = x.T @ x
    L[0, 1] *= 1 + 1e-6
    given = quadratics.Quadratics([L], np.ones((1, 3), np.float32))
    assert given.L.dtype == given.b.dtype == np.float64
    assert (given.L[0] == given.L[0].T).all()
    with pytest.raises(InputError, match="not symmetric"):
        quadratics.Quadratics([L.astype(np.float64)], np.ones((1, 3)))


def test_a_workers_matrix_may_be_singular_if_the_mean_is_not():
    given = quadratics.Quadratics([np.diag([1.0, 0]), np.diag([0, 3.0])], np.ones((2, 2)))
    close(given.solution, [2.0, 2 / 3])


def test_the_minimum_is_where_the_gradient_vanishes():
    given = problem(3, 5)
    assert np.abs(given.gradient(given.solution)).max() < 1e-12
    assert given.value(given.solution) == pytest.approx(given.minimum)
    around = given.solution + np.random.default_rng(0).normal(size=(50, 5))
    own = [x @ L @ x / 2 - b @ x for x in around for L, b in zip(given.L, given.b, strict=True)]
    close(given.value(around), np.mean(np.reshape(own, (50, 3)), axis=1))
    fall = given.value(around) - given.minimum
    close(quadratics.norm2(around - given.solution, given.Lbar) / 2, fall)


def test_random_problems_have_the_spectrum_and_heterogeneity_asked_for():
    alike = problem(3, 6, condition=50.0, heterogeneity=0.0)
    assert not np.ptp(alike.L, axis=0).any()
    assert not np.ptp(alike.b, axis=0).any()
    assert np.linalg.cond(alike.Lbar) == pytest.approx(50, rel=1e-6)
    mixed, apart = (problem(3, 6, condition=50.0, heterogeneity=h) for h in (0.3, 1.0))
    assert 0 < np.ptp(mixed.L, axis=0).max() < np.ptp(apart.L, axis=0).max()
    close([np.linalg.cond(L) for L in apart.L], [50.0] * 3, rtol=1e-6)
    given = problem(2, 3, spectrum=np.array([[1.0, 2, 3], [4, 5, 6]]), interpolation=True)
    close(np.linalg.eigvalsh(given.L), [[1, 2, 3], [4, 5, 6]])
    assert not given.b.any()
    for wrong, told in (
        ({"condition": 0.5}, "condition"),
        ({"heterogeneity": 2.0}, "heterogeneity"),
        ({"spectrum": np.ones(4)}, "spectrum"),
    ):
        with pytest.raises(InputError, match=told):
            problem(2, 3, **wrong)


def test_preconditioning_keeps_the_losses():
    """(29): f~(D^1/2 x) = f(x), and the homogeneous L~ has a diagonal of ones."""
    given = quadratics.homogeneous(problem(1, 4).L[0], np.ones(4), n=4)
    scaled = quadratics.preconditioned(given)
    close(scaled.D, np.ones((4, 4)))
    x = np.arange(1.0, 5)
    assert scaled.value(np.sqrt(given.Dbar) * x) == pytest.approx(given.value(x), rel=1e-12)


def test_the_oracle_enumerates_a_probability():
    for name in FAMILY:
        assert sum(odds for odds, _ in family(name)[2]) == pytest.approx(1, abs=1e-12)
    assert len(list(oracle.perm(3, 6, 3.0))) == 720
