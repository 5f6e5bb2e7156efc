"""What tables and figures show: bits for a byte of texts, else accuracy."""

import pytest

from ist_jax.run import measure, seed_means
from ist_jax.run.measure import ACCURACY, BITS


def line(number=0, **measured):
    about = {"method": "ist", "seed": 0, "round": number, "step": number}
    costs = {"comm/bytes_sent": 1, "compute/flops": 1, "time/train_s": 0.5}
    return about | costs | {f"{key}/test": value for key, value in measured.items()}


def test_bits_come_before_accuracy_where_every_line_has_them():
    assert measure.of([line(bits=1.0, accuracy=0.5)] * 2) is BITS
    assert measure.of([line(bits=1.0, accuracy=0.5), line(accuracy=0.5)]) is ACCURACY
    assert measure.of([line(loss=1.0)]) is ACCURACY
    assert measure.of([]) is ACCURACY


@pytest.mark.parametrize(
    ("measured", "score"),
    [
        ({"accuracy/test": 0.5}, 0.5),
        ({"accuracy/test": 0.5, "accuracy/valid": 0.25}, 0.25),
        ({"bits/test": 2.0, "accuracy/test": 0.5}, -2.0),
        ({"bits/test": 2.0, "bits/validation": 3.0, "accuracy/validation": 0.5}, -3.0),
        ({"loss/test": 1.0}, None),
    ],
)
def test_more_is_better(measured, score):
    assert measure.score(measured) == score


def test_units():
    assert (BITS.title("test"), ACCURACY.title()) == ("test bits (per byte)", "accuracy (%)")
    assert BITS.spread([1.0, 2.0]) == "1.5000 ± 0.7071"
    assert (ACCURACY.spread([0.5]), ACCURACY.spread([])) == ("50.00", "-")


@pytest.mark.parametrize(("name", "value", "shown"), [("bits", 2.0, 2.0), ("accuracy", 0.5, 50.0)])
def test_curves_are_in_the_unit(name, value, shown):
    [curve] = seed_means.of({("ist", 0): [line(0, **{name: value}), line(1, **{name: value})]})
    assert curve.measure.name == name
    assert list(curve.mean) == [shown, shown]
