"""Schedules and warm-up by formulas of our own, optimizers beside optax's, and what is refused."""

import math

import jax
import numpy as np
import optax
import pytest
from conftest import tiny

from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.run import learning_rate, optimizers

STEPS = 40
THEIRS = """
import optax
def halves(lr, steps, times=2):
    return lambda count: lr / 2 ** (count * times // steps)
def no_rate(steps):
    return lambda count: 1.0
def fails(lr):
    raise RuntimeError("never")
def vector(lr):
    import jax.numpy as jnp
    return lambda count: jnp.zeros(3)
def plain(rate, scale=1.0):
    return optax.sgd(scale * rate)
def anything(rate, **options):
    return optax.sgd(rate, **options)
"""


@pytest.fixture(autouse=True)
def their_module(tmp_path, monkeypatch):
    (tmp_path / "their_rates.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))


def rates(schedule="constant", warm_up_steps=0, lr=0.2, **options):
    config = tiny(**{"optimizer.lr": lr, "optimizer.warm_up_steps": warm_up_steps})
    config.optimizer.schedule, config.optimizer.schedule_options = schedule, options
    found = learning_rate.make(config.optimizer, STEPS)
    return [float(found(i)) if callable(found) else found for i in range(STEPS)]


def cosine(steps, lr=0.2):
    return [lr * 0.5 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "options", "wanted"),
    [
        ("constant", {}, [0.2] * STEPS),
        ("cosine", {}, cosine(STEPS)),
        ("steps", {}, [0.2] * 20 + [0.02] * 10 + [0.002] * 10),
        ("constant_schedule", {}, [0.2] * STEPS),
        ("cosine_decay_schedule", {"decay_steps": 20}, cosine(20) + [0.0] * 20),
        (
            "warmup_cosine_decay_schedule",
            {"warmup_steps": 10},
            [0.02 * i for i in range(10)] + cosine(30),
        ),
        (
            "exponential_decay",
            {"decay_rate": 0.1},
            [0.2 * 0.1 ** (i / STEPS) for i in range(STEPS)],
        ),
        ("linear_schedule", {"end_value": 0.0}, [0.2 * (1 - i / STEPS) for i in range(STEPS)]),
        (
            "piecewise_constant_schedule",
            {"boundaries_and_scales": {"10": 0.5}},
            [0.2] * 10 + [0.1] * 30,
        ),
        ("their_rates:halves", {}, [0.2] * 20 + [0.1] * 20),
        ("their_rates:halves", {"times": 4}, [0.2 / 2 ** (i // 10) for i in range(STEPS)]),
        ("optax:cosine_decay_schedule", {}, cosine(STEPS)),
    ],
)
def test_a_schedule_is_what_its_formula_says(schedule, options, wanted):
    np.testing.assert_allclose(rates(schedule, **options), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", [7, 40])
def test_the_three_of_before_are_optaxs_to_the_bit(steps):
    at = {"optimizer.lr": 0.1}
    made = {
        name: learning_rate.make(tiny(**at, **{"optimizer.schedule": name}).optimizer, steps)
        for name in ("constant", "cosine", "steps")
    }
    assert made["constant"] == 0.1
    plain = {
        "cosine": optax.cosine_decay_schedule(0.1, steps),
        "steps": optax.piecewise_constant_schedule(0.1, {steps // 2: 0.1, 3 * steps // 4: 0.1}),
    }
    for name, schedule in plain.items():
        assert [made[name](i) for i in range(steps)] == [schedule(i) for i in range(steps)]


@pytest.mark.parametrize("warm", [1, 2, 8, 39])
def test_a_warm_up_rises_evenly_and_the_schedule_then_has_the_steps_that_are_left(warm):
    rising = [0.2 * (i + 1) / warm for i in range(warm)]
    left = STEPS - warm
    np.testing.assert_allclose(rates("cosine", warm), rising + cosine(left), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(rates("constant", warm), rising + [0.2] * left, rtol=1e-5)


def moved(optimizer, steps=3):
    params = {"w": np.array([1.0, -2.0], np.float32)}
    state = optimizer.init(params)
    for number in range(steps):
        gradient = jax.tree.map(lambda w, n=number: np.float32(0.3 * n) * w + np.float32(1), params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["w"])


@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("adam", {"b1": 0.5}, optax.adam(0.1, b1=0.5)),
        ("adamw", {"b2": 0.9, "weight_decay": 0.1}, optax.adamw(0.1, b2=0.9, weight_decay=0.1)),
        ("sgd", {"nesterov": True, "momentum": 0.9}, optax.sgd(0.1, 0.9, nesterov=True)),
        ("lion", {}, optax.lion(0.1)),
        ("adam", {"mu_dtype": "bfloat16"}, optax.adam(0.1, mu_dtype="bfloat16")),
        ("optax.contrib:ademamix", {}, optax.contrib.ademamix(0.1)),
        ("ademamix", {}, optax.contrib.ademamix(0.1)),
        ("their_rates:plain", {"scale": 3}, optax.sgd(0.3)),
        ("their_rates:anything", {"momentum": 0.5}, optax.sgd(0.1, 0.5)),
    ],
)
def test_an_optimizer_is_optaxs_own_with_these_options(name, options, plain):
    config = tiny(**{"optimizer.name": name, "optimizer.lr": 0.1})
    config.optimizer.options = options
    np.testing.assert_array_equal(moved(optimizers.make(config, 10)), moved(plain))


def test_a_momentum_of_the_config_reaches_a_function_of_any_options():
    config = tiny(**{"optimizer.name": "their_rates:anything", "optimizer.momentum": 0.5})
    np.testing.assert_array_equal(moved(optimizers.make(config, 10)), moved(optax.sgd(0.1, 0.5)))


@pytest.mark.parametrize(
    ("schedule", "options", "said"),
    [
        ("cosin", {}, "there is no 'cosin'; did you mean 'cosine'"),
        ("warmup_cosine_decay", {}, "did you mean 'warmup_cosine_decay_schedule'"),
        ("join_schedules", {}, "there is no 'join_schedules'"),
        ("cosine", {"alpha": 0.1}, "schedule 'cosine' has no option 'alpha'; it has none"),
        ("warmup_cosine_decay_schedule", {}, "needs a value for warmup_steps"),
        ("exponential_decay", {"decay_rat": 0.1}, "has no option .*; did you mean 'decay_rate'"),
        ("exponential_decay", {}, "needs a value for decay_rate"),
        (
            "cosine_decay_schedule",
            {"init_value": 1.0},
            r"schedule_options\.init_value is the learning rate: set config\.optimizer\.lr",
        ),
        ("cosine_decay_schedule", {"decay_steps": 0}, r"fails with .* \(ValueError"),
        ("cosine_decay_schedule", {"alpha": "a"}, r"schedule_options\.alpha must be a number"),
        ("exponential_decay", {"decay_rate": "a"}, r"exponential_decay' fails with"),
        ("their_rates:no_rate", {}, "must take the learning rate as one of peak_value, value"),
        ("their_rates:fails", {}, r"fails with \{'lr': 0\.2\} \(RuntimeError: never\)"),
        ("their_rates:vector", {}, r"must give a number, found shape \(3,\)"),
        ("their_rates:halve", {}, "has no function 'halve'; did you mean 'halves'"),
    ],
)
def test_a_schedule_that_cannot_be_is_said(schedule, options, said):
    with pytest.raises(InputError, match=said):
        rates(schedule, **options)


@pytest.mark.filterwarnings("ignore")  # some of optax's are deprecated, or want a key
def test_every_optimizer_and_schedule_of_optax_can_be_asked_for_or_says_what_it_needs():
    """Nothing but an ``InputError`` comes of any name."""
    said = {}
    for name in optimizers.known():
        config = tiny(**{"optimizer.name": name})
        try:
            optimizers.check(config)
        except InputError as error:
            said[name] = str(error)
    assert said == {}
    for name, function in learning_rate.known().items():
        needed = [
            key
            for key, usual in by_name.options_of(function).items()
            if usual is by_name.NEEDED and key not in (*learning_rate.RATE, *learning_rate.STEPS)
        ]
        if needed:
            with pytest.raises(InputError, match=f"needs a value for {', '.join(needed)}"):
                rates(name)
        else:
            assert rates(name)
