"""The same gather and scatter when the net is spread over D devices, moving only what must move.

At rest a cut leaf lies in *rows*, one for each neuron of its first cut axis, which stands in front;
every device has an equal part of them. Two ways to lie:

* *at home*: rows in the order of the neurons, a run of ``ceil(N/D)`` on each device;
* *with the holders*: rows in the slots of the coming round's assignment. For leaves with one cut
  axis, where every neuron has exactly one holder. They go straight from this round's holder to the
  next one's (``back``), which is one exchange a round instead of two.

A leaf that nothing cuts is whole on every device, and merged by the mean over the workers.

``out`` gives the subnets of ``decompose.gather`` and ``back`` the net of ``decompose.scatter``, to
the last bit: entries are copied, and means added up in the order of the workers (``routes``). The
functions here run on each device of a mesh (inside ``shard_map``), with its part of every array.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ist_jax import axes, decompose, merge, routes
from ist_jax import mean as means
from ist_jax.indexing import lay, read, slots
from ist_jax.partition import Assignment
from ist_jax.passes import WORKER, Rows, travel
from ist_jax.routes import Route

PyTree = Any


class Rest(NamedTuple):
    """How a leaf lies at rest.

    Attributes:
      shape, dtype: of the leaf in the net.
      axis: the axis whose neurons are rows; None if nothing cuts the leaf.
      group: the group of that axis.
      others: the groups of the other cut axes, by axis of a row (1 is the first).
      travels: whether the rows lie with their holders.
    """

    shape: tuple[int, ...]
    dtype: Any
    axis: int | None = None
    group: str = ""
    others: Mapping[int, str] = {}
    travels: bool = False

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


class Exchange(NamedTuple):
    """What is known of an exchange before it runs: how leaves lie, and between how many."""

    leaves: list[Rest]
    names: PyTree
    tree: Any
    widths: dict[str, int]
    slots: dict[str, int]  # m of each cut group
    workers: int
    devices: int
    disjoint: bool
    exact: bool

    def home(self, group: str) -> int:
        """Rows a device has at home."""
        return -(-self.widths[group] // self.devices)

    def held(self, group: str) -> int:
        """Slots a device has."""
        return self.workers // self.devices * self.slots[group]

    def along(self, travels: bool) -> dict[str, list[int]]:
        """The leaves that go the same way, by group."""
        found: dict[str, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            if leaf.axis is not None and leaf.travels == travels:
                found.setdefault(leaf.group, []).append(number)
        return found

    def row_bytes(self, numbers: list[int]) -> int:
        leaves = [self.leaves[number] for number in numbers]
        return sum(math.prod(leaf.row(self.slots)) * leaf.dtype.itemsize for leaf in leaves)

    def capacity(self, numbers: list[int]) -> int:
        share = self.held(self.leaves[numbers[0]].group) / self.devices
        return routes.capacity(share, self.row_bytes(numbers))


def plan(
    params: PyTree,
    names: PyTree,
    who: Mapping[str, Any],
    *,
    workers: int,
    devices: int,
    disjoint: bool,
    exact: bool,
) -> Exchange:
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
    """

    def rest(leaf, leaf_names):
        shape, dtype = tuple(leaf.shape), jnp.dtype(leaf.dtype)
        cut = [axis for axis, group in enumerate(leaf_names) if group in who]
        if not cut or devices == 1:
            return Rest(shape, dtype)
        first = cut[0]
        others = {axis: leaf_names[axis] for axis in cut[1:]}
        travels = disjoint and not others
        return Rest(shape, dtype, first, leaf_names[first], others, travels)

    return Exchange(
        leaves=[rest(leaf, leaf_names) for _, leaf, leaf_names in axes.walk(params, names)],
        names=names,
        tree=jax.tree.structure(params),
        widths=axes.widths(params, names),
        slots={group: ids.shape[1] for group, ids in who.items()},
        workers=workers,
        devices=devices,
        disjoint=disjoint,
        exact=exact,
    )


def out(ex: Exchange, rest: PyTree, who: Assignment) -> PyTree:
    """The subnets of this device's workers, ``[S / D, ...]``, out of the net at rest."""
    if ex.devices == 1:
        return decompose.gather(rest, ex.names, who, ex.workers)
    rows = list(ex.tree.flatten_up_to(rest))
    for group, numbers in ex.along(travels=False).items():
        lists = routes.route(who[group], routes.home(ex.widths[group]), ex.home(group), ex.devices)
        fetched = _fetch(ex, lists, [rows[n] for n in numbers], numbers, who)
        rows = _replaced(rows, numbers, fetched)
    return ex.tree.unflatten(
        [_net_of(ex, leaf, value) for leaf, value in zip(ex.leaves, rows, strict=True)]
    )


