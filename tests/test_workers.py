"""S workers on D devices: the same bits for every D."""

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits

import ist_jax
from ist_jax import decompose, local, method, partition
from ist_jax.core.errors import InputError
from ist_jax.sharded import placement

DIMS = (6, 16, 8, 3)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("how", "net", "devices"),
    [
        (method.ist(), "small", (2, 4, 8)),
        (method.ist(partition.balanced), "small", (8,)),
        (method.ist(), "recurrent", (4,)),
        (method.local_sgd(), "recurrent", (2, 8)),
        (method.data_parallel(), "recurrent", (4, 8)),
        (method.resist(2), "blocks", (4,)),
        pytest.param(method.loft(), "filters", (4,), marks=pytest.mark.slow),
        pytest.param(method.ist(), "gcn", (4,), marks=pytest.mark.slow),
        (method.ist(), "sage", (4,)),
        (method.ist(), "gat", (4,)),
        pytest.param(method.ensemble(), "small", (4,), marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_same_bits_on_1_2_4_and_8_devices(how, net, devices):
    params, _, _, batches = nets.net(net)
    states = []
    for count in (None, *devices):
        trainer = nets.trainer(
            net,
            how,
            8,
            optax.adam(1e-2),
            optimizer_state="keep",
            mesh=count and placement.mesh(8, count),
            exact=net != "small",  # where every leaf is cut, there is nothing to add up
        )
        state = trainer.init(params, jax.random.key(0))
        for batch in batches(3, 8, 2):
            state, report = trainer.round(state, batch, np.arange(8) != 3)
        states.append((trainer.whole(state)[:2], np.asarray(report.loss)))
    for other in states[1:]:
        assert same_bits(states[0], other)


def spread_out(train, mesh):
    split = placement.SPLIT
    return jax.jit(
        placement.shard_map(placement.each(train), mesh=mesh, in_specs=split, out_specs=split)
    )


def test_workers_differ_between_exchanges():
    """Local SGD on a mesh must not turn into synchronous SGD."""
    params, names = mlp_tree(DIMS)
    mesh = placement.mesh(8, 8)
    nets = decompose.gather(params, names, {}, 8)
    (batch,) = regression_batches(1, 8, 3, 8, 6, 3)
    optimizer = optax.sgd(0.1)

    def train(net, batches, key):
        return local.train(
            jax.value_and_grad(mlp_loss), optimizer, net, optimizer.init(net), batches, key
        )[0]

    keys = jax.random.split(jax.random.key(1), 8)
    arguments = placement.place((nets, batch, keys), mesh, placement.SPLIT)
    trained = spread_out(train, mesh)(*arguments)
    for one in range(8):
        for other in range(one):
            assert (trained["w0"][one] != trained["w0"][other]).any()
    alone = train(params, jax.tree.map(lambda b: b[5], batch), keys[5])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[5], b, rtol=1e-5, atol=1e-6), trained, alone
    )


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("how", [method.data_parallel(), method.local_sgd()], ids=lambda m: m.name)
def test_a_mean_over_all_workers_is_a_mean_and_not_a_sum(how, exact):
    """One step of plain SGD: both methods take it along the mean of the workers' gradients."""
    params, names = mlp_tree(DIMS)
    (batch,) = regression_batches(1, 8, 1, 8, 6, 3)
    trainer = ist_jax.build(
        mlp_loss,
        optax.sgd(0.1),
        params,
        names,
        method=how,
        workers=8,
        mesh=placement.mesh(8, 4),
        exact=exact,
    )
    present = np.arange(8) != 5
    state, _ = trainer.round(trainer.init(params, jax.random.key(0)), batch, present)
    each = [
        jax.grad(mlp_loss)(params, jax.tree.map(lambda b, w=w: b[w, 0], batch), None)
        for w in range(8)
        if present[w]
    ]
    expected = jax.tree.map(lambda p, *g: p - 0.1 * sum(g) / 7, params, *each)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        trainer.whole(state).params,
        expected,
    )


@pytest.mark.parametrize("how", [method.ist(), method.data_parallel()], ids=lambda m: m.name)
def test_a_group_of_devices_trains_a_worker_on_parts_of_its_batch(how):
    """2 groups of 2 devices are 2 workers with whole batches, but for the order of sums."""
    params, names = mlp_tree(DIMS)
    batches = regression_batches(3, 4, 3, 8, 6, 3)
    found = []
    for mesh in (None, placement.mesh(4, 4, data=2)):
        trainer = ist_jax.build(
            mlp_loss, optax.sgd(0.1), params, names, method=how, workers=4, mesh=mesh
        )
        state = trainer.init(params, jax.random.key(0))
        for batch in batches:
            state, report = trainer.round(state, batch)
        found.append((trainer.whole(state).params, report.loss))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[0], found[1]
    )


def test_devices_of_a_group_drop_out_neurons_of_their_own():
    """Or their mean would be that of a single device."""
    params, names = {"w": jnp.zeros((4, 3))}, {"w": ("h", None)}
    noise = lambda net, batch, key: jnp.sum(net["w"] * jax.random.normal(key, net["w"].shape))
    batch = np.zeros((1, 1, 2, 1), np.float32)
    found = []
    for data in (1, 2):
        mesh = placement.mesh(1, data, data=data)
        trainer = ist_jax.build(
            noise, optax.sgd(1.0), params, names, method=method.single(), workers=1, mesh=mesh
        )
        state, _ = trainer.round(trainer.init(params, jax.random.key(0)), {"x": batch})
        found.append(np.asarray(trainer.whole(state).params["w"]))
    assert not np.isclose(*found).any()
    assert found[1].any()


@pytest.mark.optimized
@pytest.mark.parametrize("how", [method.ist(), method.local_sgd()], ids=lambda m: m.name)
def test_what_all_devices_have_is_the_same_in_all(how):
    params, names, loss_of, _ = nets.recurrent()
    params["b"], names["b"] = jnp.ones(3), (None,)
    loss = lambda net, batch, key: loss_of({})(net, batch, key) + jnp.sum(net["b"] ** 2)
    (batch,) = regression_batches(1, 8, 2, 8, 6, 3)
    mesh = placement.mesh(8, 4)
    trainer = ist_jax.build(loss, optax.adam(1e-2), params, names, method=how, workers=8, mesh=mesh)
    state, report = trainer.round(trainer.init(params, jax.random.key(0)), batch)
    everywhere = [state.params["b"], state.round, *state.assignment.values(), report.loss]
    for leaf in everywhere:
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(others) == 3
        assert all(shard.tobytes() == first.tobytes() for shard in others)


def test_bad_meshes():
    with pytest.raises(InputError, match="6 workers cannot be dealt out evenly to 4 devices"):
        placement.mesh(6, 4)
    with pytest.raises(InputError, match="asked for 99 devices, there are 8"):
        placement.mesh(99, 99)
    with pytest.raises(InputError, match="for 4 workers would leave some without"):
        placement.mesh(4, 8)
    with pytest.raises(InputError, match="8 devices cannot be grouped by 3"):
        placement.mesh(8, 8, data=3)
    params, names = mlp_tree((6, 12, 3))
    with pytest.raises(InputError, match="made for another number of workers: 4 devices do not"):
        ist_jax.build(
            mlp_loss,
            optax.sgd(0.1),
            params,
            names,
            method=method.ist(),
            workers=6,
            mesh=placement.mesh(4, 4),
        )
