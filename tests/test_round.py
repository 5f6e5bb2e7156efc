"""Whole rounds, against NumPy and against ordinary loops in optax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits
from training import run, trainer_of

import ist_jax
from ist_jax import axes, method, partition
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.method import Method
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.tasks import classification

DIMS = (6, 12, 8, 3)
KEY = jax.random.key(0)


@pytest.mark.parametrize("hidden", [(12,), (12, 8)], ids=["2-layer", "3-layer"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("policy", ["reset", "keep"])
def test_ist_is_the_numpy_oracle(hidden, momentum, policy):
    """Three rounds in float64, so that agreement to 1e-9 is agreement of the algebra."""
    workers, steps, batch, inputs, classes = 4, 3, 16, 6, 5
    draw = np.random.default_rng(1)
    rounds = [
        (
            [np.sort(draw.permutation(n).reshape(workers, -1), axis=1) for n in hidden],
            draw.normal(size=(workers, steps, batch, inputs)),
            draw.integers(classes, size=(workers, steps, batch)),
        )
        for _ in range(3)
    ]
    dims = (inputs, *hidden, classes)
    net = {
        "kernels": [draw.normal(size=d) / 2 for d in itertools.pairwise(dims)],
        "scales": [1 + 0.1 * draw.normal(size=n) for n in hidden],
        "shifts": [0.1 * draw.normal(size=n) for n in hidden],
    }
    expected, losses = oracle.ist(net, rounds, 0.1, momentum, policy == "keep")

    with jax.enable_x64(True):
        model = MLP({f"hidden{i}": n for i, n in enumerate(hidden)}, classes)
        params, names = axes.of(model.init(jax.random.key(0), jnp.ones((2, inputs)), train=True))
        params = {"params": as_flax(net)}
        table = {
            f"hidden{i}": jnp.asarray(np.stack([who[i] for who, _, _ in rounds]))
            for i in range(len(hidden))
        }

        def given(key, context):
            return {group: ids[context.number] for group, ids in table.items()}

        sub = normalise.subnet(model, {g: ids.shape[-1] for g, ids in table.items()})
        trainer = ist_jax.build(
            classification.cross_entropy(sub),
            optax.sgd(0.1, momentum=momentum or None),
            params,
            names,
            method=Method("given", given),
            workers=workers,
            optimizer_state=policy,
        )
        state = trainer.init(params, jax.random.key(0))
        for number, (_, x, y) in enumerate(rounds):
            state, report = trainer.round(state, {"x": x, "y": y})
            np.testing.assert_allclose(report.loss, losses[number].mean(axis=1), rtol=1e-9)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9),
        state.params,
        {"params": as_flax(expected)},
    )


def as_flax(net):
    out = {}
    last = len(net["kernels"]) - 1
    for i, kernel in enumerate(net["kernels"]):
        out["logits" if i == last else f"hidden{i}"] = {"kernel": kernel}
    for i, (scale, shift) in enumerate(zip(net["scales"], net["shifts"], strict=True)):
        out[f"norm_hidden{i}"] = {"scale": scale, "shift": shift}
    return out


@pytest.mark.optimized
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.sgd(0.1, 0.9), optax.adam(1e-2)])
@pytest.mark.parametrize("how", [method.ist(), method.ist(partition.balanced), method.single()])
def test_one_worker_is_ordinary_training_bit_for_bit(optimizer, how):
    """Oracle 5, first half: the same scan over the same batches, without this library's round."""
    params, names = mlp_tree(DIMS)
    batches = regression_batches(3, 1, 4, 8, 6, 3)
    state, _ = run(params, names, how, batches, 1, optimizer, optimizer_state="keep")

    @jax.jit
    def ordinary(net, opt_state, batches):
        def step(carry, batch):
            net, opt_state = carry
            grads = jax.grad(mlp_loss)(net, batch, None)
            updates, opt_state = optimizer.update(grads, opt_state, net)
            return (optax.apply_updates(net, updates), opt_state), None

        return jax.lax.scan(step, (net, opt_state), batches)[0]

    net, opt_state = params, optimizer.init(params)
    for batch in batches:
        net, opt_state = ordinary(net, opt_state, jax.tree.map(lambda leaf: leaf[0], batch))
    assert same_bits(state.params, net)
    assert same_bits(state.opt_state, opt_state)


