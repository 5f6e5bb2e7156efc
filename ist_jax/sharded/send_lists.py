"""Who sends which neurons to whom, when they are spread over devices.

On one side every neuron has exactly one *position*: at home (runs of consecutive neurons, one run a
device), or with its only holder. On the other side are the slots of an assignment, where a neuron
may be many times or not at all. ``SendLists`` name, for every pair of devices, the neurons that are
on both sides; they are read in both directions.

Where a neuron has several holders, their contributions must be added up in the order of the
workers. So lists are kept apart by *rank*, the number of holders with a smaller number: a chunk
carries contributions of one rank, and ranks go one after another.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from ist_jax.core.indexing import put, stable_order, take


class SendLists(NamedTuple):
    """Lists of neurons for every pair of devices; D devices, R ranks.

    Attributes:
      slots: all slots ``[D n]``, sorted by (holder's device, other device, rank); the empty
        slots of a device stand at its end.
      places: for each of these, its neuron's position on the other side, counted within its device.
      starts, lengths: ``[D, D, R]``, where the list of (holder's device, other device, rank) begins
        and how long it is.
      positions: that a device has on the other side.
    """

    slots: Int[Array, " slots"]
    places: Int[Array, " slots"]
    starts: Int[Array, "D D R"]
    lengths: Int[Array, "D D R"]
    positions: int

    @property
    def device_slots(self) -> int:
        """Slots a device has."""
        return self.slots.size // len(self.starts)


def positions_at_home(width: int) -> Int[Array, " N"]:
    """The home positions of all neurons, ``ceil(N/D)`` a device: their numbers."""
    return jnp.arange(width, dtype=jnp.int32)


def positions_of_holders(ids: Int[Array | np.ndarray, "S m"], width: int) -> Int[Array, " N"]:
    """The position of every neuron of an assignment in which each has exactly one."""
    flat = jnp.asarray(ids).ravel()
    positions = jnp.zeros(width, jnp.int32)
    return put(positions, jnp.arange(flat.size, dtype=jnp.int32), flat)


def lists_between(
    ids: Int[Array | np.ndarray, "S m"],
    positions: Int[Array, " N"],
    a_device: int,
    devices: int,
    ranks: int = 1,
) -> SendLists:
    """The lists between an assignment's slots and the side where every neuron has one position.

    Args:
      ids: the assignment of one group; ids from N on are empty slots.
      positions: the one position of every neuron, counted over all devices.
      a_device: positions a device has on that side.
      devices: D, a divisor of S.
      ranks: the most holders a neuron can have.
    """
    ids = jnp.asarray(ids)
    width, flat, lists = len(positions), ids.ravel(), devices * ranks
    position = take(positions, jnp.minimum(flat, width - 1))
    key = lax.div(position, a_device) * ranks + _rank(ids, width, ranks)
    key = jnp.where(flat < width, key, lists).reshape(devices, -1)
    holder, held = jnp.arange(devices)[:, None], key.shape[1]
    order = (holder * held + stable_order(key, lists + 1)).ravel().astype(jnp.int32)
    count = jnp.zeros((devices, lists + 1), jnp.int32)
    count = count.at[holder, key].add(1, wrap_negative_indices=False)
    starts = holder * held + jnp.cumsum(count, axis=1) - count
    shape = (devices, devices, ranks)
    return SendLists(
        slots=order,
        places=take(lax.rem(position, a_device), order),
        starts=starts[:, :-1].reshape(shape),
        lengths=count[:, :-1].reshape(shape),
        positions=a_device,
    )


def _rank(ids: Int[Array, "S m"], width: int, ranks: int) -> Int[Array, " slots"]:
    """For each slot, how many earlier workers hold its neuron."""
    if ranks == 1:
        return jnp.zeros(ids.size, jnp.int32)
    workers = jnp.arange(len(ids))[:, None]
    holds = put(jnp.zeros((len(ids), width + 1), jnp.int32), 1, workers, ids)
    earlier = jnp.cumsum(holds, axis=0) - holds
    return take(earlier, workers, ids).ravel()
