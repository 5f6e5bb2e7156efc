"""The largest stable step, and what happens above it."""

import warnings

import numpy as np
import pytest
import quadratic_oracle as oracle
from quadratic_cases import family

from ist_jax.sketch import iterate
from ist_jax.sketch.stability import UnstableStep, largest_step, sure_step


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

    def growth(step_size):
        maps = [
            (odds, oracle.affine(given.L, given.b, C, step_size, rule, local_steps)[0])
            for odds, C in theirs
        ]
        return np.abs(np.linalg.eigvals(sum(odds * np.kron(A, A) for odds, A in maps))).max()

    assert growth(largest) == pytest.approx(1, abs=1e-7)
    assert growth(0.99 * largest) < 1 < growth(1.01 * largest)
    assert 0 <= sure_step(given, sketch, rule=rule, local_steps=local_steps) <= 1.0001 * largest


def test_a_step_that_is_too_large_warns_with_the_largest_stable_one(key):
    given, sketch, _ = family("Perm-2")
    largest = largest_step(given, sketch)
    with pytest.warns(UnstableStep, match=rf"Perm-2.* step size .* is not below {largest:.6g}"):
        iterate.run(given, sketch, np.ones(6), key, steps=2, step_size=1.01 * largest)
    with pytest.warns(UnstableStep) as told:
        iterate.run(given, sketch, np.ones(6), key, steps=5000, step_size=50.0, runs=2)
    assert "2 of 2 runs overflowed" in str(told[1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iterate.run(given, sketch, np.ones(6), key, steps=2, step_size=0.99 * largest)
