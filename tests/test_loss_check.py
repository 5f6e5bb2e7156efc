"""A loss that does not take a subnet: who is to blame, and what to do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ist_jax
from ist_jax import axes, loss_check, method
from ist_jax.core.errors import InputError
from ist_jax.models.mlp import MLP

X, Y = np.ones((4, 2, 8, 6), np.float32), np.zeros((4, 2, 8), np.int32)  # [S, J, B, ...]
BATCHES, BATCH = {"x": X, "y": Y}, {"x": X[0, 0], "y": Y[0, 0]}


def cross_entropy(model):
    def loss(params, batch, key):
        logits = model.apply(params, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    return loss


class Net(nn.Module):
    """Named kernels; what else there is, is wrong in one way or another."""

    hidden: int = 16
    normed: bool = False

    @nn.compact
    def __call__(self, x):
        named = lambda *names: nn.with_partitioning(nn.initializers.lecun_normal(), names)
        x = nn.Dense(self.hidden, use_bias=False, kernel_init=named(None, "h"))(x)
        x = nn.LayerNorm()(x) if self.normed else x
        return nn.Dense(3, kernel_init=named("h", None))(nn.relu(x))


def build(whole, narrow, **options):
    params, names = axes.of(whole.init(jax.random.key(0), X[0, 0]))
    return params, ist_jax.build(
        cross_entropy(narrow), optax.sgd(0.1), params, names, method=method.ist(), workers=4,
        **options,
    )  # fmt: skip


def test_a_norm_without_names_is_named_at_the_first_round_and_at_build():
    whole, narrow = Net(16, True), Net(4, True)
    said = (
        r"axis 0 of leaf \['params'\]\['LayerNorm_0'\]\['bias'\] has 16 entries, as group 'h'; "
        r"axis 0 of leaf \['params'\]\['LayerNorm_0'\]\['scale'\] .*Name it 'h', so that it is cut"
    )
    params, trainer = build(whole, narrow)
    state = trainer.init(params, jax.random.key(0))
    with pytest.raises(InputError, match=said):
        trainer.round(state, BATCHES)
    assert not state.params["params"]["Dense_0"]["kernel"].is_deleted(), "nothing is used up"
    with pytest.raises(InputError, match=said):
        build(whole, narrow, example=BATCH)


def test_a_model_that_is_not_narrowed_is_told_so():
    with pytest.raises(
        InputError,
        match=r"takes the whole net but no subnet \(h 16 -> 4\): a worker's leaf .*\['kernel'\] "
        r"has shape \(6, 4\), and the model expects \(6, 16\)\. Give the loss a model as wide",
    ):
        build(Net(16), Net(16), example=BATCH)


def test_a_bias_without_a_name_in_a_net_of_nobodys_framework():
    params = {"a": jnp.ones((6, 16)), "bias": jnp.ones(16), "b": jnp.ones((16, 3))}
    names = {"a": (None, "h"), "bias": (None,), "b": ("h", None)}
    loss = lambda net, batch, key: jnp.mean((batch["x"] @ net["a"] + net["bias"]) @ net["b"])
    with pytest.raises(InputError, match=r"axis 0 of leaf \['bias'\] has 16 entries, as group 'h'"):
        ist_jax.build(
            loss, optax.sgd(0.1), params, names, method=method.ist(), workers=4, example=BATCH
        )


def test_what_fails_for_another_reason_keeps_its_own_error():
    params, names = {"a": jnp.ones((6, 16))}, {"a": (None, "h")}
    loss = lambda net, batch, key: (
        jnp.mean(batch["x"] @ net["a"]) + jnp.sum(batch["x"] + jnp.ones(5))
    )
    trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=method.ist(), workers=4)
    with pytest.raises(ValueError, match="Incompatible shapes for broadcasting"):
        trainer.round(trainer.init(params, jax.random.key(0)), BATCHES)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda value: (value, {"accuracy": value}), "must return one number, found .*auxiliary"),
        (lambda value: value[None], r"must return one number, found float32\[1\]"),
        (lambda value: value.astype(jnp.int32), "must be a floating-point number, found int32"),
    ],
    ids=["aux", "vector", "integer"],
)
def test_a_loss_that_gives_something_else_than_a_number(gives, said):
    params, names = {"a": jnp.ones((6, 16))}, {"a": (None, "h")}
    loss = lambda net, batch, key: gives(jnp.mean(batch["x"] @ net["a"]))
    trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=method.ist(), workers=4)
    with pytest.raises(InputError, match=said):
        trainer.round(trainer.init(params, jax.random.key(0)), BATCHES)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (jnp.arange(4), r"leaf \['b'\] of the parameters is int32, and only floating-point"),
        (jax.nn.relu, r"leaf \['b'\] of the parameters is no array: .*eqx\.filter"),
    ],
    ids=["integers", "a function"],
)
def test_leaves_that_cannot_be_trained_are_named(leaf, said):
    params, names = {"a": jnp.ones((6, 16)), "b": leaf}, {"a": (None, "h"), "b": None}
    with pytest.raises(InputError, match=said):
        ist_jax.build(
            lambda net, batch, key: 0.0, optax.sgd(0.1), params, names, method=method.ist(),
            workers=2,
        )  # fmt: skip


def test_the_models_of_the_library_are_taken():
    whole = MLP({"hidden0": 16}, 3)
    params, names = axes.of(
        jax.eval_shape(lambda: whole.init(jax.random.key(0), X[0, 0], train=True))
    )
    loss = lambda p, b, key: MLP({"hidden0": 4}, 3).apply(p, b["x"], train=True).mean()
    subnet = jax.eval_shape(
        lambda: MLP({"hidden0": 4}, 3).init(jax.random.key(0), X[0, 0], train=True)
    )
    subnet = axes.of(subnet)[0]
    net, part = axes.describe(params, names), axes.describe(subnet, names)
    assert net.subnet({"hidden0": 4}) == part
    loss_check.check(loss, net, part, BATCH, {"hidden0"})
