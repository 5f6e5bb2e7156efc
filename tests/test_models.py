"""Not only MLPs: a convolutional net, Flax NNX, and a raw tree, all through one round."""

import functools
import importlib
import inspect
import subprocess
import sys

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT, mlp_loss, mlp_tree, regression_batches, same_bits
from flax import linen

import ist_jax
from ist_jax import axes, decompose, method, partition
from ist_jax.core.errors import InputError
from ist_jax.models import nnx as nnx_models
from ist_jax.models import normalise
from ist_jax.models.cnn import CNN
from ist_jax.models.mlp import MLP
from ist_jax.tasks import classification

SPEECH = [
    # widths, workers, parameters of the net, of a subnet (facts of the paper's speech nets)
    ({"hidden0": 4096}, 2, 16_928_768, 16_928_768 // 2),
    ({"hidden0": 4096}, 8, 16_928_768, 16_928_768 // 8),
    ({"hidden0": 4096, "hidden1": 4096}, 2, 33_714_176, 12_662_784),
    ({"hidden0": 4096, "hidden1": 4096}, 4, 33_714_176, 5_282_816),
    ({"hidden0": 4096, "hidden1": 4096}, 8, 33_714_176, 2_379_264),
]


@pytest.mark.parametrize(("widths", "workers", "whole", "subnet"), SPEECH)
def test_parameter_counts_of_the_papers_speech_nets(widths, workers, whole, subnet):
    """Oracle 2, counted on shapes and again by the closed form of traffic.py."""
    from ist_jax.cost import traffic

    model = MLP(widths, classes=35)
    init = lambda m: axes.of(
        jax.eval_shape(lambda k: m.init(k, jnp.ones((1, 4096)), train=True), jax.random.key(0))
    )
    params, names = init(model)
    cut = partition.sub_widths(partition.permutation, widths, workers)
    narrow, _ = init(normalise.subnet(model, cut))
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert size(params) == whole
    assert size(narrow) == subnet
    net = axes.describe(params, names)
    assert (traffic.entries(net, traffic.neurons_held(net, method.ist(), workers)) == subnet).all()


def cnn():
    return CNN({"filters0": 8, "filters1": 12, "hidden0": 16}, classes=3)


def test_a_convolutional_subnet_is_the_net_with_the_other_units_silenced(key):
    """Zeroing what a worker does not hold gives the logits of its subnet (policy none)."""
    model = cnn().clone(normalise="none")
    x = jax.random.normal(key, (4, 8, 8, 1))
    params, names = axes.of(jax.jit(functools.partial(model.init, train=True))(key, x))
    assert names["params"]["hidden0"]["kernel"] == (None, None, "filters1", "hidden0")
    widths = axes.widths(params, names)
    assert widths == dict(model.widths)
    who = partition.permutation(key, widths, 4)
    sub = normalise.subnet(model, partition.sub_widths(partition.permutation, widths, 4))
    zeros = jax.tree.map(jnp.zeros_like, params)
    nets = jax.jit(lambda params: decompose.gather(params, names, who))(params)
    silence = jax.jit(lambda alone: decompose.scatter(zeros, nets, names, who, alone))
    whole_logits, sub_logits = (
        jax.jit(functools.partial(net.apply, train=True)) for net in (model, sub)
    )
    for worker in range(4):
        alone = jnp.arange(4) == worker
        silenced = silence(alone)
        mine = jax.tree.map(lambda leaf, w=worker: leaf[w], nets)
        np.testing.assert_allclose(
            sub_logits(mine, x), whole_logits(silenced, x), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("how", [method.ist(), method.data_parallel()], ids=lambda m: m.name)
def test_a_convolutional_net_learns(how, key):
    """Bright upper, lower or left half of noisy images; 3 does not divide the widths."""
    draw = np.random.default_rng(0)
    y = draw.integers(3, size=600).astype(np.int32)
    x = draw.normal(size=(600, 8, 8, 1)).astype(np.float32)
    x[y == 0, :4] += 1
    x[y == 1, 4:] += 1
    x[y == 2, :, :4] += 1
    model = cnn()
    params, names = axes.of(jax.jit(functools.partial(model.init, train=True))(key, x[:2]))
    cut = partition.sub_widths(how.draw, axes.widths(params, names), 3)
    loss = classification.cross_entropy(normalise.subnet(model, cut))
    trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=how, workers=3)
    state = trainer.init(params, key)
    for _ in range(12):
        chosen = draw.integers(400, size=(3, 4, 32))
        state, _ = trainer.round(state, {"x": x[chosen], "y": y[chosen]})
    assert classification.accuracy(model, x[:400])(state.params, x[400:], y[400:]) > 0.95


class Net(nnx.Module):
    def __init__(self, rngs):
        init, zeros = nnx.initializers.lecun_normal(), nnx.initializers.zeros
        named = nnx.with_partitioning
        self.up = nnx.Linear(
            6, 12, kernel_init=named(init, (None, "h")), bias_init=named(zeros, ("h",)), rngs=rngs
        )
        self.down = nnx.Linear(12, 3, kernel_init=named(init, ("h", None)), rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.relu(self.up(x)))


def test_an_nnx_module_trains_like_the_same_raw_tree(key):
    with nnx.use_eager_sharding(False):
        model = Net(nnx.Rngs(0))
    params, names, merge = nnx_models.split(model)
    assert names["up"] == {"bias": ("h",), "kernel": (None, "h")}
    assert names["down"] == {"bias": (None,), "kernel": ("h", None)}
    x = np.ones((2, 6), np.float32)
    np.testing.assert_allclose(merge(params)(x), model(x))

    def with_nnx(net, batch, key):
        return jnp.mean(jnp.square(merge(net)(batch["x"]) - batch["y"]))

    def with_arrays(net, batch, key):
        h = jax.nn.relu(batch["x"] @ net["up"]["kernel"] + net["up"]["bias"])
        return jnp.mean(jnp.square(h @ net["down"]["kernel"] + net["down"]["bias"] - batch["y"]))

    results = []
    for loss in (with_nnx, with_arrays):
        trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=method.ist(), workers=4)
        state = trainer.init(params, key)
        for batch in regression_batches(3, 4, 2, 8, 6, 3):
            state, _report = trainer.round(state, batch)
        results.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)
    assert not same_bits(results[0], params)
    assert merge(results[0])(x).shape == (2, 3)


