"""Sparse rows: padded, renumbered, sampled; against lists."""

import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.data import Batches, sparse

LISTS = [[4, 1], [], [0, 2, 3, 9], [7], [2, 4]]
STARTS = np.append(0, np.cumsum([len(row) for row in LISTS]))
IDS = np.concatenate([np.asarray(row, np.int32) for row in LISTS])
VALUES = np.arange(1, len(IDS) + 1, dtype=np.float32)
WIDTH = 10


def rows(**options):
    return sparse.Rows(STARTS, IDS, VALUES, WIDTH, **options)


def test_a_row_has_its_entries_and_padding():
    x = rows()
    assert (len(x), x.most, x.shortened) == (5, 4, 0)
    found = x[np.array([[2, 0], [1, 4]])]
    assert found["ids"].shape == found["values"].shape == (2, 2, 4)
    np.testing.assert_array_equal(found["ids"][0, 0], [0, 2, 3, 9])
    np.testing.assert_array_equal(found["ids"][0, 1], [4, 1, 10, 10])
    np.testing.assert_array_equal(found["values"][1], [[0, 0, 0, 0], [8, 9, 0, 0]])
    assert x[1:3]["ids"].tolist() == [[10, 10, 10, 10], [0, 2, 3, 9]]
    assert x.a_row == 9 / 5
    assert x.counts().tolist() == [1, 1, 2, 1, 2, 0, 0, 1, 0, 1]
    assert x.columns(np.array([0, 4, 1])).tolist() == [1, 2, 4]


def test_a_row_that_is_too_long_keeps_its_first_entries_and_is_counted():
    x = rows(most=2)
    assert (x.most, x.shortened) == (2, 1)
    assert x[np.array([2])]["ids"].tolist() == [[0, 2]]
    with pytest.raises(InputError, match="at least one entry"):
        rows(most=0)


def test_rows_without_any_entry():
    x = sparse.Rows(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 5)
    assert x[:]["ids"].tolist() == [[5]] * 3
    assert x[:]["values"].tolist() == [[0]] * 3


def batches(seed=3, of=None):
    y = sparse.Rows(STARTS, IDS, None, WIDTH)
    return Batches(rows(), y, workers=2, batch=3, local_steps=2, seed=seed, split="all", of=of)


def test_places_are_the_columns_that_a_worker_holds():
    plain, slots = batches(), sparse.slots(batches(), rows(), sparse_labels(), 4)
    touched = sparse.Touched(batches(), WIDTH, WIDTH, slots, 0)
    for r in range(4):
        before, after = plain(r), touched(r)
        held = after["external"]["features"]
        assert held.shape == (2, slots["features"])
        back = np.concatenate([held, np.full((2, 1), WIDTH)], axis=1)
        for worker in range(2):
            ids = before["x"]["ids"][worker]
            np.testing.assert_array_equal(back[worker][after["x"]["ids"][worker]], ids)
            real = held[worker][held[worker] < WIDTH]
            assert real.tolist() == sorted(set(ids[ids < WIDTH].tolist()))
        np.testing.assert_array_equal(before["x"]["values"], after["x"]["values"])
        np.testing.assert_array_equal(before["y"], after["y"])


def sparse_labels():
    return sparse.Rows(STARTS, IDS, None, WIDTH)


def test_sampled_labels_are_a_rounds_own_and_others_drawn_anew():
    sampled = 3
    slots = sparse.slots(batches(), rows(), sparse_labels(), 4, sampled)
    touched = sparse.Touched(batches(), WIDTH, WIDTH, slots, sampled)
    drawn = []
    for r in range(4):
        before, after = batches()(r), touched(r)
        held = after["external"]["labels"]
        for worker in range(2):
            sure, others = after["sure"][worker, 0, 0], after["drawn"][worker, 0, 0]
            own = before["y"][worker]
            assert held[worker][:sure].tolist() == sorted(set(own[own < WIDTH].tolist()))
            assert len(set(held[worker][: sure + others].tolist())) == sure + others
            assert (held[worker][sure + others :] == WIDTH).all()
            assert others <= sampled
            back = np.append(held[worker], WIDTH)
            np.testing.assert_array_equal(back[after["y"][worker]], own)
            drawn.append(held[worker][sure : sure + others].tolist())
        again = sparse.Touched(batches(), WIDTH, WIDTH, slots, sampled)(r)
        np.testing.assert_array_equal(again["external"]["labels"], held)
        alone = sparse.Touched(batches(of=[1]), WIDTH, WIDTH, slots, sampled)(r)
        np.testing.assert_array_equal(alone["external"]["labels"][0], held[1])
    assert len({tuple(one) for one in drawn}) > 3


def test_no_room_is_told():
    touched = sparse.Touched(batches(), WIDTH, WIDTH, {"features": 1}, 0)
    with pytest.raises(InputError, match="there is room for 1"):
        touched(0)


def test_skew_needs_one_label():
    with pytest.raises(InputError, match="one label for each example"):
        Batches(rows(), sparse_labels(), workers=2, batch=2, local_steps=1, seed=0, skew=1.0)
