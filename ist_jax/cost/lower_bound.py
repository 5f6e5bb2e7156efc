"""What no exchange can go below."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ist_jax.sharded.layout import Layout


def least_received(layout: Layout, counts: Mapping[str, np.ndarray]) -> float:
    """Bytes that a device must receive in a round, on average over devices and draws.

    No exchange that merges every entry in one place does with less, as long as a draw does not look
    at who held what: of what a worker will train, an n-th is on its device already. Leaves that all
    share come as in a ring, 2 (n - 1) / n times; rows with one holder come from the one before,
    all others from where they are merged, and go back there.

    Args:
      layout: how the net lies on n devices.
      counts: neurons of each cut group that each worker holds (``neurons_held``).
    """
    total = 0.0
    for leaf in layout.leaves:
        held: Any = np.float64(leaf.dtype.itemsize)
        for size, group in zip(leaf.shape, leaf.names, strict=True):
            held = held * (counts[group] if group else size)
        each = np.mean(held) * (layout.workers_each if leaf.split else 1)
        total += each if leaf.travels else 2 * each
    return float(total) * (layout.devices - 1) / layout.devices
