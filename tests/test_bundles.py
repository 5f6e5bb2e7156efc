"""Rows of many groups in few messages, and messages of the length that was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import axes, method
from ist_jax.cost import lower_bound, timing, traffic, wire
from ist_jax.optimizer_state.carried import TRAINED, Carried
from ist_jax.sharded import layout, messages
from ist_jax.sharded.leaf_layout import TO_NEXT

F32, F16 = jnp.dtype("float32"), jnp.dtype("float16")


def transformer(layers, wide=32, heads=8):
    """The shapes of so many layers, each with a group of heads and one of hidden neurons."""
    shapes, names = {}, {}
    for layer in range(layers):
        head, hidden = f"heads{layer}", f"hidden{layer}"
        leaves = {
            "query": ((wide, heads, 8), (None, head, None)),
            "out": ((heads, 8, wide), (head, None, None)),
            "up": ((wide, 4 * wide), (None, hidden)),
            "bias": ((4 * wide,), (hidden,)),
            "down": ((4 * wide, wide), (hidden, None)),
            "gain": ((wide,), (None,)),
        }
        shapes[layer] = {k: jax.ShapeDtypeStruct(shape, F32) for k, (shape, _) in leaves.items()}
        names[layer] = {k: of_leaf for k, (_, of_leaf) in leaves.items()}
    return axes.describe(shapes, names)


def spread(net, workers, slots=None, message=None):
    widths = {group: size // workers for group, size in net.widths.items()}
    return layout.spread_out(
        net,
        slots=slots or widths,
        workers=workers,
        devices=workers,
        disjoint=True,
        exact=False,
        message=message,
    )


def alone(net):
    """Nothing is carried beside the net."""
    return Carried(net, (TRAINED,) * len(net.leaves))


def test_24_layers_wait_at_most_30_times_a_round():
    net = transformer(24, wide=64)
    found = timing.exchanged(net, alone(net), method.ist(), 4, 8)
    assert 12 <= found.waits <= 30
    made = spread(net, 4)
    least = lower_bound.least_received(made, traffic.neurons_held(net, method.ist(), 4))
    assert found.bytes_received < 1.3 * least


def test_every_row_goes_once_and_whole():
    made = spread(transformer(6), 4)
    transfers = made.transfers(TO_NEXT)
    groups = [rows.group for transfer in transfers for rows in transfer.groups]
    assert sorted(groups) == sorted(made.slots)
    for transfer in transfers:
        for rows in transfer.groups:
            numbers = sum(np.prod(made.leaves[n].row({})) for n in rows.leaves)
            assert rows.units * transfer.unit[F32] >= numbers


@pytest.mark.parametrize(
    ("rows", "slots"),
    [
        ({"a": {F32: 4097}}, {"a": 8}),
        ({"a": {F32: 4097}, "b": {F32: 36}}, {"a": 1024, "b": 1024}),
        ({"a": {F32: 100, F16: 7}, "b": {F16: 33}}, {"a": 3, "b": 50}),
        ({"a": {F32: 1}, "b": {F32: 100_000}}, {"a": 1000, "b": 2}),
    ],
)
def test_units_hold_every_row_with_little_padding(rows, slots):
    counts, unit = messages.units(rows, slots)
    held = messages.row_bytes
    for group, row in rows.items():
        assert all(counts[group] * unit[dtype] >= n for dtype, n in row.items())
    if len(rows) == 1:
        assert (counts, unit) == ({"a": 1}, rows["a"])
    sent = sum(slots[g] * counts[g] * held(unit) for g in rows)
    needed = sum(slots[g] * held(row) for g, row in rows.items())
    kinds = {dtype for row in rows.values() for dtype in row}
    assert sent <= (1.3 if len(kinds) == 1 else 1.6) * needed + 64 * sum(slots.values())


def test_what_fills_messages_alone_goes_alone():
    shares = {"small": 1.0, "large": 100.0, "other": 3.0, "edge": 20.0}
    assert messages.bundles(shares, 10.0) == [["large"], ["edge"], ["small", "other"]]
    many = {str(number): 19.0 for number in range(11)}  # nearly two messages each
    assert [len(some) for some in messages.bundles(many, 10.0)] == [5, 5, 1]


def test_a_longer_message_means_fewer_waits_for_the_same_bytes():
    net = transformer(4, wide=256)
    few = timing.exchanged(net, alone(net), method.ist(), 4, 1, message_bytes=1 << 24)
    many = timing.exchanged(net, alone(net), method.ist(), 4, 1, message_bytes=1 << 17)
    assert few.waits < 0.7 * many.waits
    assert few.bytes_received == pytest.approx(many.bytes_received, rel=0.15)


@pytest.mark.parametrize("message", [None, 1 << 14, 1 << 18])
def test_no_device_sends_more_at_a_time(message):
    made = spread(transformer(8, wide=128), 4, message=message)
    most = message or messages.MOST_BYTES
    for transfer in made.transfers(TO_NEXT):
        unit = messages.row_bytes(transfer.unit)
        sent = 3 * sum(m.size * m.itemsize for m in transfer.messages)
        assert sent <= most + 3 * unit
    assert wire.received(made, {t.name: 1 for t in made.transfers(TO_NEXT)}) > 0
