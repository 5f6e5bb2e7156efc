"""Trains a model of any framework, ``make(widths) -> (init, apply)``, on the digits with IST."""

import functools
import inspect

import jax
import numpy as np
import optax

import ist_jax
from ist_jax import axes, data, method, partition

WORKERS = 4


@functools.cache
def digits():
    return data.load("digits")


def run_of(make, widths, optimizer=None, rounds=60):
    """``seed -> `` share of the test images that are classified right; compiled once."""
    optimizer = optimizer or optax.sgd(0.1)
    init, apply = make(dict(widths))
    takes = inspect.signature(apply).parameters.keys()
    names, how = axes.infer(make, widths), method.ist()
    narrow = partition.sub_widths(how.draw, widths, WORKERS)
    loss = loss_of(make, narrow)
    shapes = jax.eval_shape(init, jax.random.key(0))
    trainer = ist_jax.build(loss, optimizer, shapes, names, method=how, workers=WORKERS)
    drawn, evaluation = jax.jit(init), {"train": False} if "train" in takes else {}

    @jax.jit
    def predict(params, train_x, x):
        if "statistics" not in takes:
            return apply(params, x, **evaluation)
        _, statistics = apply(params, train_x, **evaluation)
        return apply(params, x, statistics=statistics, **evaluation)

    def run(seed):
        of_digits = data.Batches(
            *(digits().train_x, digits().train_y),
            **{"workers": WORKERS, "batch": 32, "local_steps": 8, "seed": seed},
        )
        state = trainer.init(drawn(jax.random.key(seed)), jax.random.key(1000 + seed))
        for number in range(rounds):
            state, _ = trainer.round(state, of_digits(number))
        logits = predict(trainer.whole(state).params, digits().train_x, digits().test_x)
        return float((np.argmax(logits, axis=-1) == digits().test_y).mean())

    return run


def loss_of(make, narrow):
    """The loss of a subnet: its leaves, in the tree that the model of its widths has."""
    init, apply = make(narrow)
    tree = jax.tree.structure(jax.eval_shape(init, jax.random.key(0)))
    takes = inspect.signature(apply).parameters.keys()

    def loss(params, batch, key):
        params = jax.tree.unflatten(tree, jax.tree.leaves(params))
        named = {name: value for name, value in (("train", True), ("key", key)) if name in takes}
        logits = apply(params, batch["x"], **named)
        logits = logits[0] if "statistics" in takes else logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    return loss
