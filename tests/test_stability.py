"""The largest stable step, and what happens above it."""

import warnings

import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import family, problem

from ist_jax.core.errors import InputError
from ist_jax.sketch import iterate, moments, quadratics, recursion, sketches
from ist_jax.sketch.quadratics import UnstableStep
from ist_jax.sketch.stability import growth, largest_step, sure_step


@pytest.mark.parametrize(
    ("name", "rule", "local_steps"),
    [
        ("Perm-1", "step", 1),
        ("Perm-2", "merge", 1),
        ("Perm-2, s = 1", "copy", 1),
        ("Perm-1", "step", 3),
        ("Perm-2, s = 1", "copy", 2),
        ("n = 2 d", "copy", 1),
        ("Bernoulli", "step", 1),
        ("Rand-2", "copy", 2),
        ("preconditioned", "step", 1),
        ("preconditioned, q = 3", "step", 1),
        ("block preconditioned", "step", 1),
        ("identity", "step", 1),
    ],
)
def test_the_largest_stable_step_is_where_second_moments_begin_to_grow(name, rule, local_steps):
    """By the oracle's enumeration: the second moment's map has radius 1 there."""
    given, sketch, theirs = family(name)
    largest = largest_step(given, sketch, rule=rule, local_steps=local_steps)

    def by_enumeration(step_size):
        maps = [
            (odds, oracle.affine(given.L, given.b, C, step_size, rule, local_steps)[0])
            for odds, C in theirs
        ]
        return np.abs(np.linalg.eigvals(sum(odds * np.kron(A, A) for odds, A in maps))).max()

    assert by_enumeration(largest) == pytest.approx(1, abs=1e-7)
    assert by_enumeration(0.99 * largest) < 1 < by_enumeration(1.01 * largest)
    assert 0 <= sure_step(given, sketch, rule=rule, local_steps=local_steps) <= 1.0001 * largest


def test_a_step_that_is_too_large_warns_with_the_largest_stable_one(key):
    given, sketch, _ = family("Perm-2")
    largest = largest_step(given, sketch)
    with pytest.warns(UnstableStep, match=rf"Perm-2.* step size .* is not below {largest:.6g}"):
        iterate.run(given, sketch, np.ones(6), key, steps=2, step_size=1.01 * largest)
    with pytest.warns(UnstableStep) as told:
        iterate.run(given, sketch, np.ones(6), key, steps=5000, step_size=50.0, runs=2)
    assert "2 of 2 runs diverged" in str(told[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            iterate.run(given, sketch, np.ones(6), key, steps=2, step_size=share * largest)


def test_stable_steps_beyond_unstable_ones_do_not_count():
    """Two local steps of 1/L end at the minimum, but smaller ones may diverge before."""
    given = quadratics.Quadratics([0.6 * np.eye(3)] * 3, np.zeros((3, 3)))
    sketch = sketches.perm(3, 3)
    largest = largest_step(given, sketch, rule="copy", local_steps=2)
    grows = lambda step_size: growth(given, sketch, float(step_size), "copy", 2)
    assert max(grows(step_size) for step_size in np.linspace(0.01, 0.999, 200) * largest) < 1
    assert grows(1.01 * largest) > 1
    assert grows(0.9) < 1
    assert largest < 0.3


def test_a_merge_that_makes_iterates_grow_by_itself_has_no_stable_step():
    given, sketch, _ = family("Rand-2")
    assert largest_step(given, sketch, rule="merge") == pytest.approx(0, abs=1e-9)
    assert growth(given, sketch, 1e-6, "merge") > 1


def test_a_step_that_is_not_known_to_be_stable_says_so_and_what_diverges_is_told(key):
    given = problem(4, 12)
    sketch = sketches.perm(4, 12, scale=1.0)
    with pytest.warns(UnstableStep) as told:
        iterate.run(
            *(given, sketch, np.zeros(12), key),
            steps=100,
            step_size=4.0,
            rule="copy",
            local_steps=5,
        )
    assert "not known to be stable; below" in str(told[0].message)
    assert "1 of 1 runs diverged" in str(told[1].message)


def test_a_sketch_with_more_outcomes_than_a_float_can_count_is_no_obstacle(key):
    given = problem(20, 100, condition=2.0)
    sketch = sketches.rand(20, 100, 50)
    with pytest.raises(InputError, match=r"about 10\^58\d outcomes"):
        sketch.outcomes()
    iterate.run(given, sketch, np.ones(100), key, steps=1, step_size=0.01, rule="copy")


def test_moments_that_overflow_are_told_once():
    given, sketch, _ = family("Perm-2")
    for trajectory in (moments.trajectory, recursion.trajectory):
        with pytest.warns(UnstableStep, match="moments of the iterates overflowed") as told:
            trajectory(given, sketch, np.ones(6), 1e3, 100)
        assert len(told) == 1
    with pytest.warns(UnstableStep, match=r"local steps of 6 diverge in worker \d"):
        moments.fixed_point(given, q=2, local_steps=3, step_size=6)
