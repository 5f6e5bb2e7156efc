"""Bytes and floating-point operations per worker and round, in closed form.

A worker that takes part in a round receives the entries it is to train and sends the same entries
back: for a leaf with axes of N_1 x N_2 x ... neurons, of which it holds c_1, c_2, ..., the product
  of
the c (N where the axis is not cut). Data parallel receives and sends the whole net's gradient at
every step instead, an ensemble moves its subnets once. What a transport adds to this, or saves by
leaving entries where they are, is not counted here.

For a fully connected net with widths N_0 .. N_t and S workers, the inflow of all sites per gradient
step is (N_0 N_1 + N_{t-1} N_t)/J + sum_{i=2..t-1} N_{i-1} N_i / (S J) for IST, and S sum N_{i-1}
N_i for data parallel (Yuan et al., section 2.3, whose last sum starts at 1 and so counts the ends
twice).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ist_jax import axes
from ist_jax.local import Memory
from ist_jax.method import Method

PyTree = Any


class Moved(NamedTuple):
    """Bytes that each of S workers receives, and sends, ``int64[S]``: per round, per local step,
    and once at the end of a run."""

    a_round: np.ndarray
    a_step: np.ndarray
    once: np.ndarray

    def of_steps(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """``(received, sent)`` in a round of J local steps; equal for every method here."""
        total = self.a_round + steps * self.a_step
        return total, total


def per_round(
    params: PyTree,
    names: PyTree,
    method: Method,
    workers: int,
    memory: Memory,
    optimizer: optax.GradientTransformation,
) -> Moved:
    """What a method moves; moments that are kept travel with their neurons and count."""
    whole = _bytes(params, names, {})
    nothing = np.zeros(workers, np.int64)
    if workers == 1:
        return Moved(nothing, nothing, nothing)
    if method.exchange == "step":
        return Moved(nothing, nothing + whole, nothing)
    counts = held(params, names, method, workers)
    subnets = nothing + _bytes(params, names, counts)
    if method.exchange == "never":
        return Moved(nothing, nothing, subnets)
    rested = jax.eval_shape(lambda net: memory.rest(optimizer.init(net)), params)
    return Moved(subnets + _bytes(rested, memory.names(params, names), counts), nothing, nothing)


def held(params: PyTree, names: PyTree, method: Method, workers: int) -> dict[str, np.ndarray]:
    """How many neurons of each cut group each worker holds, ``{group: int64[S]}`` (round 0)."""
    widths = axes.widths(params, names)
    who = method.assign(jax.random.key(0), widths, workers, 0)
    return {group: (np.asarray(ids) < widths[group]).sum(axis=1) for group, ids in who.items()}


def entries(params: PyTree, names: PyTree, counts: dict[str, np.ndarray]) -> np.ndarray:
    """Parameters each worker holds, ``int64[S]`` (``int64[]`` where nothing is cut)."""
    return _total(params, names, counts, lambda leaf: 1)


def flops(function: Callable[..., Any], *arguments: PyTree) -> int:
    """Floating-point operations of the matrix products and convolutions in a function.

    Two for each multiply and add, read off its program (``jax.make_jaxpr``), so that they hold for
    any architecture; a ``scan`` counts as often as it runs, a ``while_loop`` (which no gradient
    contains) once. Arguments may be shapes.
    """
    return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _bytes(tree: PyTree, names: PyTree, counts: dict[str, np.ndarray]) -> np.ndarray:
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


def _flops_of(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2 * out * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2 * out * math.prod(kernel) // out_features // params["batch_group_count"]
        times = params.get("length", 1) if name == "scan" else 1
        inner = [_flops_of(sub) for sub in _inner(params)]
        total += times * (max(inner, default=0) if name == "cond" else sum(inner))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                found.append(item)
    return found
