"""A method of somebody's own: windows that overlap and roll on from round to round."""

import functools

import jax.numpy as jnp

from ist_jax.method import Method


def windows(key, context, *, step=1):
    """Worker s holds a half of each group from s / S of it on, ``step`` further each round."""
    assignment = {}
    for group, width in context.widths.items():
        starts = jnp.arange(context.workers) * (width // context.workers) + step * context.number
        ids = (starts[:, None] + jnp.arange(width // 2)) % width
        assignment[group] = jnp.sort(ids.astype(jnp.int32), axis=1)
    return assignment


def method(step=1):
    return Method("rolling", functools.partial(windows, step=step), disjoint=False)
