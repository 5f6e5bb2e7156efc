"""The one call is the many: ``fit`` is ``build`` by hand, and gives back a net that answers."""

import re

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ist_jax
from ist_jax import axes, data, method, partition
from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.tasks import classification

WIDTHS = {"hidden0": 16, "hidden1": 8}
QUICK = {"rounds": 4, "local_steps": 2, "batch": 8, "eval_every": 2, "progress": False}


@pytest.fixture(scope="module")
def digits():
    found = data.load("digits")
    flat = lambda x: np.asarray(x).reshape(len(x), -1)
    return (flat(found.train_x), found.train_y), (flat(found.test_x), found.test_y)


def plain(widths):
    """Raw arrays in a list; normalised over the features of an example."""
    sizes = (64, widths["a"], widths["b"], 10)

    def init(key):
        pairs = zip(jax.random.split(key, 3), sizes, sizes[1:], strict=False)
        return [jax.random.normal(k, (m, n)) / np.sqrt(m) for k, m, n in pairs]

    def apply(params, x):
        for kernel in params[:-1]:
            x = x @ kernel
            x = jax.nn.relu((x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5))
        return x @ params[-1]

    return init, apply


PLAIN = {"widths": {"a": 16, "b": 8}, **QUICK}


def test_fit_is_build_by_hand_bit_for_bit(digits):
    (x, y), (test_x, test_y) = digits
    model = MLP(WIDTHS, classes=10)
    run = ist_jax.fit(model, *digits, optimizer=optax.sgd(0.3), seed=3, **QUICK)

    how = method.ist()
    params, names = axes.of(model.init({"params": jax.random.key(3)}, x[:1], train=True))
    subnet = normalise.subnet(model, partition.sub_widths(how.draw, WIDTHS, workers=4))
    trainer = ist_jax.build(
        classification.cross_entropy(subnet), optax.sgd(0.3), params, names, method=how, workers=4
    )
    init = lambda key: axes.of(model.init({"params": key, "dropout": key}, x[:1], train=True))[0]
    state = trainer.init(init, jax.random.key(3))
    batches = data.Batches(x, y, workers=4, batch=8, local_steps=2, seed=3)
    accuracy = classification.accuracy(model, x[:2048])
    seen, sent = [accuracy(trainer.whole(state).params, test_x, test_y)], [0]
    for number in range(4):
        state, report = trainer.round(state, batches(number))
        sent.append(sent[-1] + report.bytes_sent.max())
        if number % 2:
            seen.append(accuracy(trainer.whole(state).params, test_x, test_y))
    same = jax.tree.map(np.array_equal, run.params, trainer.whole(state).params)
    assert jax.tree.all(same)
    assert run.history["accuracy/test"].tolist() == seen
    assert run.history["comm/bytes_sent"].tolist() == sent[::2]


def test_the_net_answers_as_its_model_does_with_the_statistics_of_training_data(digits):
    (x, _), (test_x, test_y) = digits
    run = ist_jax.fit(MLP(WIDTHS, classes=10), *digits, **QUICK)
    found = normalise.statistics(run.model, run.params, x[:2048])
    expected = run.model.apply({**run.params, **found}, test_x, train=False)
    np.testing.assert_allclose(run.predict(test_x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.predict(test_x[5:6]), expected[5:6], rtol=1e-5, atol=1e-5)
    right = (run.predict(test_x).argmax(-1) == test_y).mean()
    assert run.history["accuracy/test"][-1] == pytest.approx(right)


def test_a_function_of_the_widths_gives_its_own_tree_back(digits):
    run = ist_jax.fit(plain, *digits, **PLAIN)
    assert [leaf.shape for leaf in run.params] == [(64, 16), (16, 8), (8, 10)]
    assert run.trainer.plan.slots == {"a": 4, "b": 2}
    _, apply = plain(PLAIN["widths"])
    x = digits[1][0]
    np.testing.assert_allclose(run.predict(x), apply(run.params, x), rtol=1e-5, atol=1e-5)


class Unnamed(nn.Module):
    """Of somebody who never heard of names, nor of ``train``."""

    widths: dict

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Dense(self.widths["h"])(x)))
        return nn.Dense(10)(x)


def test_a_linen_module_without_names_and_one_that_a_function_returns(digits):
    one = ist_jax.fit(Unnamed({"h": 16}), *digits, **QUICK)
    other = ist_jax.fit(lambda widths: Unnamed(widths), *digits, widths={"h": 16}, **QUICK)
    assert one.trainer.plan.slots == {"h": 4}
    assert jax.tree.all(jax.tree.map(np.array_equal, one.params, other.params))