@pytest.mark.parametrize("steps_per_epoch", [1, 5, 7, 20])
@pytest.mark.parametrize("local_steps", [1, 3, 8])
def test_steps_trained_are_steps_kept(steps_per_epoch, local_steps):
    """Oracle 3: every example seen moves the net by exactly its share, also across ends of epochs.

    The loss is linear, -sum(x) w: each step adds lr times the batch's sum to every entry the worker
    holds, so the final net counts every step of every worker; none may be trained and thrown away.
    """
    workers, batch, lr = 2, 2, 0.5
    n = steps_per_epoch * batch * workers
    from ist_jax.data import Batches

    data = Batches(
        np.arange(n, dtype=np.float32),
        np.zeros(n, np.int32),
        workers=workers,
        batch=batch,
        local_steps=local_steps,
        seed=0,
    )
    params, names = {"w": jnp.zeros(4), "b": jnp.zeros(())}, {"w": ("h",), "b": ()}
    loss = lambda net, b, key: -b["x"].sum() * (net["w"].sum() + net["b"])
    trainer = ist_jax.build(
        loss, optax.sgd(lr), params, names, method=method.ist(), workers=workers
    )
    state = trainer.init(params, jax.random.key(0))
    rounds = 6
    for number in range(rounds):
        state, _ = trainer.round(state, data(number))
    seen = np.stack(
        [[data.indices(w, s).sum() for s in range(rounds * local_steps)] for w in range(workers)]
    )
    assert float(state.params["b"]) == lr * seen.sum() / workers
    assert float(state.params["w"].sum()) == lr * seen.sum() * 2, "two neurons a worker"
    per_epoch = [
        np.concatenate([data.indices(w, s) for s in range(steps_per_epoch)]) for w in range(2)
    ]
    if rounds * local_steps >= steps_per_epoch:
        assert sorted(np.concatenate(per_epoch)) == list(range(n)), "an epoch is every example once"


@pytest.mark.optimized
def test_who_did_not_take_part_changes_nothing_and_the_rest_are_as_if_alone():
    """By hand: an entry is the absent worker's if it holds its neuron on every cut axis."""
    params, names = mlp_tree(DIMS)
    batches = regression_batches(1, 4, 2, 8, 6, 3)
    took_part = np.array([True, True, False, True])
    everyone, _ = run(params, names, method.ist(), batches)
    spoilt = [{**b, "x": np.where(took_part[:, None, None, None], b["x"], np.nan)} for b in batches]
    three, (report,) = run(params, names, method.ist(), spoilt, took_part=took_part)
    who = partition.permutation(fold(jax.random.key(3), "draw"), {"h0": 12, "h1": 8}, 4, 0)
    for leaf, of_leaf in names.items():
        axes_of = zip(of_leaf, params[leaf].shape, strict=True)
        absent = np.ix_(*(np.asarray(who[g][2]) if g else np.arange(n) for g, n in axes_of))
        expected = np.array(everyone.params[leaf])
        assert (expected[absent] != params[leaf][absent]).any()
        expected[absent] = params[leaf][absent]
        assert same_bits(np.asarray(three.params[leaf]), expected)
    assert report.bytes_sent[2] == 0
    assert (report.bytes_sent[took_part] > 0).all()
    for how in (method.local_sgd(), method.data_parallel()):
        with_it, with_nan = (
            run(params, names, how, some, took_part=took_part)[0] for some in (batches, spoilt)
        )
        assert same_bits(with_it.params, with_nan.params)


@pytest.mark.parametrize("how", [method.ist(), method.data_parallel()], ids=lambda how: how.name)
def test_where_nobody_takes_part_neither_the_net_nor_its_moments_move(how):
    params, names = mlp_tree(DIMS)
    batches = regression_batches(2, 4, 2, 8, 6, 3)
    momentum = optax.sgd(0.1, momentum=0.9)
    trainer = trainer_of(params, names, how, 4, momentum, optimizer_state="keep")
    moved, _ = trainer.round(trainer.init(params, jax.random.key(3)), batches[0])
    before = trainer.whole(moved)[:2]
    state, _ = trainer.round(moved, batches[1], np.zeros(4, bool))
    assert same_bits(trainer.whole(state)[:2], before)


