"""Bytes per worker and round, in closed form.

A worker that takes part in a round receives the entries it is to train and sends the same entries
back: for a leaf with axes of N_1 x N_2 x ... neurons, of which it holds c_1, c_2, ..., that is the
product of the c (N where the axis is not cut). Data parallel receives and sends the whole net's
gradient at every step instead, an ensemble moves its subnets once: ``per_round``. What a program
moves between devices is another number, since entries stay where they are needed next and messages
have a fixed size: ``cost.wire``.

For a fully connected net with widths N_0 .. N_t and S workers, the inflow of all sites per gradient
step is (N_0 N_1 + N_{t-1} N_t)/J + sum_{i=2..t-1} N_{i-1} N_i / (S J) for IST, and S sum N_{i-1}
N_i for data parallel (Yuan et al., section 2.3, whose last sum starts at 1 and so counts the ends
twice).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ist_jax import axes, compress
from ist_jax.axes import Net
from ist_jax.compress import Code
from ist_jax.compress.codes import BACK, BLOCK, blocks_of
from ist_jax.method import Method
from ist_jax.optimizer_state.carried import Carried
from ist_jax.partition import Assignment, Context
from ist_jax.sharded import leaf_layout

PyTree = Any


NOTHING_LESS = np.zeros((2, 1), np.int64)


class Moved(NamedTuple):
    """Bytes that each of S workers receives, and sends, ``int64[S]``: per round, per local step,
    and once at the end of a run; and by how much less it receives and sends in a code, ``[2, S]``.
    """

    a_round: np.ndarray
    a_step: np.ndarray
    once: np.ndarray
    less_a_round: np.ndarray = NOTHING_LESS
    less_a_step: np.ndarray = NOTHING_LESS

    def of_steps(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """``(received, sent)`` in a round of J local steps; equal unless updates go in a code."""
        total = self.a_round + steps * self.a_step
        received, sent = total - self.less_a_round - steps * self.less_a_step
        return received, sent


def per_round(
    net: Net, everything: Carried, method: Method, workers: int, code: Code | None = None
) -> Callable[[Mapping[str, np.ndarray]], Moved]:
    """What a method moves, of the neurons that each worker holds (``neurons_held``).

    Args:
      everything: the net with what is carried of its optimizers' states. What travels with the
        neurons counts, and has no code.
    """
    nothing = np.zeros(workers, np.int64)
    less = functools.partial(_less, net, code, method.disjoint)
    moving = functools.partial(_moving, everything, code, method.disjoint)
    if workers == 1:
        return lambda _: Moved(nothing, nothing, nothing)
    if method.exchange == "step":
        whole = nothing + _bytes(net, {})
        return lambda _: Moved(nothing, whole, nothing, less_a_step=nothing + less({}))
    if method.exchange == "never":
        return lambda counts: Moved(nothing, nothing, nothing + _bytes(net, counts))
    return lambda counts: Moved(
        nothing + _bytes(moving(counts), counts), nothing, nothing, nothing + less(counts)
    )


def neurons_held(
    net: Net, method: Method, workers: int, external: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray]:
    """How many neurons of each cut group each worker holds, ``{group: int64[S]}`` (round 0).

    Args:
      external: groups that are not drawn, and how many neurons of each a worker holds (a number,
        or one for each worker).
    """
    external = dict(external or {})
    widths = {group: n for group, n in net.widths.items() if group not in external}
    draw = jax.jit(lambda key: method.draw(key, Context(widths, workers)))
    return held_in(draw(jax.random.key(0)), widths, workers, external)


def held_in(
    assignment: Assignment, widths: Mapping[str, int], workers: int, external: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """As ``neurons_held``, of an assignment that is there."""
    drawn = {g: (np.asarray(ids) < widths[g]).sum(axis=1) for g, ids in assignment.items()}
    counts = {group: np.broadcast_to(np.int64(n), workers) for group, n in external.items()}
    return drawn | counts


def entries(net: Net, counts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Parameters each worker holds, ``int64[S]`` (``int64[]`` where nothing is cut)."""
    return _total(net, counts, lambda leaf: 1)


def _moving(
    everything: Carried, code: Code | None, disjoint: bool, counts: Mapping[str, np.ndarray]
) -> Net:
    """What workers receive and send: all but their own states, and the server's where it stays."""
    net = everything.net
    codes = compress.of_leaves(code, net.leaves, counts, disjoint)

    def moves(number: int) -> bool:
        role = everything.roles[number]
        if role.of is None:
            return role.kind == "trained"
        return leaf_layout.goes_on(net.leaves[number], counts, codes[role.of], disjoint)

    return net._replace(leaves=tuple(leaf for n, leaf in enumerate(net.leaves) if moves(n)))


def _less(
    net: Net, code: Code | None, disjoint: bool, counts: Mapping[str, np.ndarray]
) -> np.ndarray:
    """How many bytes less a worker receives, and sends, in the code; ``[2, S]`` or ``[2, 1]``.

    Rows of cut leaves are sent in it, and received as they are; blocks of others go both ways.
    """
    total: Any = NOTHING_LESS
    codes = compress.of_leaves(code, net.leaves, counts, disjoint)
    for of_leaf, leaf in zip(codes, net.leaves, strict=True):
        if of_leaf is None:
            continue
        sizes = _sizes(leaf, counts)
        cut = leaf.cut_axes(counts)
        if not cut:
            size = int(np.prod(leaf.shape, dtype=np.int64))
            blocks = [blocks_of(size) * way.bytes(BLOCK) for way in (BACK, of_leaf)]
            total = total + 4 * size - np.array(blocks)[:, None]
            continue
        rows: Any = sizes.pop(cut[0])
        length: Any = np.prod(np.broadcast_arrays(1, *sizes), axis=0)
        short = np.vectorize(lambda n, code=of_leaf: 4 * int(n) - code.bytes(int(n)))(length)
        total = total + np.array([[0], [1]]) * (rows * short)
    return np.asarray(total)


def _bytes(net: Net, counts: Mapping[str, np.ndarray]) -> np.ndarray:
    return _total(net, counts, lambda leaf: leaf.dtype.itemsize)


def _total(
    net: Net, counts: Mapping[str, np.ndarray], weight: Callable[[axes.Leaf], int]
) -> np.ndarray:
    total: Any = np.int64(0)
    for leaf in net.leaves:
        size: Any = np.int64(weight(leaf))
        for n in _sizes(leaf, counts):
            size = size * n
        total = total + size
    return np.asarray(total)


def _sizes(leaf: axes.Leaf, counts: Mapping[str, np.ndarray]) -> list[Any]:
    """The lengths of its axes, for each worker where they are cut."""
    return [counts.get(group or "", n) for n, group in zip(leaf.shape, leaf.names, strict=True)]