class Named(nnx.Module):
    def __init__(self, rngs):
        named = lambda *names: nnx.with_partitioning(nnx.initializers.lecun_normal(), names)
        self.up = nnx.Linear(64, 16, use_bias=False, rngs=rngs, kernel_init=named(None, "h"))
        self.down = nnx.Linear(16, 10, use_bias=False, rngs=rngs, kernel_init=named("h", None))

    def __call__(self, x):
        return self.down(jax.nn.relu(self.up(x)))


def test_an_nnx_module_whose_axes_have_names(digits):
    with nnx.use_eager_sharding(False):
        run = ist_jax.fit(Named(nnx.Rngs(0)), *digits, **QUICK)
    assert run.trainer.plan.slots == {"h": 4}
    assert run.predict(digits[1][0][:3]).shape == (3, 10)


def test_train_key_and_statistics_are_handed_to_who_takes_them(digits):
    seen = []

    def make(widths):
        init, _ = plain(widths)

        def apply(params, x, train, key=None, statistics=None):
            seen.append((train, key is not None, statistics is not None))
            x = x @ params[0]
            mean = x.mean(0) if statistics is None else statistics
            x = jax.nn.relu(x - mean)
            if train and key is not None:
                x = x * jax.random.bernoulli(key, 0.5, x.shape)
            out = jax.nn.relu(x @ params[1]) @ params[2]
            return (out, mean) if statistics is None else out

        return init, apply

    run = ist_jax.fit(make, *digits, **PLAIN)
    assert (True, True, False) in seen  # training
    assert (False, False, False) in seen  # statistics, without dropout
    assert (False, False, True) in seen  # asked
    x = digits[1][0]
    np.testing.assert_allclose(
        run.predict(x[:1]), run.predict(x)[:1], rtol=1e-4, atol=1e-5
    )  # not the statistics of the batch


def test_a_function_of_worker_and_step_in_place_of_arrays(digits):
    (x, y), test = digits
    batches = data.Batches(x, y, workers=4, batch=8, local_steps=1, seed=0)
    draw = lambda worker, step: {
        "x": x[batches.indices(worker, step)],
        "y": y[batches.indices(worker, step)],
    }
    run = ist_jax.fit(plain, draw, test, **PLAIN)
    other = ist_jax.fit(plain, (x, y), test, **PLAIN)
    assert jax.tree.all(jax.tree.map(np.array_equal, run.params, other.params))


@pytest.mark.parametrize("kind", ["numbers", "several", "places", "own"])
def test_the_loss_follows_from_the_labels_or_is_ones_own(digits, kind):
    (x, y), _ = digits
    one_hot = np.eye(10)[y]
    labels = {
        "numbers": one_hot / 2,
        "several": one_hot.astype(bool),
        "places": np.stack([y, y], 1),
        "own": one_hot,
    }[kind]

    def make(widths):
        init, apply = plain(widths)
        twice = lambda params, x: jnp.stack([apply(params, x)] * 2, 1)
        return init, twice if kind == "places" else apply

    own = {"loss": lambda outputs, y: jnp.abs(outputs - y).sum(-1)} if kind == "own" else {}
    run = ist_jax.fit(make, (x, labels), (x[:50], labels[:50]), **PLAIN, **own)
    out = run.predict(x[:50])
    expected = {
        "numbers": lambda: ((out - one_hot[:50] / 2) ** 2).mean(),
        "several": lambda: np.logaddexp(0, np.where(labels[:50], -out, out)).mean(),
        "places": lambda: -jax.nn.log_softmax(out[:, 0])[np.arange(50), y[:50]].mean(),
        "own": lambda: np.abs(out - one_hot[:50]).sum(-1).mean(),
    }[kind]()
    assert run.history["loss/test"][-1] == pytest.approx(float(expected), rel=1e-4)
    assert ("accuracy/test" in run.history) == (kind in ("several", "places"))


def test_who_takes_part_and_what_fails_are_arguments(digits):
    run = ist_jax.fit(plain, *digits, took_part=lambda n: np.arange(4) != n % 4, **PLAIN)
    assert run.history["workers/missed"].tolist()[1:] == [2, 4]
    run = ist_jax.fit(plain, *digits, faults="nan:1@2", on_nonfinite="drop", **PLAIN)
    assert run.history["workers/rejected"].tolist()[1:] == [0, 1]
    with pytest.raises(
        InputError, match=r"^ist 0: worker 2 failed in round 1 \(faults\). With on_w"
    ):
        ist_jax.fit(plain, *digits, faults="drop:2@1", **PLAIN)


def test_callbacks_hear_every_line(digits):
    lines = []
    run = ist_jax.fit(plain, *digits, callbacks=[lines.append], **PLAIN)
    assert [line["round"] for line in lines] == [0, 2, 4]
    assert lines == run.lines


