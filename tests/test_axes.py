import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from ist_jax import axes
from ist_jax.core.errors import InputError
from ist_jax.models.mlp import MLP


def test_flax_names_come_off_the_boxes(key):
    model = MLP({"hidden0": 6, "hidden1": 4}, classes=3)
    params, names = axes.of(model.init(key, jnp.ones((2, 5)), train=True))
    assert names["params"]["hidden1"]["kernel"] == ("hidden0", "hidden1")
    assert names["params"]["norm_hidden0"]["scale"] == ("hidden0",)
    assert names["params"]["logits"]["kernel"] == ("hidden1", None)
    assert axes.widths(params, names) == {"hidden0": 6, "hidden1": 4}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))


def test_a_tree_without_boxes_is_not_cut():
    params, names = axes.of({"a": jnp.ones((2, 3)), "b": [jnp.ones(()), jnp.ones(4)]})
    assert names == {"a": (None, None), "b": [(), (None,)]}
    assert axes.widths(params, names) == {}


def test_depth_of_scanned_blocks_is_an_axis(key):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, None))
            return x + nn.Dense(4, use_bias=False, kernel_init=init)(x), None

    stack = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=5,
        metadata_params={nn.PARTITION_NAME: "depth"},
    )()
    params, names = axes.of(stack.init(key, jnp.ones((2, 4)), None))
    assert names["params"]["Dense_0"]["kernel"] == ("depth", None, None)
    assert axes.widths(params, names) == {"depth": 5}


def test_two_widths_of_a_group_name_both_leaves():
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((5, 2))}
    with pytest.raises(InputError, match=r"'h' has two widths: 4 in \['a'\], 5 in \['b'\]"):
        axes.widths(params, {"a": (None, "h"), "b": ("h", None)})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"a": (None,)}, r"leaf \['a'\] has 2 axes .* but 1 names"),
        ({"b": (None, None)}, "does not match the parameters"),
        ({"a": (None, None), "b": ()}, "does not match the parameters"),
        ({"a": (0, 1)}, r"names of leaf \['a'\] must be a tuple of strings"),
    ],
)
def test_names_that_do_not_fit(names, message):
    with pytest.raises(InputError, match=message):
        axes.widths({"a": jnp.ones((3, 4))}, names)


def test_none_means_no_axis_is_cut():
    assert axes.widths({"a": jnp.ones((3, 4))}, {"a": None}) == {}


def test_running_statistics_are_refused():
    variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.ones(3)}}
    with pytest.raises(InputError, match=r"no parameters: batch_stats\. Use layers without"):
        axes.of(variables)
