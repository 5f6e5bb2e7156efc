"""How a net lies on D devices between two rounds.

A cut leaf lies in *rows*, one for each neuron of its first cut axis, which stands in front; every
device has an equal part of them. Two ways to lie:

* *at home*: rows in the order of the neurons, a run of ``ceil(N/D)`` on each device;
* *with the holders*: rows in the slots of the coming round's assignment. For leaves with one cut
  axis, where every neuron has exactly one holder. They go straight from this round's holder to the
  next one's, which is one exchange a round instead of two.

A leaf that nothing cuts is whole on every device, and so is every leaf where there is one device.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ist_jax import axes
from ist_jax.compress import Code, Part
from ist_jax.core.errors import InputError
from ist_jax.sharded import send_lists

PyTree = Any
SMALL_BYTES = 1 << 16  # less than that does not travel alone


class Leaf(NamedTuple):
    """How a leaf lies at rest.

    Attributes:
      shape, dtype: of the leaf in the net.
      axis: the axis whose neurons are rows; None if nothing cuts the leaf.
      group: the group of that axis.
      others: the groups of the other cut axes, by axis of a row (1 is the first).
      travels: whether the rows lie with their holders.
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
        if self.code is None or way != "back":
            return [(length, self.dtype)]
        return [(n, jnp.dtype(dtype)) for n, dtype in self.code.parts(length)]


class Message(NamedTuple):
    """What a device sends to each other one in a pass; ``parts``: which of the journey's rows'."""

    parts: list[int]
    size: int  # elements
    itemsize: int  # bytes of each


class Journey(NamedTuple):
    """Leaves that go the same way in one message: those with rows of one group.

    Attributes:
      name: of the way, ``"out"`` (from home), ``"on"`` (from holder to holder) or ``"back"``, and
        the group.
      leaves: their numbers.
      capacity: rows that a pass carries from each device to each.
      messages: how they go in a pass; small leaves of one type together, which saves messages, and
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
    """How a net lies on D devices, known before anything runs."""

    leaves: list[Leaf]
    names: PyTree
    tree: Any  # its structure
    widths: dict[str, int]
    slots: dict[str, int]  # m of each cut group
    workers: int
    devices: int
    disjoint: bool
    exact: bool

    @property
    def some(self) -> int:
        """Workers on a device."""
        return self.workers // self.devices

    def home(self, group: str) -> int:
        """Rows a device has at home."""
        return -(-self.widths[group] // self.devices)

    def even(self, leaf: Leaf) -> bool:
        """Whether every device has equally many rows of it at home, and none of them is padding."""
        return leaf.split and self.widths[leaf.group] % self.devices == 0

    def held(self, group: str) -> int:
        """Slots a device has."""
        return self.some * self.slots[group]

    def journeys(self, way: str) -> list[Journey]:
        """All journeys ``"out"``, ``"on"`` or ``"back"``."""
        found: dict[str, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            if leaf.split and leaf.travels == (way == "on"):
                found.setdefault(leaf.group, []).append(number)
        return [self._journey(way, group, found[group]) for group in found]

    def _journey(self, way: str, group: str, numbers: list[int]) -> Journey:
        parts = [part for n in numbers for part in self.leaves[n].parts(self.slots, way)]
        row_bytes = sum(length * dtype.itemsize for length, dtype in parts)
        capacity = send_lists.capacity(self.held(group) / self.devices, row_bytes)
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
        return Journey(f"{way} {group}", group, numbers, capacity, messages, self.workers)


def plan(
    params: PyTree,
    names: PyTree,
    *,
    who: Mapping[str, Any],
    workers: int,
    devices: int,
    disjoint: bool,
    exact: bool,
    given: Mapping[str, int] | None = None,
    codes: Sequence[Code | None] = (),
) -> Layout:
    """How a net is spread; ``params`` and ``who`` may be shapes.

    Args:
      params: the net, and whatever else travels with its neurons.
      names: the names of its axes.
      who: an assignment of the kind that will be drawn.
      workers: S.
      devices: D, a divisor of S.
      disjoint: every neuron always has exactly one holder.
      exact: means of shared leaves are added up in the order of the workers, so that their bits do
        not depend on D.
      given: groups that are not drawn but told in every round, and a worker's slots of each.
      codes: of the first leaves, in which they go home, or None.

    Raises:
      InputError: fewer neurons than devices, or a leaf whose first cut axis is of a group that is
        given: its rows would have no place between two rounds.
    """

    widths, given = axes.widths(params, names), dict(given or {})
    slots = {group: ids.shape[1] for group, ids in who.items()} | given
    for group in who:
        if widths[group] < devices:
            raise InputError(
                f"group {group!r} has {widths[group]} neurons for {devices} devices. Use fewer "
                "devices, or let several share a worker (mesh.data)."
            )

    def rest(path, leaf, leaf_names, code):
        shape, dtype = tuple(leaf.shape), jnp.dtype(leaf.dtype)
        cut = [axis for axis, group in enumerate(leaf_names) if group in slots]
        if cut and leaf_names[cut[0]] in given:
            raise InputError(
                f"the first cut axis of leaf {path} is of group {leaf_names[cut[0]]!r}, which is "
                "given in every round: a group that is drawn must come before it"
            )
        if not cut or devices == 1:
            return Leaf(shape, dtype, code=code, cut=cut[0] if cut else None)
        first = cut[0]
        others = {axis: leaf_names[axis] for axis in cut[1:]}
        travels = disjoint and not others and code is None  # a next holder lacks the old value
        return Leaf(shape, dtype, first, leaf_names[first], others, travels, code, first)

    walked = axes.walk(params, names)
    every = [*codes, *[None] * (len(walked) - len(codes))]
    return Layout(
        leaves=[rest(*leaf, code) for leaf, code in zip(walked, every, strict=True)],
        names=names,
        tree=jax.tree.structure(params),
        widths=widths,
        slots=slots,
        workers=workers,
        devices=devices,
        disjoint=disjoint,
        exact=exact,
    )
