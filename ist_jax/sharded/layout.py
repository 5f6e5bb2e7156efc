"""How a net is spread over D devices between two rounds.

A cut leaf is kept in one of three ways; every device has an equal part of it:

* *with the holders*: as rows, one for each neuron of its cut axis, put in front, in the slots of
  the coming round's assignment. For leaves with one cut axis, where every neuron has exactly one
  holder. They go straight from this round's holder to the next one's, which is one exchange a round
  instead of two.
* *in slices*: every device has its part of every neuron, along an axis that nothing cuts. Whatever
  is drawn, it sends to every other one its slices of what that one's workers hold: as much to each,
  so that nobody waits for the longest of many lists. For all others that have such an axis: blocks
  of a net, which are few and large.
* *at home*: as rows in the order of the neurons, a run of ``ceil(N/D)`` on each device. For the
  rest.

A leaf that nothing cuts is whole on every device, and so is every leaf where there is one device. A
worker's own state is with the worker, and an outer optimizer's as the parameters that it is of.
"""

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ist_jax.axes import Net
from ist_jax.compress import Code
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state.carried import TRAINED, Role
from ist_jax.sharded import leaf_layout, messages
from ist_jax.sharded.leaf_layout import FROM_HOME, TO_HOME, TO_NEXT, WORKER, LeafLayout
from ist_jax.sharded.messages import Rows, Swap, Transfer

PyTree = Any


