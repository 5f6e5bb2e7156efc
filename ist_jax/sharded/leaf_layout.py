"""How one leaf is kept between two rounds; the axes of a mesh, and the ways that rows go."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ist_jax import axes
from ist_jax.compress import Code, Part
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state.carried import TRAINED, Role

WORKER, DATA = "worker", "data"  # the axes of a mesh
FROM_HOME, TO_NEXT, TO_HOME = WAYS = ("from home", "to next", "to home")  # of ``transfers``
PADDING = 1 / 8  # of a sliced axis, at most


class LeafLayout(NamedTuple):
    """How a leaf is kept between two rounds.

    Attributes:
      shape, dtype: of the leaf in the net.
      axis: the axis whose neurons are rows; None if it has none.
      group: the group of that axis.
      others: the groups of the other cut axes, by axis of a row (1 is the first).
      travels: whether the rows are with their holders, and not at home.
      code: in which rows go home; as they are if None.
      cut: the first cut axis, also where there is one device.
      sliced: the axis that is split over the devices, of a leaf that is kept in slices.
      names: of the axes that are cut; None of the others.
      error: under which name workers remember what its code left out; empty if they do not.
      role: what it is to a round (``optimizer_state.carried``).
    """

    shape: tuple[int, ...]
    dtype: Any
    axis: int | None = None
    group: str = ""
    others: Mapping[int, str] = {}
    travels: bool = False
    code: Code | None = None
    cut: int | None = None
    sliced: int | None = None
    names: axes.AxisNames = ()
    error: str = ""
    role: Role = TRAINED

    @property
    def split(self) -> bool:
        """Whether every device has a part of it."""
        return self.split_axis is not None

    @property
    def split_axis(self) -> int | None:
        """The axis along which devices have parts of it, in its natural shape."""
        return self.axis if self.sliced is None else self.sliced

    @property
    def trained(self) -> bool:
        """Whether it is gathered into subnets, and put back."""
        return self.role.kind == "trained"

    @property
    def spec(self) -> PartitionSpec:
        """How it is spread between two rounds; rows are in front."""
        if self.sliced is not None:
            return PartitionSpec(*(None,) * self.sliced, WORKER)
        return PartitionSpec() if self.axis is None else PartitionSpec(WORKER)

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


def placed(
    leaf: axes.Leaf,
    code: Code | None,
    role: Role,
    *,
    slots: Mapping[str, int],
    external: Collection[str],
    devices: int,
    disjoint: bool,
) -> LeafLayout:
    """How a leaf is kept; a leaf of the server's as the parameter of which it has ``code``.

    Raises:
      InputError: the first axis that is cut is of an external group.
    """
    cut = leaf.cut_axes(slots)
    if cut and leaf.names[cut[0]] in external:
        raise InputError(
            f"the first cut axis of leaf {leaf.path} is of group {leaf.names[cut[0]]!r}, whose "
            "neurons come with every round: a group that is drawn must come before it"
        )
    names = tuple(name if axis in cut else None for axis, name in enumerate(leaf.names))
    kept = LeafLayout(leaf.shape, jnp.dtype(leaf.dtype), names=names, role=role)
    kept = kept._replace(code=code if kept.trained else None, cut=cut[0] if cut else None)
    if kept.code is not None and kept.code.feedback and not cut:
        return kept._replace(error=error_name(leaf.path))
    if devices > 1 and role.kind == "own":
        return kept._replace(sliced=0)
    if not cut or devices == 1:
        return kept
    others = {axis: leaf.names[axis] or "" for axis in cut[1:]}
    if goes_on(leaf, slots, code, disjoint):
        return kept._replace(axis=cut[0], group=leaf.names[cut[0]] or "", travels=True)
    if code is None and (sliced := sliced_axis(leaf.shape, cut, devices)) is not None:
        return kept._replace(sliced=sliced)
    return kept._replace(axis=cut[0], group=leaf.names[cut[0]] or "", others=others)


def goes_on(leaf: axes.Leaf, cut: Collection[str], code: Code | None, disjoint: bool) -> bool:
    """Whether rows go from holder to holder. Not in a code: a next holder lacks the old value."""
    return disjoint and len(leaf.cut_axes(cut)) == 1 and code is None


def error_name(path: str) -> str:
    """``params.hidden0.kernel``, for what a path in ``(params, opt_state)`` says."""
    return re.sub(r"\['?(.*?)'?\]", r".\1", path.removeprefix("[0]")).strip(".")


def sliced_axis(shape: tuple[int, ...], cut: Sequence[int], devices: int) -> int | None:
    """The axis along which slices have the least padding, the longest of several, or None."""
    padding = {
        axis: -size % devices / size
        for axis, size in enumerate(shape)
        if axis not in cut and size >= devices
    }
    able = [axis for axis, share in padding.items() if share <= PADDING]
    return min(able, key=lambda axis: (padding[axis], -shape[axis])) if able else None
