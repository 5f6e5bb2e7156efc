"""VGG and ResNet: convolutions that all workers share, dense layers that are cut."""

import functools
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT, drawn, on_host, same_bits

import ist_jax
from benchmarks import imagenet_head
from ist_jax import axes, decompose, method, partition
from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.augment import CropAndFlip
from ist_jax.models.convolution import Convolution
from ist_jax.models.resnet import ResNet
from ist_jax.models.vgg import VGG
from ist_jax.tasks import classification

SMALL = {
    "vgg": VGG({"hidden0": 8, "hidden1": 6}, 3, stages=((4,), (6, 6))),
    "resnet": ResNet({"hidden0": 8}, 3, blocks=(1, 1), base=4),
}
X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)


@functools.cache
def net(name):
    model = SMALL[name]
    return model, *drawn(model, X)


def shapes_of(model, shape=X.shape):
    return axes.of(
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones(shape), train=True))
    )[0]


def conv_parameters(stages, channels):
    """3x3 kernels, and a scale and a shift for each filter."""
    total = 0
    for filters in (f for stage in stages for f in stage):
        total += 9 * channels * filters + 2 * filters
        channels = filters
    return total, channels


def count(model, shape):
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of(model, shape)))


def test_parameters_of_vgg12_on_full_imagenet():
    """Twelve layers with weights; the dense part, which is cut, has 95 % of the parameters."""
    model = VGG({"hidden0": 4096, "hidden1": 4096}, 21_841)
    stages = (64,), (128,), (256, 256), (512, 512), (512, 512, 512)
    assert tuple(model.stages) == stages
    assert sum(map(len, stages)) + 3 == 12
    convolutions, filters = conv_parameters(stages, 3)
    dense = 7 * 7 * filters * 4096 + 4096 * 4096 + 4096 * 21_841 + 4 * 4096
    assert count(model, (1, 224, 224, 3)) == convolutions + dense
    assert dense / (convolutions + dense) == pytest.approx(0.947, abs=5e-4)


def test_parameters_of_resnet18():
    """The published net for CIFAR10 has 11,173,962, with 512 x 10 + 10 in place of our head."""
    total = count(ResNet({"hidden0": 4096}, 10), (1, 32, 32, 3))
    head = 512 * 4096 + 2 * 4096 + 4096 * 10
    assert total - head == 11_173_962 - (512 * 10 + 10)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 8)])
