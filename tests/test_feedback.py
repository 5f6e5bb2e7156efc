"""Error feedback: what a code leaves out of an update is added to the worker's next one."""

import functools

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, on_host, regression_batches, same_bits
from training import trainer_of

import ist_jax
from ist_jax import compress, local, method
from ist_jax.checkpoint import Checkpoints
from ist_jax.compress.codes import BACK, BLOCK
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sharded import placement

CODE = compress.named("4bit+feedback")
DIMS, S, J = (6, 16, 8, 3), 4, 2
PARAMS, NAMES = mlp_tree(DIMS)
BATCHES = regression_batches(4, S, J, 8, 6, 3)
ABSENT = np.array([True, False, True, True])


def test_it_is_a_code_that_says_so():
    assert CODE.feedback
    assert not compress.named("4bit").feedback
    assert CODE.parts(100) == compress.rounded(4).parts(100)
    assert compress.named("top0.1+feedback").feedback
    for name in ("+feedback", "4bit+", "4bit+feedback+feedback", "16bit+feedback"):
        with pytest.raises(InputError, match=r"compress must be|8 or 4 bits"):
            compress.named(name)


def in_blocks(leaf):
    return np.pad(np.ravel(leaf), (0, -np.size(leaf) % BLOCK)).reshape(-1, BLOCK)


def through(code, rows, key):
    """What comes out of a code."""
    return np.asarray(code.decode(code.encode(jnp.asarray(rows, jnp.float32), key), BLOCK))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_workers_send_what_they_learnt_and_what_was_left_out_before(devices):
    """By hand: local SGD, a worker absent in the third round. The mean comes back in 8 bits."""
    trainer = trainer_of(
        PARAMS,
        NAMES,
        method.local_sgd(),
        S,
        code=CODE,
        mesh=placement.mesh(S, devices),
        message_bytes=200,
    )
    state = trainer.init(PARAMS, jax.random.key(3))
    assert not any(np.asarray(e).any() for e in trainer.whole(state).errors.values())
    net = {name: np.asarray(leaf) for name, leaf in PARAMS.items()}
    errors = {name: np.zeros((S, *in_blocks(leaf).shape)) for name, leaf in net.items()}
    train = functools.partial(local.train, jax.value_and_grad(mlp_loss), optax.sgd(0.1))
    for number, batch in enumerate(BATCHES):
        here = ABSENT if number == 2 else np.ones(S, bool)
        key = fold(fold(jax.random.key(3), "train", number), "code")
        start = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in net.items()}
        sent = {name: [] for name in net}
        for worker in np.flatnonzero(here):
            mine = jax.tree.map(lambda leaf, worker=worker: leaf[worker], batch)
            trained, _, _ = train(start, optax.sgd(0.1).init(start), mine, key)
            for place, name in enumerate(sorted(net)):
                update = in_blocks(trained[name] - start[name]) + errors[name][worker]
                sent[name].append(through(CODE, update, fold(key, "code", place, int(worker))))
                errors[name][worker] = update - sent[name][-1]
        first = 0
        for name in sorted(net):
            change = np.mean(sent[name], axis=0)
            keys = [fold(key, "mean", first + n) for n in range(len(change))]
            told = np.stack([through(BACK, *one) for one in zip(change, keys, strict=True)])
            net[name] = net[name] + told.ravel()[: net[name].size].reshape(net[name].shape)
            first += len(change)
        state, _ = trainer.round(state, batch, None if here.all() else here)
        now = trainer.whole(state)
        for name in net:
            np.testing.assert_allclose(now.params[name], net[name], atol=1e-5)
            for worker in range(S):
                found = in_blocks(now.errors[name][worker])
                np.testing.assert_allclose(found, errors[name][worker], atol=1e-5)
            assert np.abs(errors[name]).max() > 1e-4


