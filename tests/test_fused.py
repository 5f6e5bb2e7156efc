"""Axes that hold several entries for each neuron: split where stored, fused where applied."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import axes, decompose
from ist_jax.core.errors import InputError

H, INPUTS, OUT = 6, 3, 2
X = np.random.default_rng(0).normal(size=(4, 5, INPUTS)).astype(np.float32)  # [B, time, inputs]
NEURONS_FIRST, GATES_FIRST = ("h", 4), (4, "h")


def lstm(neurons_first):
    """An LSTM with all gates in one axis of 4 H, in either order."""

    def make(widths):
        width = widths["h"]

        def init(key):
            shapes = {"in": (INPUTS, 4 * width), "own": (width, 4 * width)}
            shapes |= {"bias": (4 * width,), "out": (width, OUT)}
            keys = jax.random.split(key, 4)
            return {
                n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)
            }

        def apply(params, x, *, key=None):
            def step(state, x):
                hidden, cell = state
                gates = x @ params["in"] + hidden @ params["own"] + params["bias"]
                if neurons_first:
                    i, f, g, o = jnp.moveaxis(gates.reshape(len(x), width, 4), -1, 0)
                else:
                    i, f, g, o = jnp.split(gates, 4, axis=-1)
                cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
                return (jax.nn.sigmoid(o) * jnp.tanh(cell), cell), None

            zeros = jnp.zeros((len(x), width))
            (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
            return hidden @ params["out"]

        return init, apply

    return make


def split(order):
    return {"['in']": (None, order), "['own']": (None, order), "['bias']": (order,)}


def held_by(params, neurons, neurons_first):
    """A worker's net as an oracle: entry by entry, by what the order means."""
    if neurons_first:
        columns = [4 * n + gate for n in neurons for gate in range(4)]
    else:
        columns = [gate * H + n for gate in range(4) for n in neurons]
    params = {name: np.asarray(leaf) for name, leaf in params.items()}
    return {
        "in": params["in"][:, columns],
        "own": params["own"][neurons][:, columns],
        "bias": params["bias"][columns],
        "out": params["out"][neurons],
    }


ORDERS = pytest.mark.parametrize("neurons_first", [True, False])


@ORDERS
def test_a_subnet_of_an_lstm_is_the_one_that_its_neurons_make(neurons_first):
    order = NEURONS_FIRST if neurons_first else GATES_FIRST
    make, forms, key = lstm(neurons_first), split(order), jax.random.key(3)
    unfused = axes.unfuse(make, forms)
    init, apply = unfused({"h": H})
    own = make({"h": H})[0](key)
    params = init(key)
    assert jax.tree.map(np.array_equal, axes.fuse(params, forms), own) == dict.fromkeys(own, True)
    names = axes.infer(unfused, {"h": H}, check=lambda params: apply(params, X))
    assert names["own"] == ("h", *(g if g == "h" else None for g in order))
    assert axes.widths(params, names) == {"h": H}

    who = {"h": jnp.array([[0, 3], [1, 4], [2, 5]])}
    nets = decompose.gather(params, names, who)
    narrow = unfused({"h": 2})[1]
    for worker, neurons in enumerate(who["h"].tolist()):
        net = jax.tree.map(lambda leaf, worker=worker: leaf[worker], nets)
        expected = held_by(own, neurons, neurons_first)
        for name, leaf in axes.fuse(net, forms).items():
            np.testing.assert_array_equal(leaf, expected[name])
        alone = make({"h": 2})[1](expected, X)
        np.testing.assert_array_equal(narrow(net, X), alone)
    back = decompose.scatter(params, nets, names, who)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, params))


