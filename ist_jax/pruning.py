"""Lottery tickets: which neurons weigh most, how that changes, and the net without the rest.

Neurons of a group (LoFT: the filters between a block's convolutions) are ranked by the L2 norm of
the kernels that give them out. Pruning keeps those with the largest norms, and the smaller net is a
subnet like any other: an assignment for one worker, and the one gather. Source: Dun et al., LoFT;
the release keeps the smallest.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ist_jax import axes, decompose
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.partition import Assignment

PyTree = Any


def norms(params: PyTree, names: PyTree) -> dict[str, Float[np.ndarray, " N"]]:
    """The L2 norm of each neuron of each group, over all kernels whose last axis is that group."""
    squares: dict[str, Any] = {}
    net = axes.describe(params, names)
    for leaf, value in zip(net.leaves, jax.tree.leaves(params), strict=True):
        group = leaf.names[-1] if len(leaf.shape) > 1 else None
        if group is not None:
            values = np.square(np.asarray(value, np.float64)).reshape(-1, leaf.shape[-1])
            squares[group] = squares.get(group, 0.0) + values.sum(axis=0)
    if missing := sorted(net.widths.keys() - squares.keys()):
        raise InputError(f"no kernel gives out the neurons of {missing[0]!r}, which rank them")
    return {group: np.sqrt(total) for group, total in sorted(squares.items())}


def ranking(params: PyTree, names: PyTree) -> dict[str, Int[np.ndarray, " N"]]:
    """The neurons of each group, those with the largest norms first; equal ones by number."""
    return {g: np.argsort(-norm, kind="stable") for g, norm in norms(params, names).items()}


def distance(before: Sequence[int] | np.ndarray, after: Sequence[int] | np.ndarray) -> float:
    """How far one ranking is from another, with the first ranks counting most.

    sum over i of |ln i - ln s(i)| / i, where s(i) is the new rank, from 1, of what was i-th; what
    is no longer there counts as next after the last.
    """
    place = {neuron: rank for rank, neuron in enumerate(np.asarray(after).tolist(), 1)}
    last = len(place) + 1
    new = np.array([place.get(neuron, last) for neuron in np.asarray(before).tolist()], float)
    old = np.arange(1, len(new) + 1)
    return float(np.sum(np.abs(np.log(old) - np.log(new)) / old))


def largest(params: PyTree, names: PyTree, pruned: Mapping[str, float]) -> Assignment:
    """Those that stay if of each group the given share is pruned, ``{group: int32[1, m]}``.

    Raises:
      InputError: a group that the net does not have, or a share that leaves nothing of one.
    """
    ranked = ranking(params, names)
    counts = _left({group: len(ids) for group, ids in ranked.items()}, pruned)
    return {g: np.sort(ranked[g][:m]).astype(np.int32)[None] for g, m in counts.items()}


def at_random(
    key: Key[Array, ""], widths: Mapping[str, int], pruned: Mapping[str, float]
) -> Assignment:
    """As many as ``largest`` leaves, drawn uniformly: what pruning is to be compared with."""
    return {
        group: np.sort(np.asarray(jax.random.permutation(fold(key, group), widths[group]))[:m])[
            None
        ].astype(np.int32)
        for group, m in _left(widths, pruned).items()
    }


def prune(params: PyTree, names: PyTree, stay: Assignment) -> tuple[PyTree, dict[str, int]]:
    """The net of the neurons that stay, and the widths of its groups.

    Returns:
      Parameters of the same net with fewer neurons (a Flax model: ``model.clone(widths=...)``).
    """
    small = decompose.gather_one(params, names, stay, 0)
    return small, axes.widths(small, names)


def _left(widths: Mapping[str, int], pruned: Mapping[str, float]) -> dict[str, int]:
    counts = {}
    for group, share in pruned.items():
        if group not in widths:
            raise InputError(f"nothing to prune: no group {group!r}; there are {sorted(widths)}")
        gone = math.floor(share * widths[group] + 0.5) if 0 <= share < 1 else widths[group]
        if gone == widths[group]:
            raise InputError(
                f"pruning {share} of the {widths[group]} neurons of {group!r} must leave some"
            )
        counts[group] = widths[group] - gone
    return counts
