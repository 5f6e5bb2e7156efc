"""Data and labels of the one call: what fits, and what is refused."""

import numpy as np
import pytest
from test_one_call import PLAIN, QUICK, plain

import ist_jax
from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.models.mlp import MLP


@pytest.fixture(scope="module")
def digits():
    found = data.load("digits")
    flat = lambda x: np.asarray(x).reshape(len(x), -1)
    return (flat(found.train_x), found.train_y), (flat(found.test_x), found.test_y)


def test_statistics_are_not_those_of_the_first_class_of_sorted_data():
    draw = np.random.default_rng(0)
    centers, y = 2 * draw.normal(size=(3, 5)), np.repeat(np.arange(3, dtype=np.uint8), 1500)
    x = (centers[y] + draw.normal(size=(4500, 5))).astype(np.float32)
    mixed = draw.permutation(4500)
    test = x[mixed][:500], y[mixed][:500]
    how = {**QUICK, "rounds": 20, "eval_every": 20}
    run = ist_jax.fit(MLP({"hidden0": 16}, classes=3), (x, y), test, **how)
    assert run.history["accuracy/test"][-1] > 0.85


def test_a_function_is_asked_for_the_steps_of_the_run_alone(digits):
    (x, y), test = digits
    steps = QUICK["rounds"] * QUICK["local_steps"]

    def draw(worker, step):
        if not 0 <= step < steps:
            raise IndexError(f"there are {steps} steps")
        its = np.random.default_rng([worker, step]).integers(len(x), size=8)
        return {"x": x[its], "y": y[its]}

    run = ist_jax.fit(MLP({"hidden0": 16}, classes=10), draw, test, **QUICK)
    assert run.history["step"][-1] == steps
    for setting in ({"skew": 0.5}, {"split": "all"}):
        with pytest.raises(InputError, match="split and skew are for arrays"):
            ist_jax.fit(MLP({"hidden0": 16}, classes=10), draw, test, **QUICK, **setting)


def test_a_net_that_a_worker_may_go_on_with_still_answers(digits):
    run = ist_jax.fit(plain, *digits, **PLAIN)
    batches = data.Batches(*digits[0], workers=4, batch=8, local_steps=2, seed=0)
    run.trainer.round(run.state, batches(4))
    assert run.predict(digits[1][0][:2]).shape == (2, 10)


def test_nets_asked_together_are_trained_too(digits):
    model = MLP({"hidden0": 16, "hidden1": 16}, classes=10)
    run = ist_jax.fit(model, *digits, method="shallow_ensemble", **QUICK)
    right = (run.predict(digits[1][0]).argmax(-1) == digits[1][1]).mean()
    assert run.history["accuracy/test"][-1] == pytest.approx(right)
    with pytest.raises(InputError, match="needs a module of Linen"):
        ist_jax.fit(plain, *digits, method="shallow_ensemble", **PLAIN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y + 1, "labels go up to 10, and the model has 10 outputs, for 0 to 9"),
        (lambda y: y[:, None], r"y\.argmax\(-1\), of a column y\[:, 0\]"),
        (lambda y: y.astype(float), r"Classes are whole numbers: y\.astype\(int\)"),
        (lambda y: np.eye(10)[y], "look one-hot"),
    ],
)
def test_labels_that_do_not_fit_the_outputs_are_refused(digits, change, said):
    (x, y), _ = digits
    with pytest.raises(InputError, match=said):
        ist_jax.fit(plain, (x, change(y)), **PLAIN)
