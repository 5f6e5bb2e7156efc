"""How a net is spread over D devices between two rounds.

A cut leaf is kept as *rows*, one for each neuron of its first cut axis, put in front; every
device has an equal part of them. There are two ways to keep them:

* *at home*: rows in the order of the neurons, a run of ``ceil(N/D)`` on each device;
* *with the holders*: rows in the slots of the coming round's assignment. For leaves with one cut
  axis, where every neuron has exactly one holder. They go straight from this round's holder to the
  next one's, which is one exchange a round instead of two.

A leaf that nothing cuts is whole on every device, and so is every leaf where there is one device.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ist_jax import axes
from ist_jax.axes import Net
from ist_jax.compress import Code, Part
from ist_jax.core.errors import InputError
from ist_jax.sharded import send_lists

PyTree = Any
WORKER, DATA = "worker", "data"  # the axes of a mesh
FROM_HOME, TO_NEXT, TO_HOME = WAYS = ("from home", "to next", "to home")  # of ``transfers``
SMALL_BYTES = 1 << 16  # less than that does not travel alone


class LeafLayout(NamedTuple):
    """How a leaf is kept between two rounds.

    Attributes:
      shape, dtype: of the leaf in the net.
      axis: the axis whose neurons are rows; None if nothing cuts the leaf.
      group: the group of that axis.
      others: the groups of the other cut axes, by axis of a row (1 is the first).
      travels: whether the rows are with their holders, and not at home.
      code: in which rows go home; as they are if None.
      cut: the first cut axis, also where there is one device.
    """

    shape: tuple[int, ...]
    dtype: Any
    axis: int | None = None
    group: str = ""
    others: Mapping[int, str] = {}
    travels: bool = False
    code: Code | None = None
    cut: int | None = None

    @property
    def split(self) -> bool:
        """Whether every device has a part of it."""
        return self.axis is not None

    def row(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of a row, with cut axes of these sizes."""
        rest = [n for axis, n in enumerate(self.shape) if axis != self.axis]
        for axis, group in self.others.items():
            rest[axis - 1] = sizes.get(group, rest[axis - 1])
        return tuple(rest)

    def parts(self, sizes: Mapping[str, int], way: str) -> list[Part]:
        """What arrays a row becomes on its way: how many entries each has, and their dtype."""
        length = math.prod(self.row(sizes))
        if self.code is None or way != TO_HOME:
            return [(length, self.dtype)]
        return [(n, jnp.dtype(dtype)) for n, dtype in self.code.parts(length)]


class Message(NamedTuple):
    """What a device sends to each other one in a chunk; ``parts``: which of the rows' parts."""

    parts: list[int]
    size: int  # elements
    itemsize: int  # bytes of each


class Transfer(NamedTuple):
    """Leaves that go the same way in one message: those with rows of one group.

    Attributes:
      name: of the way (``WAYS``) and the group.
      leaves: their numbers.
      capacity: rows that a chunk carries from each device to each.
      messages: how they go in a chunk; small leaves of one type together, which saves messages, and
        a large one alone, which saves a copy.
      workers: S.
    """

    name: str
    group: str
    leaves: list[int]
    capacity: int
    messages: list[Message]
    workers: int


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

    @property
    def specs(self) -> PyTree:
        """How it is spread between two rounds, for ``shard_map``."""
        return self.tree.unflatten(
            PartitionSpec(WORKER) if leaf.split else PartitionSpec() for leaf in self.leaves
        )

    @property
    def workers_each(self) -> int:
        """Workers on a device."""
        return self.workers // self.devices

    def home(self, group: str) -> int:
        """Rows a device has at home."""
        return -(-self.widths[group] // self.devices)

    def even(self, leaf: LeafLayout) -> bool:
        """Whether every device has equally many rows of it at home, and none of them is padding."""
        return leaf.split and self.widths[leaf.group] % self.devices == 0

    def device_slots(self, group: str) -> int:
        """Slots a device has."""
        return self.workers_each * self.slots[group]

    def transfers(self, way: str) -> list[Transfer]:
        """All transfers that go one of the ``WAYS``."""
        found: dict[str, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            if leaf.split and leaf.travels == (way == TO_NEXT):
                found.setdefault(leaf.group, []).append(number)
        return [self._transfer(way, group, found[group]) for group in found]

    def _transfer(self, way: str, group: str, numbers: list[int]) -> Transfer:
        parts = [part for n in numbers for part in self.leaves[n].parts(self.slots, way)]
        row_bytes = sum(length * dtype.itemsize for length, dtype in parts)
        capacity = send_lists.capacity(self.device_slots(group) / self.devices, row_bytes)
        alone: list[Message] = []
        together: dict[Any, Message] = {}
        for part, (length, dtype) in enumerate(parts):
            size = capacity * length
            if size * dtype.itemsize >= SMALL_BYTES:
                alone.append(Message([part], size, dtype.itemsize))
            else:
                others = together.get(dtype, Message([], 0, dtype.itemsize))
                together[dtype] = Message([*others.parts, part], others.size + size, dtype.itemsize)
        messages = [*alone, *together.values()]
        return Transfer(f"{way} {group}", group, numbers, capacity, messages, self.workers)


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
    every = [*codes, *[None] * (len(net.leaves) - len(codes))]
    return Layout(
        leaves=[
            _placed(leaf, code, slots, external, devices, disjoint)
            for leaf, code in zip(net.leaves, every, strict=True)
        ],
        names=net.names,
        tree=net.tree,
        widths=net.widths,
        slots=dict(slots),
        workers=workers,
        devices=devices,
        disjoint=disjoint,
        exact=exact,
    )


def _placed(
    leaf: axes.Leaf,
    code: Code | None,
    slots: Mapping[str, int],
    external: Collection[str],
    devices: int,
    disjoint: bool,
) -> LeafLayout:
    shape, dtype = leaf.shape, jnp.dtype(leaf.dtype)
    cut = leaf.cut_axes(slots)
    if cut and leaf.names[cut[0]] in external:
        raise InputError(
            f"the first cut axis of leaf {leaf.path} is of group {leaf.names[cut[0]]!r}, whose "
            "neurons come with every round: a group that is drawn must come before it"
        )
    if not cut or devices == 1:
        return LeafLayout(shape, dtype, code=code, cut=cut[0] if cut else None)
    first = cut[0]
    others = {axis: leaf.names[axis] or "" for axis in cut[1:]}
    travels = disjoint and not others and code is None  # a next holder lacks the old value
    return LeafLayout(shape, dtype, first, leaf.names[first] or "", others, travels, code, first)
