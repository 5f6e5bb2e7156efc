"""Blocks dealt out: everyone has some, none is left out, by the paper's counts."""

import functools

import jax
import numpy as np
import pytest

from ist_jax import depth, partition
from ist_jax.core.errors import InputError


def held(who, width):
    return [sorted(int(i) for i in row if i < width) for row in np.asarray(who)]


@pytest.mark.parametrize(
    ("width", "workers", "least", "counts"),
    [
        (22, 2, 0, [11, 11]),
        (22, 4, 0, [6, 6, 5, 5]),  # the release's
        (22, 4, 6, [6, 6, 6, 6]),  # the paper's: 24 blocks
        (22, 8, 4, [4] * 8),  # 32 blocks
        (22, 4, 10, [10] * 4),
        (7, 3, 3, [3, 3, 3]),
        (3, 5, 1, [1] * 5),
        (3, 5, 3, [3] * 5),
        (1, 1, 0, [1]),
    ],
)
def test_counts_coverage_and_no_block_twice(width, workers, least, counts):
    for number in range(20):
        who = depth.overlapping(jax.random.key(0), {"stage3": width}, workers, number, least=least)
        partition.check(who, {"stage3": width})
        rows = held(who["stage3"], width)
        assert list(map(len, rows)) == counts
        assert set().union(*rows) == set(range(width))


def test_without_a_minimum_it_is_the_permutations_deal():
    widths = {"stage2": 5, "stage3": 22}
    for number in range(3):
        ours = depth.overlapping(jax.random.key(1), widths, 4, number, least=0)
        theirs = partition.permutation(jax.random.key(1), widths, 4, number)
        assert all((np.asarray(ours[g]) == np.asarray(theirs[g])).all() for g in widths)


def test_every_block_is_held_as_often_as_any_other_and_so_is_every_pair():
    """Marginals of 4,000 draws, within five standard deviations."""
    draw = jax.jit(
        lambda number: depth.overlapping(jax.random.key(2), {"b": 7}, 3, number, least=4)["b"]
    )
    draws, rounds = np.zeros((7, 7)), 4000
    for rows in np.asarray(jax.lax.map(draw, np.arange(rounds))):
        for row in rows:
            draws[np.ix_(row, row)] += 1
    alone, pairs = np.diag(draws), draws[~np.eye(7, dtype=bool)]
    for counts, share in ((alone, 4 / 7), (pairs, 4 * 3 / (7 * 6))):
        expected = 3 * rounds * share
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize(("workers", "least"), [(2, 0), (4, 0), (4, 5), (4, 6), (8, 4), (30, 1)])
def test_the_share_is_the_papers_factor(workers, least):
    """max(1/S, least/N), for any N; also where the permutation leaves a remainder."""
    assign = functools.partial(depth.overlapping, least=least)
    for width in (22, 34, 36, 49):
        if workers <= width or least:
            share = depth.mean_shares(assign, {"stage3": width}, workers)["stage3"]
            assert share == pytest.approx(max(1 / workers, least / width), rel=1e-12)


def test_one_list_is_dealt_out_over_all_groups():
    widths = {"stage1": 3, "strided2": 1, "stage2": 8}
    lacking = set()
    for number in range(40):
        who = depth.joint(jax.random.key(0), widths, 4, number)
        partition.check(who, widths)
        assert partition.is_disjoint(who, widths)
        rows = {group: held(ids, widths[group]) for group, ids in who.items()}
        assert [sum(len(rows[g][s]) for g in widths) for s in range(4)] == [3] * 4
        for group, width in widths.items():
            assert sorted(block for row in rows[group] for block in row) == list(range(width))
        lacking |= {s for s in range(4) if not rows["strided2"][s]}
    assert lacking == set(range(4)), "any worker may be the one that holds it"
    assert depth.mean_shares(depth.joint, widths, 4) == dict.fromkeys(widths, 0.25)


@pytest.mark.parametrize(
    ("assign", "workers", "message"),
    [
        (functools.partial(depth.overlapping, least=23), 4, "hold 23 of 'stage3', which has 22"),
        (
            functools.partial(depth.overlapping, least=0),
            23,
            "'stage3', so that worker 22 has no",
        ),
        (functools.partial(depth.overlapping, least=-1), 4, "hold -1 of 'stage3'"),
        (depth.joint, 23, "23 workers cannot share 22 members of .'stage3'"),
    ],
)
def test_what_cannot_be_dealt_out_is_told(assign, workers, message):
    with pytest.raises(InputError, match=message):
        assign(jax.random.key(0), {"stage3": 22}, workers)
