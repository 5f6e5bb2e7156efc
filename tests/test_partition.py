import functools

import jax
import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ist_jax import partition
from ist_jax.core.errors import InputError

pytestmark = pytest.mark.usefixtures("strict_types")

DRAWS = {
    "permutation": partition.permutation,
    "balanced": partition.balanced,
    "balanced, 3 homes": functools.partial(partition.balanced, shards=3),
    "fixed": partition.fixed,
    "rotating": partition.rotating,
    "unequal": lambda key, widths, workers, number=0: partition.permutation(
        key, widths, workers, number, shares=range(1, workers + 1)
    ),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@given(width=st.integers(12, 70), workers=st.integers(1, 4), round=st.integers(0, 9))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_neuron_has_exactly_one_worker(draw, width, workers, round):
    ids = np.asarray(draw(jax.random.key(1), {"h": width}, workers, round)["h"])
    assert ids.dtype == np.int32
    assert sorted(ids[ids < width]) == list(range(width))
    assert (ids <= width).all()
    assert (np.diff(ids, axis=1) >= 0).all(), "rows are sorted, empty slots last"


def test_uneven_widths_give_the_remainder_to_the_first_workers(key):
    ids = np.asarray(partition.permutation(key, {"h": 64}, workers=3)["h"])
    assert ids.shape == (3, 22)
    assert (ids < 64).sum(axis=1).tolist() == [22, 21, 21]


def test_shares_are_kept_in_every_group(key):
    who = partition.permutation(key, {"a": 40, "b": 7}, 3, shares=(1, 1, 2))
    assert (np.asarray(who["a"]) < 40).sum(axis=1).tolist() == [10, 10, 20]
    assert (np.asarray(who["b"]) < 7).sum(axis=1).tolist() == [2, 2, 3]


@pytest.mark.parametrize("name", ["permutation", "balanced"])
def test_draws_are_uniform(name):
    """Over 3,000 draws each neuron is with each worker a quarter of the time (4.5 sigma)."""
    draw = jax.jit(jax.vmap(lambda round: DRAWS[name](jax.random.key(0), {"h": 16}, 4, round)["h"]))
    ids = np.asarray(draw(np.arange(3000)))
    share = np.stack([(ids == neuron).any(axis=2).mean(axis=0) for neuron in range(16)])
    assert np.abs(share - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 3000)


def test_pairs_of_a_permutation_are_uniform():
    """Neurons 0 and 1 share a worker with probability (m - 1)/(N - 1); balanced homes lower it."""
    rounds = np.arange(4000)

    def together(draw):
        one = jax.jit(jax.vmap(lambda r: draw(jax.random.key(0), {"h": 16}, 4, r)["h"]))
        ids = np.asarray(one(rounds))
        return ((ids == 0).any(axis=2) & (ids == 1).any(axis=2)).any(axis=1).mean()

    expected = 3 / 15
    sigma = np.sqrt(expected * (1 - expected) / len(rounds))
    assert abs(together(partition.permutation) - expected) < 4.5 * sigma
    assert together(partition.balanced) == 0, "4 homes of 4, one neuron of each home per worker"


def test_balanced_draws_equally_from_every_home(key):
    ids = np.asarray(partition.balanced(key, {"h": 64}, 4, shards=8)["h"])
    assert (np.stack([np.bincount(row // 8, minlength=8) for row in ids]) == 2).all()


def test_balanced_sends_equally_many_from_every_holder_to_every_holder(key):
    """64 neurons, 4 workers: 16 pairs of holders with 4 each, from 4 homes, round after round."""
    draw = jax.jit(functools.partial(partition.balanced, widths={"h": 64}, workers=4))
    before = draw(key, number=0)
    for number in range(1, 6):
        after = draw(key, number=number, previous=before)
        was, now = np.zeros(64, int), np.zeros(64, int)
        for worker in range(4):
            was[before["h"][worker]], now[after["h"][worker]] = worker, worker
        triples = np.bincount(16 * (np.arange(64) // 16) + 4 * was + now, minlength=64)
        assert (triples == 1).all()
        before = after


def test_balanced_goes_on_mixing_where_a_place_holds_a_single_neuron(key):
    """16 neurons, 4 workers: over 3,000 rounds in a row each is with each a quarter of the time."""

    def step(previous, number):
        who = partition.balanced(key, {"h": 16}, 4, number, previous)
        return who, who["h"]

    start = partition.balanced(key, {"h": 16}, 4)
    _, ids = jax.jit(lambda: jax.lax.scan(step, start, np.arange(1, 3001)))()
    share = np.stack([(np.asarray(ids) == n).any(axis=2).mean(axis=0) for n in range(16)])
    assert np.abs(share - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 3000)


@given(st.integers(1, 90), st.integers(1, 6), st.integers(1, 7), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_balanced_counts_differ_by_one_at_most_and_never_change(width, workers, shards, round):
    workers = min(workers, width)
    key = jax.random.key(2)
    ids = np.asarray(partition.balanced(key, {"h": width}, workers, round, shards=shards)["h"])
    homes = -(-width // shards)
    counts = np.stack([np.bincount(row[row < width] // homes, minlength=shards) for row in ids])
    assert np.ptp(counts, axis=0).max() <= 1
    even = np.asarray(partition.permutation(key, {"h": width}, workers)["h"])
    assert ids.shape == even.shape
    assert ((ids < width).sum(axis=1) == (even < width).sum(axis=1)).all()


def test_rounds_and_groups_draw_apart_and_fixed_does_not(key):
    widths = {"a": 32, "b": 32}
    first = partition.permutation(key, widths, 4, 0)
    again = partition.permutation(key, widths, 4, 0)
    later = partition.permutation(key, widths, 4, 1)
    assert (first["a"] == again["a"]).all()
    assert (first["a"] != later["a"]).any()
    assert (first["a"] != first["b"]).any(), "every hidden layer has its own permutation"
    assert (partition.fixed(key, widths, 4, 5)["a"] == first["a"]).all()
    again = functools.partial(partition.fixed, draw=partition.balanced)
    assert (again(key, widths, 4, 5)["a"] == partition.balanced(key, widths, 4)["a"]).all()


def test_rotating_gives_the_same_subnets_to_other_workers(key):
    """Each of them to each worker equally often, with all of its groups; drawn anew each round."""
    widths, rounds = {"a": 10, "b": 6}, 2000
    first = partition.fixed(key, widths, 4)
    draw = lambda number: partition.rotating(key, widths, 4, number)
    found = jax.device_get(jax.jit(jax.vmap(draw))(np.arange(rounds)))
    holds = np.zeros((4, 4), int)
    for number in range(rounds):
        at = [
            [(row == mine).all(1).argmax() for mine in found["a"][number]] for row in [first["a"]]
        ]
        assert sorted(at[0]) == [0, 1, 2, 3]
        np.testing.assert_array_equal(found["b"][number], np.asarray(first["b"])[at[0]])
        holds[np.arange(4), at[0]] += 1
    assert abs(holds / rounds - 0.25).max() < 0.05
    assert (found["a"][0] != first["a"]).any() or (found["a"][1] != first["a"]).any()


def test_a_new_group_leaves_the_draws_of_the_others_alone(key):
    small = partition.permutation(key, {"b": 32}, 4)
    large = partition.permutation(key, {"a": 8, "b": 32, "c": 64}, 4)
    assert (small["b"] == large["b"]).all()


def test_large_shares_are_shares_too(key):
    """Their sum is beyond all floats."""
    who = partition.permutation(key, {"h": 64}, 4, shares=(1e308, 1e308, 1e308, 1e308))["h"]
    assert sorted(np.asarray(who).ravel()) == list(range(64))


def test_one_program_serves_all_rounds(key):
    draw = jax.jit(lambda round: partition.permutation(key, {"h": 64}, 4, round))
    for round in range(3):
        draw(round)
    assert draw._cache_size() == 1


def test_sub_widths(key):
    widths = {"a": 64, "b": 9}
    assert partition.sub_widths(partition.permutation, widths, 3) == {"a": 22, "b": 3}
    assert partition.sub_widths(partition.replicated, widths, 3) == widths


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda k: partition.permutation(k, {"h": 3}, 4),
            "'h' has 3 neurons, too few for 4 workers",
        ),
        (lambda k: partition.balanced(k, {"h": 3}, 4), "'h' has 3 neurons, too few for 4 workers"),
        (lambda k: partition.permutation(k, {"h": 3}, 0), "at least one worker"),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1,)),
            "must be 2 positive numbers",
        ),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1, 0)),
            "must be 2 positive numbers",
        ),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1, 99)),
            "worker 0 leaves it no neuron",
        ),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1e308, 1e-308)),
            "worker 1 leaves it no neuron",
        ),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1, np.inf)),
            "must be 2 positive numbers",
        ),
        (
            lambda k: partition.permutation(k, {"h": 8}, 2, shares=(1, np.nan)),
            "must be 2 positive numbers",
        ),
        (lambda k: partition.balanced(k, {"h": 8}, 2, shards=0), "at least one home shard"),
    ],
)
def test_bad_input(key, call, message):
    with pytest.raises(InputError, match=message):
        call(key)


def test_types_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        partition.permutation("a key", {"h": 8}, 2)
