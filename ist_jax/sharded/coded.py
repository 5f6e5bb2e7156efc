"""Updates on their way in a code: encoded where they were trained, decoded where they are merged.

Rows of a cut leaf (``ist_jax.compress``) go home, and are decoded there: ``transfers.to_home``, and
``decode`` where there is one device. ``coded_mean`` merges what all workers share. Each worker has
a key of its own for each leaf, so that its codes are the same on any number of devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from ist_jax.compress import Code
from ist_jax.core.indexing import take
from ist_jax.core.keys import fold
from ist_jax.sharded.coded_mean import blocks
from ist_jax.sharded.layout import Layout
from ist_jax.sharded.leaf_layout import LeafLayout

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
    """What workers send of their gradients of the whole net, which nothing cuts."""
    leaves = zip(layout.leaves, jax.tree.leaves(trees), strict=False)
    return {
        n: _encoded(layout, leaf, n, blocks(value), key)
        for n, (leaf, value) in enumerate(leaves)
        if leaf.code is not None
    }


def decode(
    layout: Layout, before: PyTree, pieces: Mapping[int, Any], parts: Parts
) -> dict[int, Any]:
    """The leaves of the subnets by number, with cut ones as they come out of their codes."""
    found = dict(pieces)
    for n in parts:
        leaf = layout.leaves[n]
        if leaf.cut is not None:
            old = layout.tree.flatten_up_to(before)[n]
            rows = _rows(leaf, old)
            rows = rows + _code(leaf).decode(parts[n], rows.shape[-1])
            found[n] = _unrows(leaf, rows, old)
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


def _leaves(layout: Layout, before: PyTree, nets: PyTree) -> list[tuple[LeafLayout, Any, Any]]:
    """Each leaf's layout, the leaf as it was (None where there is no code), and as it is; None for
    what is no part of a subnet."""
    news = layout.tree.flatten_up_to(nets)
    olds = [None] * len(news) if before is None else layout.tree.flatten_up_to(before)
    return list(zip(layout.leaves, olds, news, strict=True))


def _rows(leaf: LeafLayout, net: Array) -> Array:
    """A leaf of the subnets ``[S, ...]`` as rows ``[S, m, L]``; in blocks if nothing cuts it."""
    if leaf.cut is None:
        return blocks(net)
    return jnp.moveaxis(net, leaf.cut + 1, 1).reshape(len(net), net.shape[leaf.cut + 1], -1)


def _unrows(leaf: LeafLayout, rows: Array, like: Array) -> Array:
    """The inverse of ``_rows``."""
    if leaf.cut is None:
        return rows.reshape(len(rows), -1)[:, : like[0].size].reshape(like.shape)
    front = jnp.moveaxis(like, leaf.cut + 1, 1).shape
    return jnp.moveaxis(rows.reshape(front), 1, leaf.cut + 1)
