"""The parts of a round, each called alone: no ``build``, no mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits

import ist_jax
from ist_jax import decompose, method, one_round, plan
from ist_jax.core.keys import fold
from ist_jax.one_round import Learner
from ist_jax.optimizer_state.carry import Memory
from ist_jax.sharded.state import State

DIMS, S, J = (6, 12, 8, 3), 4, 3
PARAMS, NAMES = mlp_tree(DIMS)
KEY = jax.random.key(5)


def made(how, optimizer=None, **changes):
    options = {
        "optimizer_state": "keep",
        "mesh": None,
        "exact": False,
        "message_bytes": None,
        "on_nonfinite": "raise",
        "external": None,
        "code": None,
        "example": None,
    }
    optimizer = optimizer or optax.sgd(0.1, momentum=0.9)
    return plan.make(mlp_loss, optimizer, PARAMS, NAMES, method=how, workers=S, **options | changes)


def learner(of, loss=mlp_loss):
    gradient = one_round.gradient_of(loss, of.mesh, of.net.widths, None)
    return Learner(gradient, of.optimizer, of.memory)


def close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def by_hand(net, optimizer, batches, key):
    """J steps of plain optax; the net, the optimizer's state and the losses."""
    state, losses = optimizer.init(net), []
    for step in range(J):
        batch = jax.tree.map(lambda leaf, step=step: leaf[step], batches)
        loss, gradient = jax.value_and_grad(mlp_loss)(net, batch, fold(key, step))
        updates, state = optimizer.update(gradient, state, net)
        net = optax.apply_updates(net, updates)
        losses.append(loss)
    return net, state, jnp.stack(losses)


def test_a_plan_knows_the_shapes_of_a_subnet_and_what_travels_with_its_neurons():
    known = made(method.ist())
    assert known.slots == {"h0": 3, "h1": 2}
    assert [leaf.shape for leaf in known.subnet.leaves] == [(6, 3), (3, 2), (2, 3)]
    assert len(known.layout.leaves) == 3
    assert len(known.carried_layout.leaves) == 6, "a moment beside each parameter"
    assert not known.synchronous
    assert made(method.data_parallel()).synchronous


def test_a_worker_takes_its_steps_alone():
    optimizer = optax.adam(1e-2)
    [batches] = regression_batches(1, 1, J, 8, 6, 3)
    mine = jax.tree.map(lambda leaf: leaf[0], batches)
    gradient = lambda net, batch, key: jax.value_and_grad(mlp_loss)(net, batch[0], key)
    alone = Learner(gradient, optimizer, Memory(optimizer, "keep"))
    found = one_round.train_one(alone, PARAMS, optimizer.init(PARAMS), mine, KEY, {})
    close(found, by_hand(PARAMS, optimizer, mine, KEY))
    reset = alone._replace(memory=Memory(optimizer, "reset"))
    _, carried, _ = one_round.train_one(reset, PARAMS, optimizer.init(PARAMS), mine, KEY, {})
    assert not jax.tree.leaves(carried), "moments are not carried"


def test_subnets_are_gathered_trained_and_put_back():
    known = made(method.ist())
    [batches] = regression_batches(1, S, J, 8, 6, 3)
    assignment, following = (known.draw(KEY, number) for number in (0, 1))
    carried = PARAMS, known.optimizer.init(PARAMS), ()
    present = jnp.arange(S) != 2
    found, losses, chunks, _ = one_round.train_locally(
        known.carried_layout,
        learner(known),
        carried,
        {},
        batches,
        KEY,
        assignment,
        following,
        present,
        False,
    )
    nets = decompose.gather(PARAMS, NAMES, assignment)
    trained = [
        by_hand(
            jax.tree.map(lambda leaf, worker=worker: leaf[worker], nets),
            known.optimizer,
            jax.tree.map(lambda leaf, worker=worker: leaf[worker], batches),
            fold(KEY, worker),
        )
        for worker in range(S)
    ]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[net for net, _, _ in trained])
    close(found[0], decompose.scatter(PARAMS, together, NAMES, assignment, present))
    assert (losses.shape, chunks) == ((S, J), {})
    close(losses, jnp.stack([own for _, _, own in trained]))


