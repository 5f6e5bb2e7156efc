"""A net that is all at home: on its way to the first holders, and back, and in natural shapes.

Like those of ``exchange``, these functions run on each device of a mesh; but ``to_home_shape`` and
``from_home_shape`` are of the whole mesh.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ist_jax.partition import Assignment
from ist_jax.sharded import slices, travel
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import TO_NEXT, WORKER, LeafLayout

PyTree = Any


def leave_home(layout: Layout, home: PyTree, assignment: Assignment) -> PyTree:
    """From a net that is all at home: rows that stay with their holders go there."""
    rows = dict(enumerate(layout.tree.flatten_up_to(home)))
    for transfer in layout.transfers(TO_NEXT):
        rows |= travel.leave_home(layout, transfer, rows, assignment)[0]
    return layout.tree.unflatten(rows[n] for n in range(len(rows)))


def come_home(layout: Layout, carried: PyTree, assignment: Assignment) -> PyTree:
    """The net all at home: the inverse of ``leave_home``."""
    rows = dict(enumerate(layout.tree.flatten_up_to(carried)))
    for transfer in layout.transfers(TO_NEXT):
        rows |= travel.come_home(layout, transfer, rows, assignment)[0]
    return layout.tree.unflatten(rows[n] for n in range(len(rows)))


def unfold(layout: Layout, carried: PyTree, assignment: Assignment, *, everywhere: bool) -> PyTree:
    """A copy in natural shapes: this device's part of each leaf that D divides, or all of it."""
    home = come_home(layout, carried, assignment) if layout.devices > 1 else carried

    def one(leaf: LeafLayout, home: Array) -> Array:
        if leaf.split_axis is None:
            return jnp.copy(home)
        axis = leaf.split_axis
        own = home if leaf.axis is None else jnp.moveaxis(home, 0, axis)
        if everywhere or not layout.even(leaf):
            own = lax.all_gather(own, WORKER, axis=axis, tiled=True)
            own = lax.slice_in_dim(own, 0, leaf.shape[axis], axis=axis)
        return own

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(home)))


def to_home_shape(layout: Layout, params: PyTree) -> PyTree:
    """A net in its natural shape as it is at home, padded, rows in front; on the whole mesh."""

    def one(leaf: LeafLayout, value: Array) -> Array:
        if leaf.split_axis is None:
            return value
        padded = slices.pad(layout, leaf, value, leaf.split_axis)
        return padded if leaf.axis is None else jnp.moveaxis(padded, leaf.axis, 0)

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(params)))


def from_home_shape(layout: Layout, home: PyTree) -> PyTree:
    """The inverse of ``to_home_shape``."""

    def one(leaf: LeafLayout, value: Array) -> Array:
        axis = leaf.split_axis
        if axis is None:
            return value
        value = value if leaf.axis is None else jnp.moveaxis(value, 0, axis)
        return lax.slice_in_dim(value, 0, leaf.shape[axis], axis=axis)

    return layout.tree.unflatten(map(one, layout.leaves, layout.tree.flatten_up_to(home)))
