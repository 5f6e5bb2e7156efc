"""Bytes of the nets of ResIST's and LoFT's papers, which need no training."""

import functools

import jax
import numpy as np
import optax

import ist_jax
from ist_jax import axes
from ist_jax.cost import traffic
from ist_jax.method import Method
from ist_jax.models.resnet import ResNet

PreResNet = functools.partial(
    ResNet, classes=100, preactivate=True, bias=True, logits=False, base=64
)


def moved(model: ResNet, how: Method, workers: int) -> tuple[int, int]:
    """The net's parameters (images of 32 x 32 x 3); bytes a round of all workers, both ways."""
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    init = functools.partial(model.init, train=True)
    params, names = axes.of(jax.eval_shape(init, jax.random.key(0), images))
    trainer = ist_jax.build(
        lambda *_: jax.numpy.zeros(()), optax.sgd(0.1), params, names, method=how, workers=workers
    )
    received, sent = trainer.moved.of_steps(1)
    return int(traffic.entries(trainer.plan.net, {})), int((received + sent).sum())