def test_the_mean_gradient_of_a_step_is_that_of_all_who_take_part():
    known = made(method.data_parallel())
    [batches] = regression_batches(1, S, 1, 8, 6, 3)
    step = jax.tree.map(lambda leaf: leaf[:, 0], batches)
    present = jnp.arange(S) != 1
    gradient = learner(known).gradient
    losses, mean = one_round.mean_gradient(
        known.carried_layout, gradient, {}, present, False, PARAMS, (step, {}), KEY
    )
    each = [
        jax.value_and_grad(mlp_loss)(PARAMS, jax.tree.map(lambda leaf, n=n: leaf[n], step), None)
        for n in range(S)
    ]
    close(losses, jnp.stack([loss for loss, _ in each]))
    close(mean, jax.tree.map(lambda *g: sum(g) / 3, *[each[n][1] for n in (0, 2, 3)]))


def test_all_workers_train_one_net_and_none_if_none_takes_part():
    decaying = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    known = made(method.data_parallel(), decaying)
    [batches] = regression_batches(1, S, J, 8, 6, 3)
    carried = PARAMS, known.memory.carry(known.optimizer.init(PARAMS))
    run = lambda present: one_round.train_synchronously(
        known.carried_layout, learner(known), carried, batches, KEY, {}, present, False
    )
    (net, _), losses = run(None)
    # The mean gradient of equal batches is that of one long batch.
    long = jax.tree.map(lambda leaf: np.concatenate(list(leaf), axis=1), batches)
    close(net, by_hand(PARAMS, known.optimizer, long, KEY)[0])
    assert losses.shape == (S, J)
    assert same_bits(run(jnp.zeros(S, bool))[0][0], PARAMS)


def test_a_worker_with_a_number_that_is_not_finite_does_not_take_part():
    known = made(method.ist())
    tree = {"w": jnp.ones((S, 2)).at[2, 1].set(jnp.inf)}
    losses, present = one_round.without_nonfinite(
        known.carried_layout, tree, jnp.ones((S, J)).at[0, 0].set(jnp.nan), jnp.ones(S, bool)
    )
    assert present.tolist() == [False, True, False, True]
    assert np.isnan(losses).all(axis=1).tolist() == [True, False, True, False]


def test_a_loss_sees_what_is_common_only_where_something_is():
    known, seen = made(method.ist()), []

    def loss(net, batch, key):
        seen.append(batch)
        return jnp.sum(net["w0"]) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(batch))

    batch, neurons = {"x": jnp.ones(3)}, {"h0": jnp.array([0, 12])}
    for common, keys in ((None, ["x"]), (jnp.ones(2), ["common", "held", "neurons", "x"])):
        gradient = one_round.gradient_of(loss, known.mesh, known.net.widths, common)
        gradient(PARAMS, (batch, neurons), KEY)
        assert sorted(seen[-1]) == keys
    assert seen[-1]["held"]["h0"].tolist() == [True, False], "12 marks an empty slot"


@pytest.mark.parametrize("how", [method.ist(), method.data_parallel()], ids=lambda m: m.name)
def test_a_whole_round_on_a_device_is_what_the_trainer_runs(how):
    known = made(how)
    [batches] = regression_batches(1, S, J, 8, 6, 3)
    trainer = ist_jax.build(
        mlp_loss,
        known.optimizer,
        PARAMS,
        NAMES,
        method=how,
        workers=S,
        optimizer_state="keep",
    )
    begin = trainer.init(PARAMS, KEY)
    state = State(*jax.tree.map(jnp.copy, tuple(begin)))
    found, losses, _, held = one_round.on_device(known, state, batches, None, {}, None)
    wanted, report = trainer.round(begin, batches)
    close((found.params, found.opt_state, losses), (wanted.params, wanted.opt_state, report.loss))
    assert same_bits(dict(found.assignment), dict(wanted.assignment))
    assert same_bits(dict(found.assignment), dict(known.draw(KEY, 1))), "the next round's"
    assert (int(found.round), held) == (1, {})
