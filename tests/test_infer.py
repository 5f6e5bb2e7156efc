"""Names of axes out of shapes alone: any model, and a word for each that has none."""

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import pytest

from ist_jax import axes
from ist_jax.core.errors import InputError
from ist_jax.models import nnx as nnx_models
from ist_jax.models.mlp import MLP

zeros = jnp.zeros


def mlp(widths):
    a, b = widths["a"], widths["b"]
    return {"in": zeros((3, a)), "inner": zeros((a, b)), "bias": zeros(b), "out": zeros((b, 2))}


NAMES = {"in": (None, "a"), "inner": ("a", "b"), "bias": ("b",), "out": ("b", None)}


@pytest.mark.parametrize("widths", [{"a": 8, "b": 8}, {"a": 3, "b": 2}, {"a": 1, "b": 1}])
def test_groups_as_wide_as_one_another_or_as_axes_that_are_never_cut_are_told_apart(widths):
    assert axes.infer(mlp, widths) == NAMES
    assert axes.infer(lambda w: lambda key: mlp(w), widths) == NAMES
    assert axes.infer(lambda w: (lambda key: mlp(w), lambda params, x: x), widths) == NAMES


def test_a_group_that_is_not_given_is_not_cut():
    made = lambda widths: mlp({"b": 8} | widths)
    assert axes.infer(made, {"a": 8})["inner"] == ("a", None)
    assert set(axes.infer(lambda widths: mlp({"a": 8, "b": 8}), {}).values()) == {
        (None, None),
        (None,),
    }


def test_stacked_blocks_and_heads_have_axes_of_their_own():
    def make(widths):
        depth, heads = widths["depth"], widths["heads"]
        return {"query": zeros((depth, 16, heads, 4)), "output": zeros((depth, heads, 4, 16))}

    expected = {"query": ("depth", None, "heads", None), "output": ("depth", "heads", None, None)}
    assert axes.infer(make, {"depth": 4, "heads": 4}) == expected


def test_widths_that_a_model_does_not_take_are_left_out():
    def make(widths):
        if widths["h"] % 2:
            raise ValueError("heads come in pairs")
        return {"w": zeros((5, widths["h"]))}

    assert axes.infer(make, {"h": 4}) == {"w": (None, "h")}


def test_a_linen_module_has_the_names_that_it_gives_itself():
    x = jnp.ones((1, 5))
    init = lambda widths: lambda key: MLP(widths, 3).init(key, x, train=True)
    widths = {"hidden0": 6, "hidden1": 6}
    _, names = axes.of(init(widths)(jax.random.key(0)))
    assert axes.infer(init, widths) == names


def test_a_linen_module_without_names():
    class Plain(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm()(nn.relu(nn.Dense(self.width)(x)))
            return nn.Dense(2)(x)

    init = lambda widths: lambda key: Plain(widths["h"]).init(key, jnp.ones((1, 3)))
    names = axes.infer(init, {"h": 3})["params"]
    assert names["Dense_0"] == {"kernel": (None, "h"), "bias": ("h",)}
    assert names["Dense_1"] == {"kernel": ("h", None), "bias": (None,)}
    assert names["LayerNorm_0"] == {"scale": ("h",), "bias": ("h",)}


def test_an_nnx_module():
    class Net(nnx.Module):
        def __init__(self, width, rngs):
            self.up, self.down = nnx.Linear(3, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.up(x)))

    names = axes.infer(lambda w: nnx_models.split(Net(w["h"], nnx.Rngs(0)))[0], {"h": 4})
    assert names["up"] == {"kernel": (None, "h"), "bias": ("h",)}
    assert names["down"] == {"kernel": ("h", None), "bias": (None,)}


@jax.tree_util.register_pytree_node_class
class Callable:
    """A tree that is callable and holds a function, as modules of Equinox are."""

    def __init__(self, weight, activation):
        self.weight, self.activation = weight, activation

    def tree_flatten(self):
        return (self.weight, self.activation), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)

    def __call__(self, x):
        return self.activation(self.weight @ x)


def test_a_module_that_is_a_tree_and_callable():
    make = lambda widths: Callable(zeros((widths["h"], 3)), jax.nn.relu)
    names = axes.infer(make, {"h": 4})
    arrays = Callable(zeros((4, 3)), None)  # as eqx.filter(module, eqx.is_array)
    assert axes.describe(arrays, names).widths == {"h": 4}


def test_nothing_is_computed():
    made = []
    make = lambda widths: made.append(zeros((10**9, widths["h"]))) or {"w": made[-1]}
    assert axes.infer(make, {"h": 10**6}) == {"w": (None, "h")}
    assert all(isinstance(array, jax.core.Tracer) for array in made)