def back(
    ex: Exchange,
    rest: PyTree,
    nets: PyTree,
    who: Assignment,
    who_next: Assignment,
    took_part: Bool[Array, " S"],
) -> PyTree:
    """The net at rest again, with these subnets in it, laid out for the next assignment."""
    if ex.devices == 1:
        return decompose.scatter(rest, nets, ex.names, who, took_part, disjoint=ex.disjoint)
    old, nets = list(ex.tree.flatten_up_to(rest)), ex.tree.flatten_up_to(nets)
    mine = took_part[here(ex)]
    new = list(old)
    for number, (leaf, value) in enumerate(zip(ex.leaves, nets, strict=True)):
        if leaf.axis is not None:
            new[number] = _rows_of(leaf, value)
    for group, numbers in ex.along(travels=True).items():
        present = jnp.repeat(mine, ex.slots[group])
        kept = [jnp.where(lay(present, (0,), new[n].ndim), new[n], old[n]) for n in numbers]
        seats = routes.seats_of(who[group], ex.widths[group])
        lists = routes.route(who_next[group], seats, ex.held(group), ex.devices)
        new = _replaced(new, numbers, _fetch(ex, lists, kept, numbers, who_next))
    for group, numbers in ex.along(travels=False).items():
        given = _give(ex, group, [old[n] for n in numbers], new, numbers, who, took_part)
        new = _replaced(new, numbers, given)
    shared = [number for number, leaf in enumerate(ex.leaves) if not leaf.split]
    merged = mean(ex, [old[n] for n in shared], [nets[n] for n in shared], took_part)
    return ex.tree.unflatten(_replaced(new, shared, merged))


def mean(ex: Exchange, otherwise: PyTree, trees: PyTree, took_part: Bool[Array, " S"]) -> PyTree:
    """The mean over all workers of trees ``[S / D, ...]``; where nobody took part, ``otherwise``."""
    if ex.devices == 1:
        names = jax.tree.map(lambda leaf: (None,) * leaf.ndim, otherwise)
        return decompose.scatter(otherwise, trees, names, {}, took_part)
    leaves, tree = jax.tree.flatten(otherwise)
    join = merge.in_order if ex.exact else merge.summed
    return tree.unflatten(join(leaves, tree.flatten_up_to(trees), took_part, ex.workers))


def here(ex: Exchange) -> Int[Array, " k"]:
    """The numbers of the workers on this device."""
    some = ex.workers // ex.devices
    return lax.axis_index(WORKER) * some + jnp.arange(some)


def everyone(ex: Exchange, values: Array) -> Array:
    """``[S / D, ...]`` of every device as ``[S, ...]`` on all."""
    return values if ex.devices == 1 else lax.all_gather(values, WORKER, tiled=True)


def depart(ex: Exchange, home: PyTree, who: Assignment) -> PyTree:
    """From a net that is all at home: rows that lie with their holders go there."""
    rows = list(ex.tree.flatten_up_to(home))
    for group, numbers in ex.along(travels=True).items():
        lists = routes.route(who[group], routes.home(ex.widths[group]), ex.home(group), ex.devices)
        fetched = _fetch(ex, lists, [rows[n] for n in numbers], numbers, who)
        rows = _replaced(rows, numbers, fetched)
    return ex.tree.unflatten(rows)


def arrive(ex: Exchange, rest: PyTree, who: Assignment) -> PyTree:
    """The net all at home: the inverse of ``depart``."""
    rows = list(ex.tree.flatten_up_to(rest))
    everyone = jnp.ones(ex.workers, bool)
    for group, numbers in ex.along(travels=True).items():
        empty = [jnp.zeros((ex.home(group), *rows[n].shape[1:]), rows[n].dtype) for n in numbers]
        rows = _replaced(rows, numbers, _give(ex, group, empty, rows, numbers, who, everyone))
    return ex.tree.unflatten(rows)


def at_home(ex: Exchange, params: PyTree) -> PyTree:
    """A net in its natural shape as rows at home, ``[D ceil(N/D), ...]``; on the whole mesh."""

    def one(leaf: Rest, value: Array) -> Array:
        if leaf.axis is None:
            return value
        rows = jnp.moveaxis(value, leaf.axis, 0)
        padding = ex.devices * ex.home(leaf.group) - len(rows)
        return jnp.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1))

    return ex.tree.unflatten(map(one, ex.leaves, ex.tree.flatten_up_to(params)))


def natural(ex: Exchange, home: PyTree) -> PyTree:
    """The inverse of ``at_home``."""

    def one(leaf: Rest, rows: Array) -> Array:
        if leaf.axis is None:
            return rows
        return jnp.moveaxis(rows[: ex.widths[leaf.group]], 0, leaf.axis)

    return ex.tree.unflatten(map(one, ex.leaves, ex.tree.flatten_up_to(home)))


def _fetch(
    ex: Exchange, lists: Route, rows: list[Array], numbers: list[int], who: Assignment
) -> list[Array]:
    """From where each neuron has one seat to the slots; a slot that is empty gets zeros."""
    leaves = [ex.leaves[n] for n in numbers]

    def send(at: Rows):
        return [_select(leaf, value, at, who) for leaf, value in zip(leaves, rows, strict=True)]

    def receive(slots_filled, at: Rows, pieces):
        return [
            value.at[at.seat.ravel()].set(piece.reshape(-1, *value.shape[1:]), mode="drop")
            for value, piece in zip(slots_filled, pieces, strict=True)
        ]

    empty = [jnp.zeros((lists.held, *leaf.row(ex.slots)), leaf.dtype) for leaf in leaves]
    m = ex.slots[leaves[0].group]
    return travel(lists, m, ex.capacity(numbers), empty, send, receive, outward=True)


