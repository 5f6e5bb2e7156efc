"""S workers on D devices: the same bits for every D, and a local phase without a word."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits

from ist_jax import decompose, local, method, partition, round, workers
from ist_jax.errors import InputError

COLLECTIVES = (
    r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
)
DIMS = (6, 16, 8, 3)


def recurrent_loss(params, batch, key):
    """A scan that starts from zeros, and dropout: what a stranger's model may do."""

    def step(hidden, x):
        return jnp.tanh(x @ params["u"] + hidden @ params["w"]), None

    start = jnp.zeros((batch["x"].shape[0], params["w"].shape[0]))
    hidden, _ = jax.lax.scan(step, start, batch["x"].reshape(8, 2, 3).swapaxes(0, 1))
    hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape)
    return jnp.mean(jnp.square(hidden @ params["v"] - batch["y"]))


def recurrent_tree():
    draw = np.random.default_rng(0)
    shapes = {"u": (3, 16), "w": (16, 16), "v": (16, 3)}
    params = {k: jnp.asarray(draw.normal(size=s) / 4, jnp.float32) for k, s in shapes.items()}
    return params, {"u": (None, "h"), "w": ("h", "h"), "v": ("h", None)}


@pytest.mark.parametrize(
    "how",
    [method.ist(), method.local_sgd(), method.data_parallel(), method.ensemble()],
    ids=lambda m: m.name,
)
@pytest.mark.parametrize("net", ["mlp", "recurrent"])
def test_the_same_bits_on_1_2_4_and_8_devices(how, net):
    params, names = mlp_tree(DIMS) if net == "mlp" else recurrent_tree()
    loss = mlp_loss if net == "mlp" else recurrent_loss
    batches = regression_batches(3, 8, 2, 8, 6, 3)
    states = []
    for devices in (None, 1, 2, 4, 8):
        mesh = devices and workers.mesh(8, devices)
        trainer = round.build(
            loss,
            optax.adam(1e-2),
            params,
            names,
            method=how,
            workers=8,
            optimiser_state="keep",
            mesh=mesh,
        )
        state = trainer.init(params, jax.random.key(0))
        for batch in batches:
            state, report = trainer.round(state, batch, np.arange(8) != 3)
        states.append((state.params, state.opt_state, np.asarray(report.loss)))
    for other in states[1:]:
        assert same_bits(states[0], other)


def local_phase(mesh, size=8):
    """The local phase alone, spread over the mesh, and what it is applied to."""
    params, names = mlp_tree(DIMS)
    who = partition.permutation(jax.random.key(0), {"h0": 16, "h1": 8}, size)
    nets = decompose.gather(params, names, who)
    (batch,) = regression_batches(1, size, 3, 8, 6, 3)
    optimizer = optax.sgd(0.1)

    def train(net, batches, key):
        opt_state = optimizer.init(net)
        gradient = jax.value_and_grad(mlp_loss)
        return local.train(gradient, optimizer, net, opt_state, batches, key)[0]

    keys = jax.random.split(jax.random.key(1), size)
    arguments = workers.place((nets, batch, keys), mesh, split=True)
    return jax.jit(workers.each(train, mesh)), arguments


@pytest.mark.parametrize("devices", [2, 8])
def test_the_compiled_local_phase_holds_no_collective(devices):
    train, arguments = local_phase(workers.mesh(8, devices))
    program = train.lower(*arguments).compile().as_text()
    assert "while" in program, "this is the program we mean"
    assert not re.findall(COLLECTIVES, program)


def test_the_search_for_collectives_finds_them():
    """The test above can fail: a mean over workers shows up."""
    mesh = workers.mesh(8, 8)
    x = workers.place(jnp.ones((8, 4)), mesh, split=True)
    program = jax.jit(lambda x: x.mean(axis=0)).lower(x).compile().as_text()
    assert re.findall(COLLECTIVES, program)


def test_workers_differ_between_exchanges():
    """Local SGD on a mesh must not turn into synchronous SGD."""
    params, names = mlp_tree(DIMS)
    mesh = workers.mesh(8, 8)
    nets = decompose.gather(params, names, {}, 8)
    (batch,) = regression_batches(1, 8, 3, 8, 6, 3)
    optimizer = optax.sgd(0.1)

    def train(net, batches, key):
        return local.train(
            jax.value_and_grad(mlp_loss), optimizer, net, optimizer.init(net), batches, key
        )[0]

    keys = jax.random.split(jax.random.key(1), 8)
    arguments = workers.place((nets, batch, keys), mesh, split=True)
    trained = jax.jit(workers.each(train, mesh))(*arguments)
    for one in range(8):
        for other in range(one):
            assert (trained["w0"][one] != trained["w0"][other]).any()
    alone = train(params, jax.tree.map(lambda b: b[5], batch), keys[5])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[5], b, rtol=1e-5, atol=1e-6), trained, alone
    )


def test_the_gradient_of_synchronous_workers_is_a_mean_and_not_a_sum():
    params, _ = mlp_tree(DIMS)
    (batch,) = regression_batches(1, 8, 1, 8, 6, 3)
    batch = jax.tree.map(lambda b: b[:, 0], batch)
    mesh = workers.mesh(8, 4)
    gradient = workers.together(jax.value_and_grad(mlp_loss), jnp.ones(8, bool), mesh)
    _, got = jax.jit(gradient)(params, batch, jax.random.key(0))
    each = [
        jax.grad(mlp_loss)(params, jax.tree.map(lambda b, w=w: b[w], batch), None) for w in range(8)
    ]
    mean = jax.tree.map(lambda *g: sum(g) / 8, *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, mean)


def test_bad_meshes():
    with pytest.raises(InputError, match="6 workers cannot be dealt out evenly to 4 devices"):
        workers.mesh(6, 4)
    with pytest.raises(InputError, match="asked for 99 devices, this process has 8"):
        workers.mesh(99, 99)