def only_eight(widths):
    assert widths["h"] == 8, "as wide as what comes in"
    return {"w": zeros((8, widths["h"]))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda w: {f"block{n}": zeros((2, 2)) for n in range(w["h"])},
            r"there are other leaves, \['block\d+'\] for one. Stack what is repeated",
        ),
        (
            lambda w: {"out": zeros((4 * w["h"], 3))},
            r"axis 0 of leaf \['out'\] is 32 with 8 of group 'h' and 64 with 16, 4 for each neuron",
        ),
        (
            lambda w: {"out": zeros((w["h"] + 2, 3))},
            r"axis 0 of leaf \['out'\] is 10 .* it holds something else beside the group's",
        ),
        (
            lambda w: {"out": zeros((w["h"] ** 2, 3))},
            r"leaf \['out'\] .* does not grow with the group's width",
        ),
        (
            lambda w: {"w": zeros((8, 3))},
            "group 'h' changes no parameter: .* for 8 and for 16, 4, 9",
        ),
        (only_eight, "no other width of group 'h' than 8 .*AssertionError: as wide as what"),
        (
            lambda w: {"w": zeros((w["h"],) * (1 + w["h"] // 9))},
            r"leaf \['w'\] has 1 axes at one width and 2 at another",
        ),
    ],
)  # fmt: skip
def test_what_has_no_names_is_told_by_its_leaf(make, message):
    with pytest.raises(InputError, match=message) as raised:
        axes.infer(make, {"h": 8})
    assert "\n" not in str(raised.value)


def test_two_groups_that_are_one_axis_are_told():
    make = lambda w: {"w": zeros((3, w["a"] if w["a"] != 8 else w["b"]))}
    with pytest.raises(InputError, match=r"groups 'a' and 'b' are both axis 1 of leaf \['w'\]"):
        axes.infer(make, {"a": 8, "b": 8})


def test_a_group_that_make_does_not_know_is_told():
    with pytest.raises(
        InputError, match=r"make raised KeyError\('h'\); the groups .* \['hidden'\]"
    ):
        axes.infer(lambda w: {"w": zeros((3, w["h"]))}, {"hidden": 8})


def test_statistics_beside_parameters_are_told():
    norm = lambda w: lambda key: nn.BatchNorm(False).init(key, jnp.ones((1, w["h"])))
    with pytest.raises(InputError, match="variables that are no parameters: batch_stats"):
        axes.infer(norm, {"h": 8})


X = jax.random.normal(jax.random.key(1), (5, 3))


def forward(params):
    """An MLP of two hidden layers, with a norm of the first."""
    h = jax.nn.relu(X @ params["in"])
    h = (h - h.mean(axis=-1, keepdims=True)) / (h.std(axis=-1, keepdims=True) + 1)
    return jnp.tanh(h @ params["inner"] + params["bias"]) @ params["out"]


def test_a_model_that_does_not_know_its_neurons_apart_passes_the_check():
    assert axes.infer(mlp, {"a": 8, "b": 8}, check=forward) == NAMES


def by_position(params):
    return forward(params | {"in": params["in"] * jnp.arange(8)})


def group_norm(params):
    """Of two groups of neurons that lie side by side."""
    h = (X @ params["in"]).reshape(5, 2, -1)
    return (h / (1 + h.std(axis=-1, keepdims=True))).reshape(5, -1) @ params["inner"]


def mixes_axes(params):
    return forward(params | {"inner": params["inner"].T.reshape(8, 8)[:, ::-1]})


@pytest.mark.parametrize("check", [by_position, group_norm])
def test_a_group_whose_neurons_have_an_order_is_told(check):
    with pytest.raises(InputError, match="permuting the neurons of group 'a' in all its leaves"):
        axes.infer(mlp, {"a": 8, "b": 8}, check=check)


def residual(params):
    h = X @ params["in"]
    return (h + jnp.tanh(h @ params["inner"] + params["bias"])) @ params["out"]


def test_two_groups_of_a_residual_sum_are_told():
    """Shapes do not say that the neurons of one are those of the other."""
    with pytest.raises(InputError, match=r"groups 'a' and 'b' are the same neurons: .*residual"):
        axes.infer(mlp, {"a": 8, "b": 8}, check=residual)


def test_axes_that_are_taken_one_for_the_other_are_told():
    """Shapes do not tell that the model uses an inner matrix the other way round."""
    with pytest.raises(InputError, match="permuting the neurons of group 'a'"):
        axes.infer(mlp, {"a": 8, "b": 8}, check=mixes_axes)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda params: X, "check gives the same for all parameters"),
        (lambda params: jnp.log(-jnp.abs(params["in"])), "must give finite numbers, found .nan"),
        (lambda params: (), "must give finite numbers"),
    ],
)
def test_a_check_that_checks_nothing_is_refused(check, message):
    with pytest.raises(InputError, match=message):
        axes.infer(mlp, {"a": 8, "b": 8}, check=check)
