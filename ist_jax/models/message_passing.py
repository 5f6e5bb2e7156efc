"""What nodes hear from their neighbours, without a scatter over edges.

A node's first K neighbours stand in a row of its own, those of a hub that go beyond in rows of K
that are added to it (few). A sum over neighbours is then K gathers and a sum, which XLA makes one
loop; a sum over sorted edges (``segment_sum``) it adds up edge by edge. Edges go both ways, so that
a gradient goes along the same rows, and there is no scatter in it either. An id equal to the number
of nodes is an empty slot.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ist_jax.core.errors import InputError

K = 8  # neighbours a row


class Links(NamedTuple):
    """Who hears whom; edges go both ways.

    Attributes:
      first: the first K neighbours of every node.
      more: further ones, and ``owner``, whose they are (n: nobody's).
      reverse: where in all slots, ``first`` and then ``more``, the same edge stands the other way
        round (their number: nowhere).
      degree: number of neighbours.
    """

    first: Int[Array | np.ndarray, "*b n k"]
    more: Int[Array | np.ndarray, "*b r k"]
    owner: Int[Array | np.ndarray, "*b r"]
    reverse: Int[Array | np.ndarray, "*b n_r k"]
    degree: Int[Array | np.ndarray, "*b n"]


def links(
    senders: np.ndarray,
    receivers: np.ndarray,
    nodes: int,
    rows: int | None = None,
    degree: np.ndarray | None = None,
) -> Links:
    """The rows of a graph.

    Args:
      senders, receivers: the ends of its edges, ``int [e]``, both ways and each once.
      nodes: their number, n; more than there are leaves the last without neighbours.
      rows: of ``more``; as many as are needed if absent.
      degree: of a part of a graph, the nodes' degrees in all of it. Its edges need not go both ways
        then, and gradients are not to be taken.

    Raises:
      InputError: an id out of range, an edge that does not go both ways, too few rows.
    """
    ends = np.stack([receivers, senders]).astype(np.int64)
    if ends.size and not 0 <= ends.min() <= ends.max() < nodes:
        wrong = ends.min() if ends.min() < 0 else ends.max()
        raise InputError(f"an edge ends at node {wrong}; nodes are 0 to {nodes - 1}")
    edges = np.sort(ends[0] * nodes + ends[1])
    to, of = np.divmod(edges, nodes)
    back = np.minimum(np.searchsorted(edges, of * nodes + to), max(len(edges) - 1, 0))
    if (np.diff(edges) <= 0).any() or (degree is None and (edges[back] != of * nodes + to).any()):
        raise InputError("edges must go both ways, and stand there once")
    here = np.bincount(to, minlength=nodes)
    place = np.arange(len(edges)) - (np.cumsum(here) - here)[to]
    over = beyond(here)
    needed = int(over.sum())
    rows = needed if rows is None else rows
    if needed > rows:
        raise InputError(f"{needed} rows of further neighbours, but room for {rows}")
    begins = nodes + np.cumsum(over) - over
    row = np.where(place < K, to, begins[to] + place // K - 1)
    slot = row * K + place % K
    all_rows = np.full((nodes + rows) * K, nodes, np.int32)
    all_rows[slot] = of
    reverse = np.full((nodes + rows) * K, (nodes + rows) * K, np.int32)
    reverse[slot] = slot[back]
    owner = np.full(rows, nodes, np.int32)
    owner[:needed] = np.repeat(np.arange(nodes), over)
    shaped = all_rows.reshape(-1, K)
    degree = here if degree is None else degree
    return Links(
        shaped[:nodes], shaped[nodes:], owner, reverse.reshape(-1, K), degree.astype(np.int32)
    )


def beyond(degrees: np.ndarray) -> np.ndarray:
    """How many rows of further neighbours nodes of these degrees need."""
    return np.maximum(-(-degrees // K) - 1, 0)


@jax.custom_vjp
def total(x: Float[Array, "n *d"], of: Links) -> Float[Array, "n *d"]:
    """The sum over each node's neighbours."""
    first, more = (_sum([at(x, rows[:, k]) for k in range(K)]) for rows in (of.first, of.more))
    return _onto(first, more, of)


total.defvjp(lambda x, of: (total(x, of), of), lambda of, slope: (total(slope, of), None))


@jax.custom_vjp
def across(
    to: Float[Array, "n *d"], of: Float[Array, "n *d"], links: Links
) -> tuple[Float[Array, "n_r k *d"], Float[Array, "n *d"]]:
    """What attention is made of: pairs of numbers of the node that hears and of the one heard.

    Returns:
      The sum of both in each slot (that of an empty one means nothing); for each node, of its own.
    """
    slots = jnp.concatenate([links.first, links.more])
    return own(to, links)[:, None] + at(of, slots), to + of


def _across_back(links: Links, slopes: tuple[Array, Array]) -> tuple[Array, Array, None]:
    """A node is heard wherever an edge's other way stands."""
    slope, mine = slopes
    heard = collect(_other_way(slope, links), links)
    return collect(slope, links) + mine, heard + mine, None


across.defvjp(lambda to, of, links: (across(to, of, links), links), _across_back)


def own(x: Float[Array, "n *d"], of: Links, nobody: int = 0) -> Float[Array, "n_r *d"]:
    """The value of the node whose row it is; ``nobody`` in rows that are nobody's."""
    return jnp.concatenate([x, x.at[of.owner].get(mode="fill", fill_value=nobody)])


def collect(x: Float[Array, "n_r k *d"], of: Links) -> Float[Array, "n *d"]:
    """The sum over each node's slots."""
    rows = x.sum(axis=1)
    return _onto(rows[: len(of.first)], rows[len(of.first) :], of)


@jax.custom_vjp
def weighted(
    x: Float[Array, "n h d"], weights: Float[Array, "n_r k h"], of: Links
) -> Float[Array, "n h d"]:
    """The sum over each node's neighbours, each times the weight of its slot (and head)."""
    n = len(x)
    mine, more = weights[:n, :, :, None], weights[n:, :, :, None]
    first = _sum([at(x, of.first[:, k]) * mine[:, k] for k in range(K)])
    return _onto(first, _sum([at(x, of.more[:, k]) * more[:, k] for k in range(K)]), of)


def _weighted_back(kept: tuple, slope: Array) -> tuple[Array, Array, None]:
    x, weights, of = kept
    back = weighted(slope, _other_way(weights, of), of)
    rows, slots = own(slope, of), jnp.concatenate([of.first, of.more])
    steep = [jnp.einsum("rhd,rhd->rh", rows, at(x, slots[:, k])) for k in range(K)]
    return back, jnp.stack(steep, axis=1), None


weighted.defvjp(lambda x, w, of: (weighted(x, w, of), (x, w, of)), _weighted_back)


@jax.custom_vjp
def softmax(
    logits: Float[Array, "n_r k h"], mine: Float[Array, "n h"], of: Links
) -> tuple[Float[Array, "n_r k h"], Float[Array, "n h"]]:
    """Of each node's slots and of itself, together 1; empty slots have 0."""
    n = len(mine)
    there = (jnp.concatenate([of.first, of.more]) < n)[:, :, None]
    top = jnp.where(there, logits, -jnp.inf).max(axis=1)
    most = jnp.maximum(top[:n], mine).at[of.owner].max(top[n:], mode="drop")
    powers = jnp.where(there, jnp.exp(logits - own(most, of)[:, None]), 0.0)
    alone = jnp.exp(mine - most)
    whole = collect(powers, of) + alone
    return powers / own(whole, of, 1)[:, None], alone / whole


def _softmax_back(kept: tuple, slopes: tuple[Array, Array]) -> tuple[Array, Array, None]:
    """A share's slope, less the mean over all shares of a node.

    Barriers, because a product that is fused with the sum it goes into has other bits, and what is
    fused depends on the program around it.
    """
    shares, of = kept
    parts, part = jax.lax.optimization_barrier(jax.tree.map(jnp.multiply, shares, slopes))
    mean = collect(parts, of) + part
    means = own(mean, of)[:, None], mean
    less, less_mine = jax.lax.optimization_barrier(jax.tree.map(jnp.multiply, shares, means))
    return parts - less, part - less_mine, None


def _softmax_kept(logits: Array, mine: Array, of: Links) -> tuple[tuple[Array, Array], tuple]:
    shares = softmax(logits, mine, of)
    return shares, (shares, of)


softmax.defvjp(_softmax_kept, _softmax_back)


def _onto(first: Array, more: Array, of: Links) -> Array:
    """Rows of further neighbours, added to the first rows of those whose they are."""
    return first.at[of.owner].add(more, mode="drop")


def at(x: Array, ids: Array | np.ndarray) -> Array:
    """The rows of these numbers; 0 for a number beyond all."""
    return x.at[ids].get(mode="fill", fill_value=0)


def _other_way(x: Array, of: Links) -> Array:
    return at(x.reshape(-1, *x.shape[2:]), of.reverse)


def _sum(terms: list[Array]) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