def _give(
    ex: Exchange,
    group: str,
    homes: list[Array],
    rows: list[Array],
    numbers: list[int],
    who: Assignment,
    took_part: Bool[Array, " S"],
) -> list[Array]:
    """From the slots to the homes: the value of the one holder, or the mean over several."""
    leaves = [ex.leaves[n] for n in numbers]
    absent = {g: jnp.where(took_part[:, None], ids, ex.widths[g]) for g, ids in who.items()}
    ranks = 1 if ex.disjoint else ex.workers
    seats = routes.home(ex.widths[group])
    lists = routes.route(absent[group], seats, ex.home(group), ex.devices, ranks)
    tables = {g: slots(ids, ex.widths[g], took_part) for g, ids in who.items()}

    def send(at: Rows):
        near = jnp.minimum(at.seat, lists.held - 1)
        return [rows[n].at[near].get(mode="promise_in_bounds") for n in numbers]

    def receive(totals, at: Rows, pieces):
        """Device by device, so that rows as wide as at home are few at a time."""

        def from_device(d, totals):
            one = Rows(*(value[d] for value in at))
            return [
                _settle(ex, leaf, total, one, piece[d], tables)
                for leaf, total, piece in zip(leaves, totals, pieces, strict=True)
            ]

        return lax.fori_loop(0, len(at.seat), from_device, totals)

    def counts(leaf):
        ndim = max(leaf.others, default=0) + 1
        full = (ex.home(group), *leaf.row({}))
        return [n if axis < ndim else 1 for axis, n in enumerate(full)]

    m, capacity = ex.slots[group], ex.capacity(numbers)
    if ex.disjoint:
        start = [(home,) for home in homes]
    else:
        start = [means.start(h, counts(leaf)) for h, leaf in zip(homes, leaves, strict=True)]
    totals = travel(lists, m, capacity, start, send, receive, outward=False)
    if ex.disjoint:
        return [home for (home,) in totals]
    return [means.end(*t, ex.workers, home) for t, home in zip(totals, homes, strict=True)]


def _select(leaf: Rest, rows: Array, at: Rows, who: Assignment) -> Array:
    """Rows ``[X, C, ...]`` of those that lie here, cut to what each slot's worker holds."""
    if not leaf.others:
        return rows.at[at.place].get(mode="promise_in_bounds")
    ndim = max(leaf.others) + 2
    where = [lay(at.place, (0, 1), ndim)]
    for axis in range(1, ndim - 1):
        if axis in leaf.others:
            where.append(lay(who[leaf.others[axis]][at.worker], (0, 1, axis + 1), ndim))
        else:
            where.append(lay(jnp.arange(rows.shape[axis]), (axis + 1,), ndim))
    value, held = read(rows, where)
    return jnp.where(held, value, jnp.zeros((), rows.dtype))


def _settle(
    ex: Exchange,
    leaf: Rest,
    total: tuple[Array, ...],
    at: Rows,
    piece: Array,
    tables: Mapping[str, Int[Array, "S N"]],
) -> tuple[Array, ...]:
    """Puts rows ``[C, ...]`` from one device into those that lie at home."""
    if ex.disjoint and not leaf.others:
        return (total[0].at[at.home].set(piece, mode="drop"),)
    ndim = max(leaf.others, default=0) + 1
    where = [lay(jnp.arange(len(piece)), (0,), ndim)]
    for axis in range(1, ndim):
        if axis in leaf.others:
            where.append(lay(tables[leaf.others[axis]][at.worker], (0, axis), ndim))
        else:
            where.append(lay(jnp.arange(piece.shape[axis]), (axis,), ndim))
    value, held = read(piece, where)
    near = [t.at[at.place].get(mode="promise_in_bounds") for t in total]
    rows = (jnp.where(held, value, near[0]),) if ex.disjoint else means.add(*near, value, held)
    return tuple(t.at[at.home].set(r, mode="drop") for t, r in zip(total, rows, strict=True))


def _replaced(values: list[Any], numbers: list[int], by: list[Any]) -> list[Any]:
    new = dict(zip(numbers, by, strict=True))
    return [new.get(n, value) for n, value in enumerate(values)]


def _net_of(ex: Exchange, leaf: Rest, rows: Array) -> Array:
    """Rows in slots as a leaf of the subnets, ``[S / D, ...]``."""
    workers = ex.workers // ex.devices
    if leaf.axis is None:
        return jnp.broadcast_to(rows, (workers, *rows.shape))
    return jnp.moveaxis(rows.reshape(workers, -1, *rows.shape[1:]), 1, leaf.axis + 1)


def _rows_of(leaf: Rest, net: Array) -> Array:
    """The inverse of ``_net_of`` for a cut leaf."""
    rows = jnp.moveaxis(net, leaf.axis + 1, 1)
    return rows.reshape(-1, *rows.shape[2:])
