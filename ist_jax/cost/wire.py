"""Bytes between devices in a round, in closed form: of the messages that a program sends.

Entries that stay where they are needed next are not sent, and messages have a fixed size.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ist_jax.compress import Code
from ist_jax.compress.codes import BACK, BLOCK, blocks_of
from ist_jax.partition import Assignment
from ist_jax.sharded import all_reduce, coded_mean
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import TO_HOME, TO_NEXT, WAYS, LeafLayout


def chunks(
    layout: Layout,
    assignment: Assignment,
    next_assignment: Assignment | None = None,
    took_part: np.ndarray | None = None,
) -> dict[str, int]:
    """Chunks of each transfer in a round that goes from one assignment to the next.

    As many as the longest list of neurons that one device has for another one needs.
    """
    everyone = np.ones(layout.workers, bool) if took_part is None else np.asarray(took_part)
    found: dict[str, int] = {}
    for way in WAYS:
        found |= {swap.name: swap.times for swap in layout.swaps(way)}
        for transfer in layout.transfers(way):
            streams: Any = 0
            for rows in transfer.groups:
                ids, lies = _sides(layout, way, rows.group, assignment, next_assignment)
                if way == TO_HOME:
                    ids = np.where(everyone[:, None], ids, layout.widths[rows.group])
                ranks = 1 if way != TO_HOME or layout.disjoint else layout.workers
                streams = streams + rows.units * _list_lengths(layout, ids, lies, ranks)
            longest = streams.max(axis=(1, 2))
            found[transfer.name] = int((-(-longest // transfer.capacity)).sum())
    return found


def _sides(
    layout: Layout, way: str, group: str, assignment: Assignment, next_assignment: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The slots' neurons ``[S, m]`` and the device of each neuron on the other side ``[N]``."""
    width = layout.widths[group]
    ids = np.asarray(assignment[group])
    lies = np.arange(width) // layout.home(group)
    if way == TO_NEXT and next_assignment is not None:
        holders, slots = np.nonzero(ids < width)
        lies[ids[holders, slots]] = holders // layout.workers_each
        ids = np.asarray(next_assignment[group])
    return ids, lies


def _list_lengths(layout: Layout, ids: np.ndarray, lies: np.ndarray, ranks: int) -> np.ndarray:
    """How many neurons go between each two devices, ``[ranks, D, D]``."""
    earlier = np.zeros(len(lies), int)  # holders with a smaller number
    lists = np.zeros((ranks, layout.devices, layout.devices), int)
    for worker, row in enumerate(ids):
        held, device = row[row < len(lies)], worker // layout.workers_each
        rank = np.minimum(earlier[held], ranks - 1)
        np.add.at(lists, (rank, device, lies[held]), lies[held] != device)
        earlier[held] += 1
    return lists


def received(
    layout: Layout,
    chunks: Mapping[str, Any],
    *,
    gradients: int = 0,
    steps: int = 1,
    data: int = 1,
    drop_nonfinite: bool = False,
    external: int = 0,
) -> float:
    """Bytes that every device receives from those of other workers in a round.

    Args:
      layout: how the net lies.
      chunks: of each transfer (``Report.chunks``, or ``chunks`` above).
      gradients: so many of the first leaves are averaged at every step (data parallel).
      steps: J.
      data: devices that share a worker; each moves its part.
      drop_nonfinite: whether workers tell whose update is finite, in a byte.
      external: slots of a worker in external groups; their ids go to all.

    Returns:
      Bytes of the messages; a device does not send to itself. An all-reduce counts as a ring's,
      which passes every byte but a D-th twice. Losses are counted too, as float32.
    """
    if layout.devices == 1:
        return 0.0
    others = layout.devices - 1
    flags = drop_nonfinite * (steps if gradients else 1)
    total = (4.0 + flags + 4 * external) * layout.workers_each * others
    for way in WAYS:
        for transfer in layout.transfers(way):
            for message in transfer.messages:
                each = -(-message.size // data) * message.itemsize
                total += int(chunks[transfer.name]) * others * each
        for swap in layout.swaps(way):
            each = -(-swap.size // data) * swap.itemsize
            total += swap.times * others * each
    if gradients:
        return total + steps * _merged(layout, layout.leaves[:gradients], data)
    whole = [leaf for leaf in layout.leaves if leaf.trained and not leaf.split]
    return total + _merged(layout, whole, data)


def _merged(layout: Layout, every: Sequence[LeafLayout], data: int) -> float:
    """Bytes a device receives where these leaves are averaged over all workers."""
    others, total = layout.devices - 1, 0.0
    times, each, code = _in_codes(every, layout, data)
    if code is not None:
        there = layout.workers_each * code.bytes(BLOCK)
        total += others * times * each * (there + BACK.bytes(BLOCK))
    leaves = [leaf for leaf in every if not leaf.code]
    for dtype in {jax.numpy.dtype(leaf.dtype) for leaf in leaves}:
        size = sum(math.prod(leaf.shape) for leaf in leaves if leaf.dtype == dtype)
        if layout.exact:
            parts = layout.devices * data
            times = all_reduce.messages_of(size, dtype, parts, layout.longest)
            part = -(-size // (parts * times)) * times
            total += others * (layout.workers_each + 1) * part * dtype.itemsize
        else:
            total += 2 * others / layout.devices * -(-size // data) * dtype.itemsize
    return total


def messages_in_codes(every: Sequence[LeafLayout], layout: Layout) -> int:
    """Messages, each way, of those of some leaves that nothing cuts and that have a code."""
    return _in_codes(every, layout, 1)[0]


def _in_codes(
    every: Sequence[LeafLayout], layout: Layout, data: int
) -> tuple[int, int, Code | None]:
    """Messages, a device's blocks in each of them, and the code."""
    codes = [leaf.code for leaf in every if leaf.code is not None]
    if not codes:
        return 0, 0, None
    blocks = sum(blocks_of(math.prod(leaf.shape)) for leaf in every if leaf.code is not None)
    return *coded_mean.messages_of(layout, codes[0], blocks, data), codes[0]
