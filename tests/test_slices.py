"""Leaves in slices: which are kept so, and that every device gets as much whatever is drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import axes, compress, method, partition
from ist_jax.cost import lower_bound, traffic, wire
from ist_jax.partition import Context
from ist_jax.sharded import layout
from ist_jax.sharded.leaf_layout import FROM_HOME, TO_HOME, WAYS

BLOCKS = {"kernel": (None, None, None, None, "blocks"), "scale": ("blocks", None)}


def net(blocks=10, wide=64):
    shapes = {"kernel": (3, 3, wide, wide, blocks), "scale": (blocks, wide), "shared": (wide, 5)}
    names = {**BLOCKS, "shared": (None, None)}
    leaves = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return axes.describe(leaves, names)


def spread(described, devices, disjoint=False, codes=(), **slots):
    return layout.spread_out(
        described,
        slots=slots,
        workers=devices,
        devices=devices,
        disjoint=disjoint,
        exact=False,
        codes=codes,
    )


def sliced(made):
    return [leaf.sliced for leaf in made.leaves]


def test_what_is_kept_in_slices():
    found = spread(net(), 4, blocks=3)
    assert sliced(found) == [2, 1, None], "along the longest axis that nothing cuts"
    assert found.leaves[0].spec == jax.P(None, None, "worker")
    assert sliced(spread(net(), 4, disjoint=True, blocks=3)) == [None] * 3, "rows travel on"
    assert sliced(spread(net(), 1, blocks=3)) == [None] * 3
    coded = compress.of_leaves(compress.rounded(8), net().leaves, {"blocks"}, False)
    assert [code is not None for code in coded] == [False, False, True], "what all share"
    assert sliced(spread(net(), 4, codes=coded, blocks=3)) == [2, 1, None]
    assert sliced(spread(net(wide=9), 8, blocks=3)) == [None] * 3, "7 of 16 would be padding"
    assert sliced(spread(net(wide=63), 8, blocks=3)) == [2, 1, None], "1 of 64 may be"


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_blocks_move_the_least_bytes_whatever_is_drawn(workers):
    described, how = net(), method.resist(3)
    slots = partition.slot_counts(how.draw, {"blocks": 10}, workers)
    made = spread(described, workers, **slots)
    assert not any(made.transfers(way) for way in WAYS)
    numbers = range(4)
    draws = [how.draw(jax.random.key(0), Context({"blocks": 10}, workers, n)) for n in numbers]
    losses = 4 * (workers - 1)
    for who, after in itertools.pairwise(draws):
        moved = wire.received(made, wire.chunks(made, who, after)) - losses
        # Every worker may hold as many, so that slots are sent of which a few are empty.
        full = lower_bound.least_received(made, {"blocks": np.full(workers, slots["blocks"])})
        assert moved == pytest.approx(full, rel=1e-4)
        held = traffic.held_in(who, {"blocks": 10}, workers, {})
        assert lower_bound.least_received(made, held) <= full


def test_the_least_of_a_net_by_hand():
    described, workers = net(), 4
    block, shared = 4 * (9 * 64 * 64 + 64), 4 * 64 * 5
    held = {"blocks": np.array([3, 3, 2, 2])}
    least = lower_bound.least_received(spread(described, workers, blocks=3), held)
    assert least == pytest.approx(3 / 4 * (2 * shared + 2 * 2.5 * block))
    travelling = lower_bound.least_received(
        spread(described, workers, disjoint=True, blocks=3), held
    )
    assert travelling == pytest.approx(3 / 4 * (2 * shared + 2.5 * block))


def test_long_slices_go_in_messages_of_a_size():
    made = spread(net(wide=512), 4, blocks=3)
    for way in (FROM_HOME, TO_HOME):
        [swap] = made.swaps(way)
        entries = sum(made.slice_entries(leaf) for leaf in made.leaves[:2])
        assert entries <= swap.times * swap.size < entries + swap.times
        assert made.longest / 2 < swap.size * swap.itemsize <= made.longest + swap.itemsize