@ORDERS
def test_a_wrong_order_is_found_by_the_check(neurons_first):
    wrong = GATES_FIRST if neurons_first else NEURONS_FIRST
    unfused = axes.unfuse(lstm(neurons_first), split(wrong))
    apply = unfused({"h": H})[1]
    assert axes.infer(unfused, {"h": H})["bias"]  # shapes do not say it
    with pytest.raises(InputError, match="permuting the neurons of group 'h'"):
        axes.infer(unfused, {"h": H}, check=lambda params: apply(params, X))


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_a_wrong_order_is_found_where_one_width_hides_it(heads):
    """Of heads of eight, the other order permutes entries within all heads alike."""

    def make(widths):
        shapes = {"q": (3, widths["heads"] * 8), "out": (widths["heads"] * 8, 2)}

        def apply(params, x):
            q = (x @ params["q"]).reshape(*x.shape[:-1], widths["heads"], 8)
            q = jnp.tanh(jnp.square(q).sum(axis=-1, keepdims=True)) * q
            return q.reshape(*x.shape[:-1], -1) @ params["out"]

        zeros = lambda key: {name: jnp.zeros(shape) for name, shape in shapes.items()}
        return zeros, apply

    def named(order):
        split = axes.unfuse(make, {"['q']": (None, order), "['out']": (order, None)})
        check = lambda params, widths: split(widths)[1](params, X)
        return axes.infer(split, {"heads": heads}, check=check)

    assert named(("heads", -1))["q"] == (None, "heads", None)
    with pytest.raises(InputError, match="permuting the neurons of group 'heads'"):
        named((-1, "heads"))


def test_the_message_of_infer_is_the_call_that_mends_it():
    with pytest.raises(InputError) as raised:
        axes.infer(lstm(True), {"h": H})
    said = str(raised.value)
    assert """axes.unfuse(make, {"['bias']": form})""" in said
    assert "('h', 4) for this axis if entry n * 4 + j is of neuron n" in said
    assert f"(4, 'h') if entry j * {H} + n is" in said


def test_two_axes_of_a_leaf_two_groups_in_an_axis_and_sizes_that_follow():
    leaf = jnp.arange(7 * 5 * 6 * 4).reshape(7 * 5, 6 * 4)
    make = lambda widths: (lambda key: {"w": leaf}, lambda params, x: params["w"])
    forms = {"['w']": ((-1, "c"), ("a", "b", 2))}
    init, apply = axes.unfuse(make, forms)({"c": 5, "a": 4, "b": 3})
    params = init(None)
    assert params["w"].shape == (7, 5, 4, 3, 2)
    assert params["w"][6, 4, 3, 1, 1] == leaf[6 * 5 + 4, 3 * 6 + 1 * 2 + 1]
    np.testing.assert_array_equal(apply(params, None), leaf)


def test_apply_keeps_its_signature():
    """Who trains a model looks there for ``key``, ``train`` and ``statistics``."""
    own, ours = lstm(True)({"h": 2})[1], axes.unfuse(lstm(True), {})({"h": 2})[1]
    assert inspect.signature(ours) == inspect.signature(own)


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ({"['bais']": (("h", 4),)}, r"leaf \['bais'\]; the closest of the model's is \['bias'\]"),
        ({"['in']": (("h", 4),)}, r"leaf \['in'\] has 2 axes .* has 1 entries"),
        ({"['bias']": (("g", 4),)}, r"axis 0 of leaf \['bias'\] .* the group 'g'.* are \['h'\]"),
        ({"['bias']": (("h", 3),)}, r"axis 0 of leaf \['bias'\] \(24 entries\) cannot .* \[6, 3\]"),
        ({"['bias']": ((-1, -1),)}, r"axis 0 of leaf \['bias'\] \(24 entries\) cannot be split"),
        ({"['bias']": (("h", 0),)}, r"the form of axis 0 of leaf \['bias'\] .* expected None or"),
        ({"['bias']": ("h",)}, r"the form of axis 0 of leaf \['bias'\] .* is 'h'; expected None"),
    ],
)
def test_a_form_that_does_not_fit_names_the_leaf(forms, message):
    init, _ = axes.unfuse(lstm(True), forms)({"h": H})
    with pytest.raises(InputError, match=message) as raised:
        init(jax.random.key(0))
    assert "\n" not in str(raised.value)


def test_parameters_of_another_form_are_refused():
    _, apply = axes.unfuse(lstm(True), split(NEURONS_FIRST))({"h": H})
    fused = lstm(True)({"h": H})[0](jax.random.key(0))
    with pytest.raises(InputError, match=r"leaf \['bias'\] has 1 axes .* Pass the parameters that"):
        apply(fused, X)


def test_a_make_that_gives_no_two_functions_is_refused():
    with pytest.raises(InputError, match=r"unfuse needs make\(widths\) -> \(init, apply\)"):
        axes.unfuse(lambda widths: {"w": jnp.zeros(3)}, {})({"h": 3})
