"""Trains a model of any framework, ``make(widths) -> (init, apply)``, on the digits with IST."""

import functools

import ist_jax
from ist_jax import data


@functools.cache
def digits():
    return data.load("digits")


def run_of(make, widths, optimizer=None, rounds=60):
    """``seed -> `` share of the test images that are classified right."""
    how = {"optimizer": optimizer, "rounds": rounds, "eval_every": rounds, "progress": False}

    def run(seed):
        done = ist_jax.fit(make, digits(), widths=widths, seed=seed, **how)
        return float(done.history["accuracy/test"][-1])

    return run