def test_a_convolution_is_that_of_flax(size, stride, shape):
    """Values, initial ones too, and both gradients."""
    x = np.random.default_rng(2).normal(size=(2, *shape, 3)).astype(np.float32)
    ours = Convolution(5, size, stride)
    theirs = nn.Conv(5, (size, size), (stride, stride), use_bias=False)
    params = theirs.init(jax.random.key(0), x)
    assert same_bits(on_host(axes.of(ours.init(jax.random.key(0), x))[0]), on_host(params))

    def values_and_gradients(model):
        def total(params, x):
            y = model.apply(params, x)
            return jnp.sum(y**2), y

        return jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, x)

    both = map(jax.tree.leaves, map(values_and_gradients, (ours, theirs)))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_convolution_is_a_product_on_cpu_alone():
    """XLA's gradients of convolutions are slow in a loop there."""
    model = Convolution(5)
    params, _ = axes.of(model.init(jax.random.key(0), X))
    gradient = jax.jit(jax.grad(lambda params: model.apply(params, X).sum())).trace(params)
    text = {p: gradient.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    convolves = {platform: "stablehlo.convolution" in of_it for platform, of_it in text.items()}
    assert convolves == {"cpu": False, "cuda": True, "tpu": True}


@pytest.mark.parametrize("name", SMALL)
def test_only_the_dense_part_is_named(name):
    model, params, names = net(name)
    for path, _, of_leaf in axes.walk(params, names):
        dense = "head" in path and "norm_logits" not in path
        assert any(of_leaf) == dense, path
    assert axes.widths(params, names) == dict(model.widths)


@pytest.mark.parametrize("name", SMALL)
def test_a_subnet_is_the_narrower_model_and_comes_back_the_same(name):
    model, params, names = net(name)
    who = partition.permutation(jax.random.key(2), dict(model.widths), 2)
    nets = decompose.gather(params, names, who)
    narrow = normalise.subnet(model, {group: n // 2 for group, n in model.widths.items()})
    one = jax.tree.map(lambda leaf: leaf[1], nets)
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, shapes_of(narrow))
    assert jax.eval_shape(lambda: narrow.apply(one, X, train=True)).shape == (6, 3)
    back = decompose.scatter(params, nets, names, who)
    assert same_bits(on_host(back), on_host(params))  # the mean of two equal copies is exact


@pytest.mark.parametrize("name", SMALL)
def test_a_round_averages_convolutions_and_exchanges_neurons(name):
    model, params, names = net(name)
    cut = {group: n // 2 for group, n in model.widths.items()}
    loss = classification.cross_entropy(normalise.subnet(model, cut))
    trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=method.ist(), workers=2)
    state = trainer.init(params, jax.random.key(3))
    who, key = on_host(state.assignment), state.key
    draw = np.random.default_rng(1)
    batches = {
        "x": draw.normal(size=(2, 3, 6, 8, 8, 1)).astype(np.float32),
        "y": draw.integers(0, 3, (2, 3, 6)).astype(np.int32),
    }
    state, report = trainer.round(state, batches)
    apart = []
    slope_of = jax.jit(jax.grad(loss))
    for worker in range(2):  # by hand: each trains its subnet alone
        mine = decompose.gather_one(params, names, who, worker)
        for step in range(3):
            batch = jax.tree.map(lambda leaf, w=worker, s=step: leaf[w, s], batches)
            slope = slope_of(mine, batch, key)
            mine = jax.tree.map(lambda a, b: a - 0.1 * b, mine, slope)
        apart.append(mine)
    new = on_host(trainer.whole(state)).params
    for (path, leaf, of_leaf), ours in zip(
        axes.walk(params, names), jax.tree.leaves(new), strict=True
    ):
        pieces = [{p: x for p, x, _ in axes.walk(net, names)}[path] for net in apart]
        expected = np.array(leaf)
        if not any(of_leaf):
            expected = (np.asarray(pieces[0]) + np.asarray(pieces[1])) / 2
        for worker, piece in enumerate(pieces) if any(of_leaf) else ():
            where = np.ix_(
                *(
                    who[group][worker] if group else np.arange(n)
                    for group, n in zip(of_leaf, leaf.shape, strict=True)
                )
            )
            expected[where] = piece
        np.testing.assert_allclose(ours, expected, atol=2e-5, err_msg=path)
    sent = sum(leaf.nbytes for leaf in jax.tree.leaves(apart[0]))
    assert report.bytes_sent.tolist() == [sent, sent]


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_does_not_depend_on_the_test_batch(name):
    model, params, _ = net(name)
    found = normalise.statistics(model, params, X)
    evaluate = jax.jit(lambda x: model.apply({**params, **found}, x, train=False))
    whole, alone = evaluate(X), evaluate(X[2:3])
    np.testing.assert_allclose(whole[2:3], alone, atol=1e-5)


def test_small_and_large_images_fit():
    model = SMALL["vgg"]
    for size in (1, 2, 28, 33):
        x = jnp.ones((2, size, size, 3))
        logits = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, train=True)[0], x
        )
        assert logits.shape == (2, 3)


