"""Bytes per worker and round, in closed form.

A worker that takes part in a round receives the entries it is to train and sends the same entries
back: for a leaf with axes of N_1 x N_2 x ... neurons, of which it holds c_1, c_2, ..., that is the
product of the c (N where the axis is not cut). Data parallel receives and sends the whole net's
gradient at every step instead, an ensemble moves its subnets once: ``per_round``. What a program
moves between devices is another number, since entries stay where they are needed next and messages
have a fixed size: ``passes`` and ``wire``.

For a fully connected net with widths N_0 .. N_t and S workers, the inflow of all sites per gradient
step is (N_0 N_1 + N_{t-1} N_t)/J + sum_{i=2..t-1} N_{i-1} N_i / (S J) for IST, and S sum N_{i-1}
N_i for data parallel (Yuan et al., section 2.3, whose last sum starts at 1 and so counts the ends
twice).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ist_jax import axes, compress
from ist_jax.compress import Code
from ist_jax.method import Method
from ist_jax.optimizer_state.carry import Memory
from ist_jax.partition import Assignment
from ist_jax.sharded.layout import Layout, Leaf

PyTree = Any


class Moved(NamedTuple):
    """Bytes that each of S workers receives, and sends, ``int64[S]``: per round, per local step,
    and once at the end of a run; and by how much less it sends in a code."""

    a_round: np.ndarray
    a_step: np.ndarray
    once: np.ndarray
    less_a_round: np.ndarray | np.int64 = np.int64(0)
    less_a_step: np.ndarray | np.int64 = np.int64(0)

    def of_steps(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """``(received, sent)`` in a round of J local steps; equal unless updates go in a code."""
        total = self.a_round + steps * self.a_step
        return total, total - self.less_a_round - steps * self.less_a_step


def per_round(
    params: PyTree,
    names: PyTree,
    method: Method,
    workers: int,
    memory: Memory,
    optimizer: optax.GradientTransformation,
    code: Code | None = None,
) -> Callable[[Mapping[str, np.ndarray]], Moved]:
    """What a method moves, of how many neurons each worker holds of each cut group (``held``).

    Moments that are kept travel with their neurons and count; they have no code.
    """
    whole = _bytes(params, names, {})
    nothing = np.zeros(workers, np.int64)
    less = functools.partial(_less, params, names, code)
    if workers == 1:
        return lambda _: Moved(nothing, nothing, nothing)
    if method.exchange == "step":
        return lambda _: Moved(nothing, nothing + whole, nothing, nothing, nothing + less({}))
    if method.exchange == "never":
        return lambda counts: Moved(nothing, nothing, nothing + _bytes(params, names, counts))
    rested = jax.eval_shape(lambda net: memory.rest(optimizer.init(net)), params)
    travelling = (params, rested), (names, memory.names(params, names))
    return lambda counts: Moved(
        nothing + _bytes(*travelling, counts), nothing, nothing, nothing + less(counts)
    )


def held(
    params: PyTree,
    names: PyTree,
    method: Method,
    workers: int,
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """How many neurons of each cut group each worker holds, ``{group: int64[S]}`` (round 0)."""
    given = dict(given or {})
    widths = {g: n for g, n in axes.widths(params, names).items() if g not in given}
    who = jax.jit(lambda key: method.assign(key, widths, workers, 0))(jax.random.key(0))
    drawn = {group: (np.asarray(ids) < widths[group]).sum(axis=1) for group, ids in who.items()}
    return drawn | {group: np.asarray(count, np.int64) for group, count in given.items()}


def entries(params: PyTree, names: PyTree, counts: dict[str, np.ndarray]) -> np.ndarray:
    """Parameters each worker holds, ``int64[S]`` (``int64[]`` where nothing is cut)."""
    return _total(params, names, counts, lambda leaf: 1)


def passes(
    layout: Layout,
    who: Assignment,
    who_next: Assignment | None = None,
    took_part: np.ndarray | None = None,
) -> dict[str, int]:
    """Passes of each journey in a round that goes from one assignment to the next.

    As many as the longest list of neurons that one device has for another one needs.
    """
    everyone = np.ones(layout.workers, bool) if took_part is None else np.asarray(took_part)
    found = {}
    for way in ("out", "on", "back"):
        for journey in layout.journeys(way):
            width = layout.widths[journey.group]
            ids = np.asarray(who[journey.group])
            lies = np.arange(width) // layout.home(journey.group)  # the device of each neuron
            if way == "on" and who_next is not None:
                holders, slots = np.nonzero(ids < width)
                lies[ids[holders, slots]] = holders // layout.some
                ids = np.asarray(who_next[journey.group])
            if way == "back":
                ids = np.where(everyone[:, None], ids, width)
            ranks = 1 if way != "back" or layout.disjoint else layout.workers
            earlier = np.zeros(width, int)  # holders with a smaller number
            lists = np.zeros((ranks, layout.devices, layout.devices), int)
            for worker, row in enumerate(ids):
                held, device = row[row < width], worker // layout.some
                rank = np.minimum(earlier[held], ranks - 1)
                np.add.at(lists, (rank, device, lies[held]), lies[held] != device)
                earlier[held] += 1
            longest = lists.max(axis=(1, 2))
            found[journey.name] = int((-(-longest // journey.capacity)).sum())
    return found


def wire(
    layout: Layout,
    passes: Mapping[str, Any],
    *,
    gradient: PyTree | None = None,
    steps: int = 1,
    data: int = 1,
    watchful: bool = False,
    given: int = 0,
) -> float:
    """Bytes that every device receives from those of other workers in a round.

    Args:
      layout: how the net lies.
      passes: of each journey (``Report.passes``, or ``passes`` above).
      gradient: what is averaged at every step, where something is (data parallel).
      steps: J.
      data: devices that share a worker; each moves its part.
      watchful: whether workers tell whose update is finite, in a byte (``on_nonfinite="drop"``).
      given: slots of a worker in groups that are given; their ids are told to all.

    Returns:
      Bytes of the messages; a device does not send to itself. An all-reduce counts as a ring's,
      which passes every byte but a D-th twice. Losses are counted too, as float32.
    """
    if layout.devices == 1:
        return 0.0
    others = layout.devices - 1
    told = watchful * (1 if gradient is None else steps)
    total = (4.0 + told + 4 * given) * layout.some * others
    for way in ("out", "on", "back"):
        for journey in layout.journeys(way):
            for message in journey.messages:
                each = -(-message.size // data) * message.itemsize
                total += int(passes[journey.name]) * others * each
    if gradient is not None:
        count = len(jax.tree.leaves(gradient))
        return total + steps * _merged(layout, layout.leaves[:count], data)
    return total + _merged(layout, [leaf for leaf in layout.leaves if not leaf.split], data)


def _merged(layout: Layout, every: Sequence[Leaf], data: int) -> float:
    """Bytes a device receives where these leaves are averaged over all workers."""
    others, total = layout.devices - 1, 0.0
    parts = [part for leaf in every if leaf.code for part in leaf.code.parts(math.prod(leaf.shape))]
    for dtype in {jax.numpy.dtype(dtype) for _, dtype in parts}:
        length = sum(n for n, of_part in parts if jax.numpy.dtype(of_part) == dtype)
        total += others * layout.some * -(-length // data) * dtype.itemsize
    leaves = [leaf for leaf in every if not leaf.code]
    for dtype in {jax.numpy.dtype(leaf.dtype) for leaf in leaves}:
        size = sum(math.prod(leaf.shape) for leaf in leaves if leaf.dtype == dtype)
        if layout.exact:
            part = -(-size // (layout.devices * data))
            total += others * (layout.some + 1) * part * dtype.itemsize
        else:
            total += 2 * others / layout.devices * -(-size // data) * dtype.itemsize
    return total


def _less(
    params: PyTree, names: PyTree, code: Code | None, counts: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Bytes that the rows of a worker's subnet are shorter by in a code."""
    total: Any = np.int64(0)
    codes = compress.of_leaves(code, params)
    for of_leaf, (_, leaf, leaf_names) in zip(codes, axes.walk(params, names), strict=True):
        if of_leaf is None:
            continue
        held = [counts.get(group or "", n) for n, group in zip(leaf.shape, leaf_names, strict=True)]
        cut = next((axis for axis, group in enumerate(leaf_names) if group in counts), None)
        rows: Any = 1 if cut is None else held.pop(cut)
        length: Any = np.prod(np.broadcast_arrays(1, *held), axis=0)
        short = np.vectorize(lambda n, code=of_leaf: 4 * int(n) - code.bytes(int(n)))(length)
        total = total + rows * short
    return np.asarray(total)


def _bytes(tree: PyTree, names: PyTree, counts: Mapping[str, np.ndarray]) -> np.ndarray:
    return _total(tree, names, counts, lambda leaf: leaf.dtype.itemsize)


def _total(
    tree: PyTree,
    names: PyTree,
    counts: Mapping[str, Any],
    weight: Callable[[Any], int],
) -> np.ndarray:
    total: Any = np.int64(0)
    for _, leaf, leaf_names in axes.walk(tree, names):
        size: Any = np.int64(weight(leaf))
        for n, group in zip(leaf.shape, leaf_names, strict=True):
            size = size * counts.get(group or "", n)
        total = total + size
    return np.asarray(total)
