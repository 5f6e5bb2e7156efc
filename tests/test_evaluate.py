"""A net that lies on many devices is evaluated where it lies."""

import functools
import re

import jax
import numpy as np
import optax
import pytest

import ist_jax
from ist_jax import axes, method
from ist_jax.models import normalise
from ist_jax.models.cnn import CNN
from ist_jax.models.mlp import MLP
from ist_jax.sharded import placement
from ist_jax.tasks import classification

MODELS = {
    "mlp": (MLP({"hidden0": 64, "hidden1": 96}, 10), (20,)),
    "widths that the devices do not divide": (MLP({"hidden0": 65, "hidden1": 97}, 10), (20,)),
    "cnn": (CNN({"filters0": 16, "filters1": 24, "hidden0": 32}, 10), (8, 8, 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_where_the_net_lies_is_the_dense_nets_and_gathers_no_weight(name, key):
    model, shape = MODELS[name]
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(512, *shape)).astype(np.float32), draw.integers(0, 10, 512)
    params, names = axes.of(jax.jit(functools.partial(model.init, train=True))(key, x[:1]))
    trainer = ist_jax.build(
        lambda net, batch, key: 0.0,
        optax.sgd(0.1),
        params,
        names,
        method=method.ist(),
        workers=4,
        mesh=placement.mesh(4, 4),
    )
    sharded = trainer.sharded_params(trainer.init(params, key))

    def logits(net, x):
        statistics = normalise.statistics(model, net, x)
        return model.apply({**net, **statistics}, x[:100], train=False)

    spread = trainer.on_params(logits)
    dense = np.asarray(jax.jit(logits)(params, x))
    np.testing.assert_allclose(np.asarray(spread(sharded, x)), dense, atol=1e-5)
    program = spread.lower(sharded, x).compile().as_text()
    assert re.search("all-reduce", program), "sums over the devices' neurons, and nothing else"
    assert not re.search("all-gather|all-to-all|collective-permute|reduce-scatter", program)

    evaluate = classification.accuracy(model, x, compiled=trainer.on_params)
    y = y.astype(np.int32)
    assert evaluate(sharded, x, y) == pytest.approx(
        classification.accuracy(model, x)(params, x, y), abs=0.01
    )