def test_training_images_are_shifted_and_mirrored_and_others_are_not():
    layer, x = CropAndFlip(1), np.arange(1, 61, dtype=np.float32).reshape(1, 4, 5, 3)
    apply = lambda x, train, **rngs: np.asarray(layer.apply({}, x, train=train, rngs=rngs))
    assert (apply(x, False, dropout=jax.random.key(0)) == x).all()
    assert (apply(x, True) == x).all(), "no key: statistics are of the images themselves"
    wide = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    every = {
        (row, column, mirrored): wide[row : row + 4, column : column + 5][:, ::step]
        for row in range(3)
        for column in range(3)
        for mirrored, step in ((False, 1), (True, -1))
    }
    found = apply(np.repeat(x, 1000, axis=0), True, dropout=jax.random.key(0))
    counts = dict.fromkeys(every, 0)
    for image in found:
        [which] = [place for place, one in every.items() if (one == image).all()]
        counts[which] += 1
    assert min(counts.values()) > 30  # 1000/18 = 56 +- 7
    assert max(counts.values()) < 90


WRONG = {
    "VGG(H, 3, stages=3)": "stages of a VGG must be a tuple of tuples; found 3",
    "VGG(H, 3, stages=(64, 128))": "stage 0 of a VGG must be whole numbers above 0.* found 64",
    "VGG(H, 3, stages=((4,), (0,)))": r"stage 1 of a VGG .* found \(0,\)",
    "ResNet(H, 3, blocks=())": r"blocks of a ResNet .* found \(\)",
    "ResNet(H, 3, base=0)": r"base of a ResNet .* found \(0,\)",
    "ResNet(H, 3, crop=-1)": "crop of a ResNet must not be negative; found -1",
    "ResNet(H, 3, blocks=(1, 1.5))": r"blocks of a ResNet .* found \(1, 1.5\)",
}


def test_options_that_are_no_numbers_of_filters_or_blocks():
    """In a process of its own: here annotations are checked, and speak first."""
    code = (
        "import jax, numpy as np\n"
        "from ist_jax.models.resnet import ResNet\n"
        "from ist_jax.models.vgg import VGG\n"
        "H = {'hidden0': 8}\n"
        f"for text in {list(WRONG)!r}:\n"
        "    try:\n"
        "        x = np.ones((1, 8, 8, 1))\n"
        "        jax.eval_shape(lambda: eval(text).init(jax.random.key(0), x, train=True))\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    told = done.stdout.splitlines()
    assert len(told) == len(WRONG), done.stderr
    for line, message in zip(told, WRONG.values(), strict=True):
        assert re.fullmatch(f"InputError .*{message}", line)


@pytest.mark.parametrize("name", SMALL)
def test_what_does_not_fit_is_refused(name):
    model = SMALL[name]
    with pytest.raises(InputError, match=r"takes images \[B, H, W, C\]; found shape \(2, 4\)"):
        model.init(jax.random.key(0), np.ones((2, 4), np.float32), train=True)
    with pytest.raises(InputError, match=r"groups are hidden0, hidden1|has no 'dense'; it has hid"):
        shapes_of(model.clone(widths={"dense": 4}))
    with pytest.raises(InputError, match="normalise must be one of"):
        shapes_of(model.clone(normalise="batch"))


def test_the_head_of_full_imagenet_is_cut_and_costs_what_traffic_says():
    """The table of the benchmark: no parameter is ever made."""
    rows = imagenet_head.rows((2, 4, 8))
    whole = rows[0]["parameters"]
    for row, workers in zip(rows[1:], (2, 4, 8), strict=True):
        convolutions = conv_parameters(VGG({}, 1).stages, 3)[0]
        first, inner, last = 7 * 7 * 512 * 4096, 4096 * 4096, 4096 * 21_841
        cut = first // workers + inner // workers**2 + last // workers + 4 * 4096 // workers
        assert row["parameters"] == convolutions + cut
        assert row["round_bytes"] == 4 * row["parameters"]
        assert row["round_bytes"] < row["data_parallel_step_bytes"] == 4 * whole
        assert row["memory"] == 3 * 4 * row["parameters"]
