"""Losses over more labels than logits fit in memory: a block of labels at a time.

Logits are ``hidden [B, m] @ kernel [m, L]``; of the ``[B, L]`` there are never more than ``[B,
block]`` at once. Both losses are a function of all logits of an example, less the logits of its own
labels:

* ``softmax``: log sum_l exp z_l, less the mean over its labels. The sum is taken relative to the
  largest logit so far (Milakov and Gimelshein, 2018, "online softmax").
* ``logistic``: sum_l log(1 + exp z_l), less the sum over its labels: each label a question of its
  own.

The gradient computes each block of logits again. The last block is moved back so that it ends at L,
and what it has in common with the one before counts once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

LOWEST = -1e30  # a maximum over nothing, from which infinity can still be subtracted


class Kind(NamedTuple):
    """A loss: what is added up over the blocks, what it comes to, and its slope in each logit."""

    begin: Callable[[Array], Any]
    add: Callable[[Any, Array, Array], Any]  # (so far, logits, log weight of each label)
    end: Callable[[Any], Array]
    slope: Callable[[Array, Array, Array], Array]  # (logits, log weight, what it came to)
    mean: bool  # over an example's labels, or their sum


def _add_exponentials(so_far: tuple[Array, Array], z: Array, weight: Array) -> tuple[Array, Array]:
    highest, total = so_far
    z = z + weight
    higher = jnp.maximum(highest, z.max(axis=1))
    total = total * jnp.exp(highest - higher) + jnp.exp(z - higher[:, None]).sum(axis=1)
    return higher, total


KINDS: Mapping[str, Kind] = {
    "softmax": Kind(
        begin=lambda zero: (jnp.full_like(zero, LOWEST), zero),
        add=_add_exponentials,
        end=lambda total: total[0] + jnp.log(total[1]),
        slope=lambda z, weight, log_sum: jnp.exp(z + weight - log_sum[:, None]),
        mean=True,
    ),
    "logistic": Kind(
        begin=lambda zero: zero,
        add=lambda total, z, weight: total + (jnp.exp(weight) * jax.nn.softplus(z)).sum(axis=1),
        end=lambda total: total,
        slope=lambda z, weight, _: jnp.exp(weight) * jax.nn.sigmoid(z),
        mean=False,
    ),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def loss(
    hidden: Float[Array, "B m"],
    kernel: Float[Array, "m L"],
    labels: Int[Array, "B P"],
    weight: Float[Array, " L"],
    kind: str,
    bias: float,
    block: int,
) -> Float[Array, " B"]:
    """The loss of each example.

    Args:
      hidden, kernel: the factors of the logits.
      labels: those of each example, each once; numbers from L on are padding. Of an example without
        any, the second term is zero.
      weight: log of how many labels each label stands for, beside itself as an example's own: 0 for
        one, minus infinity for none. Not differentiated.
      kind: of ``KINDS``.
      bias: added to every logit (which ``softmax`` does not notice).
      block: labels at a time.
    """
    return _forward(hidden, kernel, labels, weight, kind, bias, block)[0]


def _forward(hidden, kernel, labels, weight, kind, bias, block):
    of, share = KINDS[kind], _shares(labels, kernel.shape[1], kind)

    def add(carry, z, weight, first, start):
        total, picked = carry
        new = start + jnp.arange(z.shape[1]) >= first
        total = of.add(total, z, jnp.where(new, weight, -jnp.inf))
        at = labels - start
        inside = (labels >= first) & (at < z.shape[1])
        found = jnp.take_along_axis(z, jnp.clip(at, 0, z.shape[1] - 1), axis=1)
        return total, picked + jnp.where(inside, share * found, 0).sum(axis=1)

    zero = jnp.zeros(len(hidden), hidden.dtype)
    begin = of.begin(zero), zero
    total, picked = _blocks(hidden, kernel, weight, bias, block, add, begin)
    total = of.end(total)
    return total - picked, (hidden, kernel, labels, weight, total)


def _backward(kind, bias, block, kept, upstream):
    hidden, kernel, labels, weight, total = kept
    of, share = KINDS[kind], upstream[:, None] * _shares(labels, kernel.shape[1], kind)
    rows = jnp.arange(len(hidden))[:, None]

    def add(carry, z, weight, first, start):
        d_hidden, d_kernel = carry
        d = upstream[:, None] * of.slope(z, weight, total)
        at = labels - start
        at = jnp.where(at < 0, z.shape[1], at)  # beyond the end: dropped
        d = d.at[rows, at].add(-share, mode="drop")
        d_kernel = lax.dynamic_update_slice(d_kernel, hidden.T @ d, (0, start))
        d = jnp.where(start + jnp.arange(z.shape[1]) >= first, d, 0)
        part = lax.dynamic_slice_in_dim(kernel, start, z.shape[1], axis=1)
        return d_hidden + d @ part.T, d_kernel

    begin = jnp.zeros_like(hidden), jnp.zeros_like(kernel)
    return *_blocks(hidden, kernel, weight, bias, block, add, begin), None, None


loss.defvjp(_forward, _backward)


def top(
    hidden: Float[Array, "B m"], kernel: Float[Array, "m L"], count: int, block: int
) -> Int[Array, "B k"]:
    """The ``count`` labels with the largest logits, the largest first; L where there are fewer."""

    def best(carry, z, _, first, start):
        numbers = start + jnp.arange(z.shape[1])
        z = jnp.where(numbers >= first, z, -jnp.inf)
        values = jnp.concatenate([carry[0], z], axis=1)
        names = jnp.concatenate([carry[1], jnp.broadcast_to(numbers, z.shape)], axis=1)
        values, at = lax.top_k(values, count)
        return values, jnp.take_along_axis(names, at, axis=1)

    none = jnp.full((len(hidden), count), -jnp.inf, hidden.dtype)
    one = jnp.zeros(kernel.shape[1], hidden.dtype)
    begin = none, jnp.full(none.shape, kernel.shape[1], jnp.int32)
    return _blocks(hidden, kernel, one, 0.0, block, best, begin)[1]


def _blocks(
    hidden: Array,
    kernel: Array,
    weight: Array,
    bias: float,
    block: int,
    step: Callable[..., Any],
    carry: Any,
) -> Any:
    """``carry = step(carry, logits, weight, first, start)`` for every block.

    ``logits [B, block]`` are those of the labels from ``start`` on; those before ``first`` were in
    the block before.
    """
    count = kernel.shape[1]
    size = min(block, count)

    def of_block(number, carry):
        first = number * size
        start = jnp.minimum(first, count - size)
        z = hidden @ lax.dynamic_slice_in_dim(kernel, start, size, axis=1) + bias
        return step(carry, z, lax.dynamic_slice_in_dim(weight, start, size), first, start)

    return lax.fori_loop(0, -(-count // size), of_block, carry)


def _shares(labels: Int[Array, "B P"], count: int, kind: str) -> Float[Array, "B P"]:
    """How much each of an example's labels counts."""
    real = (labels < count).astype(jnp.float32)
    return real / jnp.maximum(real.sum(axis=1, keepdims=True), 1) if KINDS[kind].mean else real