@pytest.mark.parametrize(
    "how",
    [method.ist(), method.local_sgd(), method.data_parallel(), method.ensemble(), method.single()],
    ids=lambda how: how.name,
)
def test_the_second_round_compiles_nothing(how, compilations):
    params, names = mlp_tree(DIMS)
    workers = how.workers or 4
    trainer = trainer_of(params, names, how, workers)
    state = trainer.init(params, jax.random.key(0))
    first, second = regression_batches(2, workers, 2, 8, 6, 3)
    compilations()
    state, _ = trainer.round(state, first)
    assert compilations() == 1, "one program does a whole round"
    trainer.round(state, second)
    assert compilations() == 0


def test_the_state_is_donated_and_the_caller_keeps_parameters_and_key():
    params, names = mlp_tree(DIMS)
    trainer = trainer_of(params, names, method.ist(), 4)
    key = jax.random.key(0)
    state = trainer.init(params, key)
    trainer.round(state, regression_batches(1, 4, 2, 8, 6, 3)[0])
    assert state.params["w1"].is_deleted()
    assert not params["w1"].is_deleted()
    assert not jax.random.key_data(key).is_deleted()


@pytest.mark.parametrize("inject", [False, True], ids=["plain", "inject_hyperparams"])
def test_schedules_go_on_counting_when_moments_are_reset(inject):
    """A rate that is zero from the fifth step on: the second round of four must change nothing."""
    params, names = mlp_tree(DIMS)
    rate = optax.piecewise_constant_schedule(0.1, {4: 0.0})
    batches = regression_batches(2, 4, 4, 8, 6, 3)
    sgd = optax.inject_hyperparams(optax.sgd) if inject else optax.sgd
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), sgd(rate, momentum=0.9))
    after_one, _ = run(params, names, method.ist(), batches[:1], optimizer=optimizer)
    after_two, _ = run(params, names, method.ist(), batches, optimizer=optimizer)
    assert not same_bits(after_one.params, params)
    assert same_bits(after_one.params, after_two.params)


def test_moments_that_cannot_travel_are_refused():
    """Adafactor's second moments are rows and columns, not shaped like the parameters."""
    params, names = mlp_tree((6, 256, 256, 3))
    with pytest.raises(
        InputError, match=r"cannot travel with the neurons.*optimizer_state='reset'"
    ):
        trainer_of(params, names, method.ist(), 4, optax.adafactor(1e-2), optimizer_state="keep")
    trainer_of(params, names, method.ist(), 4, optax.adafactor(1e-2))


def test_a_loss_gets_its_own_key_for_worker_round_and_step():
    params, names = {"w": jnp.zeros((4, 2))}, {"w": ("h", None)}
    loss = lambda net, batch, key: net["w"].sum() * jax.random.normal(key, ())
    trainer = ist_jax.build(loss, optax.sgd(1.0), params, names, method=method.ist(), workers=4)
    state = trainer.init(params, jax.random.key(0))
    seen = []
    for _ in range(2):
        before = np.asarray(state.params["w"])
        state, _ = trainer.round(state, {"x": np.zeros((4, 1, 1), np.float32)})
        seen += list(np.asarray(state.params["w"])[:, 0] - before[:, 0])
    assert len(np.unique(np.round(seen, 5))) == 8


@pytest.mark.parametrize(
    ("batches", "took_part", "message"),
    [
        ({"x": np.zeros((3, 2, 8))}, None, "must begin with .S=4 workers"),
        ({"x": np.zeros((4, 2, 8)), "y": np.zeros((4, 3, 8))}, None, "the same J in all"),
        ({"x": np.zeros((4, 0, 8))}, None, "J local steps >= 1"),
        ({}, None, "empty tree"),
        ({"x": np.zeros((4, 2, 8))}, np.ones(3, bool), r"took_part must be bool\[4\]"),
    ],
)
def test_bad_batches(batches, took_part, message):
    params, names = mlp_tree(DIMS)
    trainer = trainer_of(params, names, method.ist(), 4)
    with pytest.raises(InputError, match=message):
        trainer.round(trainer.init(params, jax.random.key(0)), batches, took_part)
