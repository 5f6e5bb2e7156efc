"""A few rounds of a method on a raw net."""

import jax
import optax
from conftest import mlp_loss

import ist_jax


def trainer_of(params, names, how, workers, optimizer=None, **options):
    optimizer = optimizer or optax.sgd(0.1)
    return ist_jax.build(mlp_loss, optimizer, params, names, method=how, workers=workers, **options)


def run(params, names, how, batches, workers=4, optimizer=None, took_part=None, **options):
    trainer = trainer_of(params, names, how, workers, optimizer, **options)
    state = trainer.init(params, jax.random.key(3))
    reports = []
    for batch in batches:
        state, report = trainer.round(state, batch, took_part)
        reports.append(report)
    return state, reports
