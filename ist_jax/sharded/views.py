"""A net between two rounds, seen in several ways: laid out for a round, at home, in natural shapes.

Each function gives a program over the whole mesh; ``at_home`` has what a device does in it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ist_jax.partition import Assignment
from ist_jax.sharded import at_home
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import WORKER, LeafLayout
from ist_jax.sharded.placement import EVERYWHERE, in_group, place, shard_map

PyTree = Any


def lay_out(
    layout: Layout, over: Mesh, make: Callable[[Any], PyTree]
) -> Callable[[Any, Assignment], PyTree]:
    """``(start, assignment) -> `` the net ``make(start)`` laid out; a device makes its own part."""
    shardings = jax.tree.map(lambda spec: NamedSharding(over, spec), layout.specs)
    leave_home = shard_map(
        functools.partial(at_home.leave_home, layout),
        mesh=over,
        in_specs=(layout.specs, EVERYWHERE),
        out_specs=layout.specs,
    )

    @jax.jit
    def compiled(start, assignment):
        home = lax.with_sharding_constraint(at_home.to_home_shape(layout, make(start)), shardings)
        return leave_home(home, assignment)

    def on_the_mesh(leaf):
        there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == set(over.devices.flat)
        return leaf if there else place(leaf, over)

    return lambda start, assignment: compiled(
        jax.tree.map(on_the_mesh, start), place(dict(assignment), over)
    )


def bring_home(layout: Layout, over: Mesh) -> Callable[[PyTree, Assignment], PyTree]:
    """``(carried, assignment) -> `` the net with all its rows at home."""
    if layout.devices == 1:
        return lambda carried, assignment: carried
    come_home = functools.partial(at_home.come_home, layout)
    in_specs = layout.specs, EVERYWHERE
    return jax.jit(shard_map(come_home, mesh=over, in_specs=in_specs, out_specs=layout.specs))


def unfold(layout: Layout, over: Mesh, whole: bool) -> Callable[[PyTree, Assignment], PyTree]:
    """``(carried, assignment) -> `` a copy in natural shapes, where ``unfolded`` says."""
    if layout.devices == 1 and in_group(over) == 1:
        return lambda carried, assignment: jax.tree.map(jnp.copy, carried)
    unfolding = functools.partial(at_home.unfold, layout, everywhere=whole)
    sharding_of = layout.tree.unflatten(sharding.spec for sharding in unfolded(layout, over, whole))
    in_specs = layout.specs, EVERYWHERE
    return jax.jit(shard_map(unfolding, mesh=over, in_specs=in_specs, out_specs=sharding_of))


def unfolded(layout: Layout, over: Mesh, whole: bool = False) -> list[NamedSharding]:
    """Where each leaf is in its natural shape: its part on every device, or whole on all of them.

    Whole it is if asked, and where D does not divide the width.
    """

    def spec(leaf):
        on_all = whole or not layout.even(leaf)
        return EVERYWHERE if on_all else _natural(leaf)

    return [NamedSharding(over, spec(leaf)) for leaf in layout.leaves]


def unsharded(layout: Layout, over: Mesh, home: PyTree) -> PyTree:
    """Rows at home in their natural shapes, inside a program; each device keeps its own."""

    shardings = layout.tree.unflatten(NamedSharding(over, _natural(leaf)) for leaf in layout.leaves)
    return lax.with_sharding_constraint(at_home.from_home_shape(layout, home), shardings)


def _natural(leaf: LeafLayout) -> PartitionSpec:
    """Where a leaf at home is, in its natural shape."""
    axis = leaf.split_axis
    return EVERYWHERE if axis is None else PartitionSpec(*(None,) * axis, WORKER)


def on_params(layout: Layout, devices: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(net, ...)`` of a net with all its rows at home, compiled; it looks at it there."""
    several = jax.process_count() > 1
    return jax.jit(
        lambda rows, *arguments: function(unsharded(layout, devices, rows), *arguments),
        out_shardings=NamedSharding(devices, EVERYWHERE) if several else None,
    )