def test_what_was_left_out_is_not_lost_where_little_is_sent():
    """Entry 0 always moves most, each way; what all agree on, entry 1, is sent with feedback only.

    Of a block of 256 entries one is sent (after Karimireddy et al., 2019, section 3).
    """
    wanted = np.zeros((S, 1, 1, BLOCK), np.float32)
    wanted[:, 0, 0, 0] = [9, -9, 9, -9]
    wanted[:, 0, 0, 1] = 1
    loss = lambda net, batch, key: jnp.sum(jnp.square(net["w"] - batch["x"][0])) / 2
    names, found = {"w": (None,)}, {}
    for name in ("", "top0.003", "top0.003+feedback"):
        trainer = ist_jax.build(
            loss,
            optax.sgd(0.1),
            {"w": jnp.zeros(BLOCK)},
            names,
            method=method.local_sgd(),
            workers=S,
            code=compress.named(name),
        )
        state = trainer.init({"w": jnp.zeros(BLOCK)}, jax.random.key(0))
        for _ in range(200):
            state, _ = trainer.round(state, {"x": wanted})
        found[name] = np.asarray(state.params["w"])
    assert found[""][1] == pytest.approx(1)
    assert found["top0.003"][1] == 0
    assert found["top0.003+feedback"][1] == pytest.approx(1, abs=0.3)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("how", "net"),
    [
        (method.local_sgd(), "small"),
        pytest.param(method.resist(2), "blocks", marks=pytest.mark.slow),
    ],
    ids=["local_sgd", "resist"],
)
def test_the_same_bits_on_any_number_of_devices_saved_and_resumed_on_another(how, net, tmp_path):
    params, _, _, batches = nets.net(net)
    straight, kept = None, Checkpoints(tmp_path)
    given = batches(4, 4, 2)
    for devices, then in ((1, 1), (2, 4), (4, 2)):
        make = lambda count: nets.trainer(
            net,
            how,
            4,
            optax.sgd(0.05),
            mesh=placement.mesh(4, count),
            exact=True,
            code=CODE,
        )
        trainer = make(devices)
        state = trainer.init(params, jax.random.key(3))
        for batch, here in zip(given[:2], (None, ABSENT), strict=True):
            state, _ = trainer.round(state, batch, here)
        kept.save(trainer.unsharded(state), {}, wait=True)
        kept.close()
        trainer = make(then)
        about = kept.check(2)
        state = trainer.resume(kept.restore(about, trainer.shapes))
        for batch in given[2:]:
            state, _ = trainer.round(state, batch)
        found = on_host(trainer.whole(state))
        assert found.errors
        assert all(np.asarray(error).any() for error in found.errors.values())
        straight = straight or found
        assert same_bits(found, straight)
        kept.delete()


def test_only_leaves_that_all_workers_share_have_errors():
    assert not trainer_of(PARAMS, NAMES, method.ist(), S, code=CODE).shapes.errors
    trainer = nets.trainer("blocks", method.resist(2), 4, optax.sgd(0.1), code=CODE)
    leaves = trainer.plan.net.leaves
    whole = [leaf for leaf in leaves if not leaf.cut_axes(trainer.plan.slots)]
    assert [e.shape for e in trainer.shapes.errors.values()] == [(4, *w.shape) for w in whole]
    assert "params.stem.kernel" in trainer.shapes.errors
    assert 0 < len(whole) < len(leaves)


def test_other_workers_begin_without_errors_and_a_net_without_a_code_goes_on_from_one_with_it(
    tmp_path,
):
    trainer = trainer_of(PARAMS, NAMES, method.local_sgd(), S, code=CODE)
    state, _ = trainer.round(trainer.init(PARAMS, jax.random.key(3)), BATCHES[0])
    kept = Checkpoints(tmp_path)
    kept.save(trainer.unsharded(state), {}, wait=True)
    about = kept.check(1)
    assert {path for path in about["leaves"] if path.startswith("errors.")} == {
        f"errors.{name}" for name in PARAMS
    }
    for workers, code, left in ((2, CODE, len(PARAMS)), (S, None, 0), (S, CODE, len(PARAMS))):
        other = trainer_of(PARAMS, NAMES, method.local_sgd(), workers, code=code)
        for saved in (kept.restore(about, other.shapes), trainer.unsharded(state)):
            resumed = other.resume(saved)
            assert len(resumed.errors) == left
            for name, error in resumed.errors.items():
                if workers == S:
                    assert same_bits(error, trainer.whole(state).errors[name])
                else:
                    assert error.shape == (2, *PARAMS[name].shape)
                    assert not np.asarray(error).any()
            assert same_bits(other.whole(resumed).params, trainer.whole(state).params)
    kept.close()


def test_a_worker_that_is_left_out_keeps_what_it_remembered():
    options = {"code": CODE, "on_nonfinite": "drop"}
    trainer = trainer_of(PARAMS, NAMES, method.local_sgd(), S, **options)
    state, _ = trainer.round(trainer.init(PARAMS, jax.random.key(3)), BATCHES[0])
    before = trainer.whole(state)
    spoilt = jax.tree.map(np.array, BATCHES[1])
    spoilt["x"][1] = np.nan
    state, _ = trainer.round(state, spoilt)
    after = trainer.whole(state)
    for name in PARAMS:
        assert np.isfinite(after.params[name]).all()
        assert same_bits(after.errors[name][1], before.errors[name][1])
        assert not same_bits(after.errors[name][0], before.errors[name][0])


def test_gradients_of_every_step_have_no_feedback():
    with pytest.raises(InputError, match="sends its gradients in 4 bits without it"):
        trainer_of(PARAMS, NAMES, method.data_parallel(), S, code=CODE)