class Layout(NamedTuple):
    """How a net is spread over D devices, known before anything runs."""

    leaves: list[LeafLayout]
    names: PyTree
    tree: Any  # its structure
    widths: dict[str, int]
    slots: dict[str, int]  # m of each cut group
    workers: int
    devices: int
    disjoint: bool
    exact: bool
    message: int | None = None  # bytes that a device sends at a time, to all; chosen if None

    @property
    def specs(self) -> PyTree:
        """How it is spread between two rounds, for ``shard_map``."""
        return self.tree.unflatten(leaf.spec for leaf in self.leaves)

    @property
    def workers_each(self) -> int:
        """Workers on a device."""
        return self.workers // self.devices

    @property
    def device_workers(self) -> Array:
        """The numbers of the workers on this device, ``int32[S / D]``."""
        device = 0 if self.devices == 1 else lax.axis_index(WORKER)
        return device * self.workers_each + jnp.arange(self.workers_each, dtype=jnp.int32)

    @property
    def errors(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What workers remember of updates that went in codes, ``[S, ...]``, by the leaf's name."""
        shape = lambda leaf: jax.ShapeDtypeStruct((self.workers, *leaf.shape), leaf.dtype)
        return {leaf.error: shape(leaf) for leaf in self.leaves if leaf.error}

    @property
    def longest(self) -> float:
        """Bytes of a message to each other device, at most."""
        return messages.longest(self.devices, self.message)

    def home(self, group: str) -> int:
        """Rows a device has at home."""
        return -(-self.widths[group] // self.devices)

    def part(self, leaf: LeafLayout) -> int:
        """The length of a device's part along the split axis, at home; the last may be padding."""
        assert leaf.split_axis is not None
        return -(-leaf.shape[leaf.split_axis] // self.devices)

    def even(self, leaf: LeafLayout) -> bool:
        """Whether every device has an equal part of it at home, and no padding."""
        return leaf.split and leaf.shape[leaf.split_axis or 0] % self.devices == 0

    def device_slots(self, group: str) -> int:
        """Slots a device has."""
        return self.workers_each * self.slots[group]

    def transfers(self, way: str) -> list[Transfer]:
        """All transfers that go one of the ``WAYS``: of several groups together to next holders, of
        each group from home and to home."""
        found: dict[str, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            goes = leaf.trained or way == TO_NEXT
            if goes and leaf.axis is not None and leaf.travels == (way == TO_NEXT):
                found.setdefault(leaf.group, []).append(number)
        if way != TO_NEXT:
            return [self._transfer(way, {group: found[group]}, None) for group in found]
        shares = {group: self._share(group, self._row(way, found[group])) for group in found}
        message = self._message(sum(shares.values(), 0.0))
        bundles = messages.bundles(shares, message)
        return [self._transfer(way, {g: found[g] for g in some}, message) for some in bundles]

    def swaps(self, way: str) -> list[Swap]:
        """What slices go, from home or to home: one for each type of number."""
        found: dict[Any, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            if leaf.trained and leaf.sliced is not None and way in (FROM_HOME, TO_HOME):
                found.setdefault(leaf.dtype, []).append(number)
        out = []
        for dtype, numbers in found.items():
            total = sum(self.slice_entries(self.leaves[n]) for n in numbers)
            times = math.ceil(total * dtype.itemsize / self.longest)
            size = -(-total // times)
            out.append(Swap(f"{way} in slices, {dtype}", numbers, times, size, dtype.itemsize))
        return out

    def slice_entries(self, leaf: LeafLayout) -> int:
        """Entries that a device sends to another one, of its slice of what that one holds."""
        named = zip(leaf.shape, leaf.names, strict=True)
        sizes = [self.slots[name] if name else size for size, name in named]
        sizes[leaf.sliced or 0] = self.part(leaf)
        return self.workers_each * math.prod(sizes)

    def _transfer(
        self, way: str, groups: Mapping[str, list[int]], message: float | None
    ) -> Transfer:
        """In messages of about so many bytes; of their own size if None."""
        lengths = {group: self._row(way, numbers) for group, numbers in groups.items()}
        units, unit = messages.units(lengths, {g: self.device_slots(g) for g in groups})
        share = sum(self.device_slots(g) * units[g] for g in groups) / self.devices
        nbytes = messages.row_bytes(unit)
        capacity = messages.capacity(share, nbytes, message or self._message(share * nbytes))
        rows = [Rows(group, numbers, units[group]) for group, numbers in groups.items()]
        others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        return Transfer(f"{way} {rows[0].group}{others}", rows, unit, capacity, self.workers)

    def _message(self, share: float) -> float:
        return messages.message_bytes(share, self.devices, self.message)

    def _share(self, group: str, row: Mapping[Any, int]) -> float:
        """Bytes of such rows that a device has for another one, on average."""
        return self.device_slots(group) * messages.row_bytes(row) / self.devices

    def _row(self, way: str, numbers: Sequence[int]) -> dict[Any, int]:
        """Elements in a row of some leaves, for each type of number."""
        found: dict[Any, int] = {}
        for length, dtype in [p for n in numbers for p in self.leaves[n].parts(self.slots, way)]:
            found[dtype] = found.get(dtype, 0) + length
        return found


def spread_out(
    net: Net,
    *,
    slots: Mapping[str, int],
    workers: int,
    devices: int,
    disjoint: bool,
    exact: bool,
    external: Collection[str] = (),
    codes: Sequence[Code | None] = (),
    message: int | None = None,
    roles: Sequence[Role] = (),
) -> Layout:
    """How a net is spread.

    Args:
      net: whatever travels with its neurons, such as the parameters and their moments.
      slots: of a worker, in each group that is cut.
      workers: S.
      devices: D, a divisor of S.
      disjoint: every neuron always has exactly one holder.
      exact: means of shared leaves are added up in the order of the workers, so that their bits do
        not depend on D.
      external: those of the groups that are not drawn but come with every round.
      codes: of the first leaves, in which they go home, or None.
      message: bytes that a device sends to all others at a time; chosen if None.
      roles: of all leaves (``optimizer_state.carried``); all are trained if absent.

    Raises:
      InputError: fewer neurons than devices, or a leaf whose first cut axis is of an external
        group: its rows would have no place between two rounds.
    """
    for group in slots:
        if group not in external and net.widths[group] < devices:
            raise InputError(
                f"group {group!r} has {net.widths[group]} neurons for {devices} devices. Use fewer "
                "devices, or let several share a worker (mesh.data)."
            )
    roles = roles or [TRAINED] * len(net.leaves)
    codes = [*codes, *[None] * (len(net.leaves) - len(codes))]
    place = functools.partial(
        leaf_layout.placed, slots=slots, external=external, devices=devices, disjoint=disjoint
    )
    return Layout(
        leaves=[
            place(leaf, codes[n if role.of is None else role.of], role)
            for n, (leaf, role) in enumerate(zip(net.leaves, roles, strict=True))
        ],
        names=net.names,
        tree=net.tree,
        widths=net.widths,
        slots=dict(slots),
        workers=workers,
        devices=devices,
        disjoint=disjoint,
        exact=exact,
        message=message,
    )
