"""Plans of failures: what they say, that they are replayed, and what is wrong with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ist_jax.core.errors import InputError
from ist_jax.run import faults


def test_a_plan_says_who_fails_when():
    of = faults.parse("drop:2@5; nan:0@7-8;slow:3x4;drop:1@9-", workers=4, seed=0)
    dropped = {r: np.flatnonzero(of(r).dropped).tolist() for r in range(12)}
    assert {r: who for r, who in dropped.items() if who} == {5: [2], 9: [1], 10: [1], 11: [1]}
    spoilt = {r: np.flatnonzero(of(r).spoilt).tolist() for r in range(12)}
    assert {r: who for r, who in spoilt.items() if who} == {7: [0], 8: [0]}
    assert of(0).slowness.tolist() == [1, 1, 1, 4]


def test_chances_are_kept_and_replayed_from_the_seed():
    of, again, other = (faults.parse("drop:25%;nan:25%", 8, seed) for seed in (1, 1, 2))
    drawn = np.array([of(r).dropped for r in range(500)])
    spoilt = np.array([of(r).spoilt for r in range(500)])
    assert abs(drawn.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / drawn.size)
    np.testing.assert_array_equal(drawn, [again(r).dropped for r in range(500)])
    assert (drawn != [other(r).dropped for r in range(500)]).any()
    assert abs((drawn & spoilt).mean() - 0.25**2) < 0.02  # one does not follow from the other


def test_workers_that_are_not_there_do_not_fail():
    found = faults.parse("drop:2@5;nan:3@5;slow:7x2", workers=1, seed=0)(5)
    assert not found.dropped.any()
    assert not found.spoilt.any()
    assert found.slowness.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop", "what is 'drop'"),
        ("drop:2@", "what is"),
        ("fly:2@5", "what is 'fly:2@5'"),
        ("drop:-1@5", "what is"),
        ("drop:2@5,nan:0@7", "separated by semicolons"),
        ("drop:101%", "at most 100"),
        ("slow:3x0.5", "factor of 1 or more"),
        ("slow:3x", "what is"),
        ("nan:0@٣", "what is"),
        ("drop:" + "9" * 6000 + "@5", "what is"),
    ],
)
def test_bad_plans(text, message):
    with pytest.raises(InputError, match=message):
        faults.parse(text, 4, 0)


@settings(deadline=None)
@given(st.text(alphabet="dropnaslw:@x%-;.0123456789 ", max_size=40), st.integers(0, 100))
def test_any_text_is_a_plan_or_an_input_error(text, round):
    try:
        of = faults.parse(text, 4, 0)
    except InputError:
        return
    assert of(round).slowness.min() >= 1
