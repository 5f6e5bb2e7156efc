import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import axes, decompose, partition
from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.cnn import CNN
from ist_jax.models.mlp import MLP
from ist_jax.tasks import classification

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(512, 10)).astype(np.float32) * 3 + 1
Y = DRAW.integers(4, size=512).astype(np.int32)


def model_and_params(**options):
    model = MLP({"hidden0": 12, "hidden1": 8}, classes=4, **options)
    params, names = axes.of(
        jax.jit(functools.partial(model.init, train=True))(jax.random.key(0), X[:2])
    )
    return model, params, names


def test_statistics_are_those_of_the_whole_net_layer_by_layer():
    """Against NumPy: each layer's mean and variance over all examples, given those before."""
    model, params, _ = model_and_params()
    found = normalise.statistics(model, params, X)["statistics"]
    h = X.astype(np.float64)
    for layer in ("hidden0", "hidden1", "logits"):
        z = h @ np.asarray(params["params"][layer]["kernel"], np.float64)
        np.testing.assert_allclose(found[f"norm_{layer}"]["mean"], z.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(found[f"norm_{layer}"]["variance"], z.var(axis=0), rtol=1e-4)
        h = np.maximum((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5), 0)


def test_evaluation_does_not_depend_on_the_batches_of_the_test_set():
    """Oracle 7: one example alone, in a batch of odd ones, or with all: the same logits."""
    model, params, _ = model_and_params()
    variables = {**params, **normalise.statistics(model, params, X)}
    test = DRAW.normal(size=(64, 10)).astype(np.float32)
    together = model.apply(variables, test, train=False)
    shuffled = model.apply(variables, test[::-1], train=False)[::-1]
    alone = jnp.concatenate(
        [model.apply(variables, test[i : i + 1], train=False) for i in range(64)]
    )
    np.testing.assert_allclose(together, shuffled, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    odd = model.apply(variables, np.concatenate([test[:1], 1e3 * test[1:]]), train=False)
    np.testing.assert_allclose(together[0], odd[0], rtol=1e-5, atol=1e-5)
    evaluate = [classification.accuracy(model, X, batch) for batch in (7, 100, 512)]
    assert len({e(params, X, Y) for e in evaluate}) == 1
    with_batch_statistics = model.apply(params, test, train=True)
    assert jnp.abs(with_batch_statistics - together).max() > 1e-2, "and the batch's would differ"


def test_no_statistics_is_an_error_and_init_makes_none():
    model, params, _ = model_and_params()
    assert set(params) == {"params"}
    with pytest.raises(InputError, match=r"no statistics for norm_hidden0: .*normalise.statistics"):
        model.apply(params, X, train=False)


@pytest.mark.parametrize("policy", normalise.POLICIES)
def test_empty_slots_stay_empty(policy):
    """A subnet padded with empty slots gives the logits of the same subnet without them."""
    model, params, names = model_and_params(normalise=policy)
    padded = {
        "hidden0": jnp.array([[0, 3, 4, 12, 12]], jnp.int32),
        "hidden1": jnp.array([[1, 2, 8]], jnp.int32),
    }
    bare = {"hidden0": padded["hidden0"][:, :3], "hidden1": padded["hidden1"][:, :2]}

    def logits(who):
        net = decompose.gather_one(params, names, who, 0)
        sub = model.clone(widths={g: ids.shape[1] for g, ids in who.items()})

        def total(net):
            return jnp.sum(sub.apply(net, X, train=True) ** 2 * X[:, :4])

        return jax.jit(lambda net: (sub.apply(net, X, train=True), jax.grad(total)(net)))(net)

    (with_empty, grads), (without, _) = logits(padded), logits(bare)
    np.testing.assert_allclose(with_empty, without, rtol=1e-4, atol=1e-5)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("draw", [partition.permutation, partition.balanced])
def test_scale_makes_the_next_layers_input_unbiased(draw):
    """The mean over all workers of N/m h_i W_ij is the whole net's pre-activation."""
    model, params, names = model_and_params(normalise="scale")
    whole = model.apply(params, X, train=True)
    who = draw(jax.random.key(1), {"hidden0": 12}, 4)
    nets = decompose.gather(params, names, who)
    sub = normalise.subnet(model, partition.sub_widths(draw, {"hidden0": 12}, 4))
    assert dict(sub.gains) == {"hidden0": 4.0}

    def first(module, net):
        _, seen = module.apply(
            net, X, train=True, capture_intermediates=True, mutable=["intermediates"]
        )
        return seen["intermediates"]["hidden1"]["__call__"][0]

    inputs = jnp.stack([first(sub, jax.tree.map(lambda n, s=s: n[s], nets)) for s in range(4)])
    np.testing.assert_allclose(inputs.mean(axis=0), first(model, params), rtol=1e-4, atol=1e-4)
    assert whole.shape == (512, 4)


def test_policies_give_a_model_its_parameters():
    with_norm = model_and_params()[1]["params"]
    assert set(with_norm) == {"hidden0", "hidden1", "logits", "norm_hidden0", "norm_hidden1"}
    assert set(model_and_params(affine=False)[1]["params"]) == {"hidden0", "hidden1", "logits"}
    assert set(model_and_params(normalise="none")[1]["params"]) == {"hidden0", "hidden1", "logits"}
    assert normalise.statistics(*model_and_params(normalise="none")[:2], X) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: model_and_params(normalise="batch"),
            "one of standardise, scale, share, none; found 'batch'",
        ),
        (lambda: normalise.subnet(model_and_params()[0], {"hiden0": 3}), "unknown group 'hiden0'"),
        (
            lambda: MLP({"first": 3}, 4).init(jax.random.key(0), X[:2], train=True),
            "hidden layers' groups are hidden0, hidden1, ...; found",
        ),
        (
            lambda: CNN({"hidden0": 3}, 4).init(jax.random.key(0), X[:2], train=True),
            "a CNN's groups are",
        ),
        (
            lambda: CNN({"filters0": 2, "filters1": 2, "hidden0": 3}, 4).init(
                jax.random.key(0), X[:2], train=True
            ),
            "takes images",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_several_counts_of_the_best_in_one_pass_are_those_of_sorted_logits():
    model, params, _ = model_and_params()
    y = Y
    found = normalise.statistics(model, params, X)
    logits = np.asarray(model.apply({**params, **found}, X, train=False))
    order = np.argsort(-logits, axis=1)
    got = classification.accuracies(model, X, (1, 2, 3), batch=7)(params, X, y)
    for k in (1, 2, 3):
        assert got[k] == pytest.approx((order[:, :k] == y[:, None]).any(1).mean())
    assert got[1] == classification.accuracy(model, X)(params, X, y)