@pytest.mark.parametrize("name", ["local_sgd", "data_parallel", "ensemble", "single"])
def test_the_baselines_and_the_narrow_net_have_their_names(digits, name):
    run = ist_jax.fit(plain, *digits, method=name, **PLAIN)
    assert run.method == name
    assert run.params[0].shape == (64, 16)


def test_a_dense_net_of_a_subnets_size(digits):
    run = ist_jax.fit(plain, *digits, method="dense_subnet", **PLAIN)
    assert [leaf.shape for leaf in run.params] == [(64, 4), (4, 2), (2, 10)]


def test_four_devices_give_the_same_net(digits):
    one = ist_jax.fit(plain, *digits, **PLAIN)
    four = ist_jax.fit(plain, *digits, mesh=ist_jax.mesh(4, 4), **PLAIN)
    close = lambda a, b: np.allclose(a, b, atol=1e-4)
    assert jax.tree.all(jax.tree.map(close, one.params, four.params))


class Grouped(nn.Module):
    widths: dict

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(2, use_bias=False, use_scale=False)(nn.Dense(self.widths["h"])(x)))
        return nn.Dense(10)(x)


def by_position(widths):
    """Neurons whose place counts."""
    init, apply = plain(widths)
    return init, lambda params, x: apply(
        [params[0] * jnp.arange(params[0].shape[1]), *params[1:]], x
    )


def test_a_model_that_knows_its_neurons_by_their_order_is_refused(digits):
    for model, more in ((Grouped({"h": 16}), QUICK), (by_position, PLAIN)):
        with pytest.raises(InputError, match=r"permuting the neurons of group '[ha]'"):
            ist_jax.fit(model, *digits, **more)
    ist_jax.fit(by_position, *digits, sequences=("a",), **PLAIN)


def wide(widths):
    init, apply = plain({"a": 16, "b": 8})
    return init, apply


MISTAKES = {
    "an argument that is none": (plain, {"worker": 3}, "'worker'; did you mean 'workers'"),
    "no model": (3, {}, "found int"),
    "no widths": (plain, {"widths": None}, "needs widths="),
    "a module without widths": (nn.Dense(3), {}, "Dense has no attribute widths"),
    "widths that are ignored": (wide, {}, "group 'a' changes no parameter"),
    "a group that is none": (plain, {"widths": {"a": 16, "b": 8, "c": 4}}, "group 'c' changes no"),
    "no functions": (lambda widths: 3, {}, "it returned int"),
    "a policy it does not know": (plain, {"normalise": "scale"}, "takes no normalise"),
    "too many workers": (plain, {"workers": 9}, "has 8 neurons, too few for 9 workers"),
    "no workers": (plain, {"workers": 0}, "^workers must be"),
    "an unknown method": (plain, {"method": "isst"}, "there is no 'isst'; did you mean 'ist'"),
    "a batch that is too large": (plain, {"batch": 9999}, "^batch=9999 is more than all 898"),
    "strange faults": (plain, {"faults": "fire"}, "^faults"),
    "a policy that is none": (plain, {"on_nonfinite": "cry"}, "^on_nonfinite must be"),
    "others who take part": (plain, {"took_part": lambda n: np.ones(3, bool)}, r"bool\[4\], found"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_what_is_wrong_is_said_in_one_line(digits, what):
    model, changed, said = MISTAKES[what]
    with pytest.raises(InputError, match=said) as error:
        ist_jax.fit(model, *digits, **{**PLAIN, **changed})
    assert "config." not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("digits", "found str"),
        ((np.ones((3, 2)),), "found tuple"),
        ((np.ones((3, 2)), np.ones(2, int)), "3 examples but 2 labels"),
        ((np.full((3, 2), np.nan), np.ones(3, int)), "not finite"),
        ((np.ones((3, 2)), np.array(["a", "b", "c"])), "must be arrays of numbers"),
        ((np.ones((3, 2)), np.array([0, 1, -1])), "label -1"),
        (lambda worker, step: 3, "must return .*found int"),
        (lambda worker, step: {"x": np.ones((2, 3)), "y": np.ones(1)}, "as many rows"),
    ],
)
def test_data_that_are_none_are_refused(train, said):
    with pytest.raises(InputError, match=said):
        ist_jax.fit(plain, train, **PLAIN)


def test_inputs_of_another_shape_are_refused(digits):
    run = ist_jax.fit(plain, *digits, **PLAIN)
    for x, said in (
        (np.ones((2, 63)), r"\['n', 64\], found \[2, 63\]"),
        (np.ones(64), "x\\[None\\]"),
        (np.float32(3), r"found \[\]"),
    ):
        with pytest.raises(InputError, match=said):
            run.predict(x)
    assert run.predict(np.ones((0, 64))).shape == (0, 10)
    assert re.match("numpy", type(run.predict(np.ones((1, 64)))).__module__)