def test_nnx_running_statistics_are_refused():
    class WithStatistics(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, rngs=rngs)

    with pytest.raises(InputError, match="state that is not a parameter: norm/mean"):
        nnx_models.split(WithStatistics(nnx.Rngs(0)))


def test_a_raw_tree_learns_without_flax(key):
    """A teacher net is fitted: the loss of the whole net falls by more than half."""
    params, names = mlp_tree((6, 32, 32, 3))
    teacher, _ = mlp_tree((6, 5, 3), seed=5)

    def target(x):
        return np.asarray(jax.nn.relu(x @ teacher["w0"]) @ teacher["w1"])

    draw = np.random.default_rng(0)
    trainer = ist_jax.build(mlp_loss, optax.sgd(0.1), params, names, method=method.ist(), workers=4)
    state = trainer.init(params, key)
    first = last = None
    for _ in range(40):
        x = draw.normal(size=(4, 5, 32, 6)).astype(np.float32)
        state, report = trainer.round(state, {"x": x, "y": target(x)})
        first, last = first or float(report.loss.mean()), float(report.loss.mean())
    assert last < first / 2


@pytest.mark.parametrize(
    "module", ["augment", "cnn", "ensemble", "gcn", "mlp", "resnet", "vgg", "xmc"]
)
def test_a_net_that_is_not_told_whether_it_trains_does_not_answer(module):
    """In training the answer for an example is that of its batch: alone, it would say little."""
    found = vars(importlib.import_module(f"ist_jax.models.{module}")).values()
    nets = [net for net in found if inspect.isclass(net) and issubclass(net, linen.Module)]
    told = [inspect.signature(net.__call__).parameters.get("train") for net in nets]
    told = [train for train in told if train is not None]  # a convolution has no use for it
    assert told
    for train in told:
        assert (train.kind, train.default) == (train.KEYWORD_ONLY, train.empty)


def test_what_is_missing_is_named_where_a_net_is_not_told_whether_it_trains():
    """In a process of its own: here annotations are checked, and speak first."""
    code = (
        "import jax, numpy as np\n"
        "from ist_jax.models.mlp import MLP\n"
        "model, x = MLP({'hidden0': 8}, 3), np.ones((1, 4), np.float32)\n"
        "params = model.init(jax.random.key(0), x, train=True)\n"
        "for call in (model.apply, jax.jit(model.apply)):\n"
        "    try:\n"
        "        call(params, x)\n"
        "    except TypeError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    missing = "MLP.__call__() missing 1 required keyword-only argument: 'train'"
    assert done.stdout.splitlines() == [missing] * 2, done.stderr
