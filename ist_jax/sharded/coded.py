"""Subnets on their way home in a code: encoded where they were trained, decoded at home.

Every row (``ist_jax.compress``) is encoded by its worker, with a key of the worker and the leaf,
and decoded to the same bits wherever that is: here on one device, and where a leaf that nothing
cuts is told to all; in ``transfers.to_home`` otherwise.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Key

from ist_jax.compress import Code
from ist_jax.core import mean
from ist_jax.core.indexing import nth, take
from ist_jax.core.keys import fold
from ist_jax.sharded.chunks import over_slow_links
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import WORKER, LeafLayout

PyTree = Any
Parts = dict[int, list[Array]]  # of each coded leaf, by its number: ``[S / D, rows, n]``
Errors = dict[str, Array]  # ``[S / D, ...]`` of each leaf whose code has feedback, by its name


def encode(
    layout: Layout,
    before: PyTree,
    nets: PyTree,
    key: Key[Array, ""],
    errors: Errors,
    took_part: Bool[Array, " S"] | None,
) -> tuple[Parts, Errors]:
    """What workers send of the leaves that have a code, and what they then remember.

    Args:
      before: the subnets as they were gathered.
      errors: what they remember of earlier rounds (``Layout.errors``); it is sent too, and what the
        code leaves out this time takes its place. Who did not take part has sent nothing.
    """
    parts, remembered = {}, dict(errors)
    for n, (leaf, old, new) in enumerate(_leaves(layout, before, nets)):
        if leaf.code is None:
            continue
        rows = _rows(leaf, new - old)
        if leaf.error:
            error = _rows(leaf, errors[leaf.error])
            rows = rows + error
        parts[n] = _encoded(layout, leaf, n, rows, key)
        if leaf.error:
            left = rows - leaf.code.decode(parts[n], rows.shape[-1])
            if took_part is not None:
                left = jnp.where(take(took_part, layout.device_workers)[:, None, None], left, error)
            remembered[leaf.error] = _unrows(leaf, left, new)
    return parts, remembered


def gradients(layout: Layout, trees: PyTree, key: Key[Array, ""]) -> Parts:
    """What workers send of their gradients of the whole net, each leaf of which is one row."""
    leaves = zip(layout.leaves, jax.tree.leaves(trees), strict=False)
    return {
        n: _encoded(layout, leaf, n, value.reshape(len(value), 1, -1), key)
        for n, (leaf, value) in enumerate(leaves)
        if leaf.code is not None
    }


def decode(layout: Layout, before: PyTree, nets: PyTree, parts: Parts) -> PyTree:
    """The subnets as they come out of their codes."""
    found = []
    for n, (leaf, old, new) in enumerate(_leaves(layout, before, nets)):
        if n in parts:
            rows, code = _rows(leaf, old), _code(leaf)
            new = _unrows(leaf, rows + code.decode(parts[n], rows.shape[-1]), old)
        found.append(new)
    return layout.tree.unflatten(found)


def shared_means(
    layout: Layout,
    old: Mapping[int, Array],
    parts: Parts,
    took_part: Bool[Array, " S"] | None,
) -> dict[int, Array]:
    """Means over all workers of leaves that nothing cuts, of which every device hears all codes."""
    took_part = jnp.ones(layout.workers, bool) if took_part is None else took_part
    everyone = _of_all(layout, parts)
    found = {}
    for n, of_leaf in everyone.items():
        code = _code(layout.leaves[n])
        flat = old[n].reshape(-1)

        def add(worker, total, of_leaf=of_leaf, flat=flat, code=code):
            change = code.decode([nth(part, worker) for part in of_leaf], len(flat))[0]
            return mean.add(total, flat + change, nth(took_part, worker))

        found[n] = mean.over_workers(add, layout.workers, flat, ()).reshape(old[n].shape)
    return found


def _encoded(
    layout: Layout, leaf: LeafLayout, number: int, rows: Array, key: Key[Array, ""]
) -> list[Array]:
    workers = layout.device_workers
    keys = jax.vmap(lambda worker: fold(key, "code", number, worker))(workers)
    return jax.vmap(_code(leaf).encode)(rows, keys)


def _code(leaf: LeafLayout) -> Code:
    assert leaf.code is not None
    return leaf.code


def _of_all(layout: Layout, parts: Parts) -> Parts:
    """``[S, rows, n]`` on every device; one message for each type of number."""
    if layout.devices == 1:
        return parts
    flat = [(n, place, part) for n, of_leaf in parts.items() for place, part in enumerate(of_leaf)]
    found = {n: list(of_leaf) for n, of_leaf in parts.items()}
    for dtype in sorted({part.dtype for _, _, part in flat}, key=str):
        some = [(n, place, part) for n, place, part in flat if part.dtype == dtype]
        long = jnp.concatenate([part.reshape(len(part), -1) for _, _, part in some], axis=1)
        gather = lambda values: lax.all_gather(values, WORKER, tiled=True)
        everyone, start = over_slow_links(gather, long), 0
        for n, place, part in some:
            size = part[0].size
            came = everyone[:, start : start + size]
            found[n][place] = came.reshape(-1, *part.shape[1:])
            start += size
    return found


def _leaves(layout: Layout, before: PyTree, nets: PyTree) -> list[tuple[LeafLayout, Any, Array]]:
    """Each leaf's layout, the leaf as it was (None where there is no code), and as it is."""
    news = layout.tree.flatten_up_to(nets)
    olds = [None] * len(news) if before is None else layout.tree.flatten_up_to(before)
    return list(zip(layout.leaves, olds, news, strict=True))


def _rows(leaf: LeafLayout, net: Array) -> Array:
    """A leaf of the subnets ``[S, ...]`` as rows ``[S, m, L]``; one row if nothing cuts it."""
    if leaf.cut is None:
        return net.reshape(len(net), 1, -1)
    return jnp.moveaxis(net, leaf.cut + 1, 1).reshape(len(net), net.shape[leaf.cut + 1], -1)


def _unrows(leaf: LeafLayout, rows: Array, like: Array) -> Array:
    """The inverse of ``_rows``."""
    if leaf.cut is None:
        return rows.reshape(like.shape)
    front = jnp.moveaxis(like, leaf.cut + 1, 1).shape
    return jnp.moveaxis(rows.reshape(front), 1, leaf.cut + 1)
