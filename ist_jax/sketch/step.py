"""One step of Algorithm 1: local steps of every worker on what it holds, and one of three merges.

A worker takes tau steps on the coordinates it holds, z^0 = C_i x and
z^(t+1) = z^t - gamma C_i grad f_i(z^t). How the results are put together is the ``rule``:

=========  =====================================  =================================================
``step``   x + (1/n) sum (z_i^tau - z_i^0)        the gradient step (2), x - gamma g, for tau = 1
``merge``  (1/n) sum z_i^tau                      the merge (4)
``copy``   x + mean over holders of the changes   IST as practised, with sketches of scale 1: blocks
                                                  are copied back; what nobody holds stays
=========  =====================================  =================================================

``merge`` is ``step`` where (1/n) sum C_i = I, as for Perm-q of scale n. Where every coordinate has
c holders, ``copy`` is ``step`` with n/c times the changes.

Products L_i C_i x are the work. Either all runs multiply the whole L_i at once (it is read once a
step), or, where workers hold few coordinates, each reads its own q x q block. No d x d matrix of a
run is ever made: a run takes n d numbers.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ist_jax.sketch.sketches import Drawn

RULES = ("step", "merge", "copy")
BLOCKS_PAY = 18  # reading one entry of a block takes as long as 18^2 products of a whole L_i


def local(
    L: Float[Array, "n d d"],
    b: Float[Array, "n d"],
    drawn: Drawn,
    x: Float[Array, "runs d"],
    step_size: Any,
    local_steps: int,
    noises: Float[Array, "n tau runs m"] | None = None,
) -> tuple[Float[Array, "n runs m"], Float[Array, "n runs m"]]:
    """z^0 and z^tau of every worker, on the coordinates it holds (``drawn``: [n, runs, m])."""
    ids, scales = drawn
    held = jnp.minimum(ids, x.shape[1] - 1)  # an empty slot reads anything, times 0
    sketched = lambda v: scales * v if scales.ndim == 3 else (scales @ v[..., None])[..., 0]
    own_b = jnp.take_along_axis(b[:, None, :], held, axis=2)
    begun = sketched(jnp.take_along_axis(x[None], held, axis=2))

    def one(t, z):
        gradient = _times(L, ids, held, z) - own_b
        if noises is not None:
            gradient += noises[:, t]
        return z - step_size * sketched(gradient)

    return begun, lax.fori_loop(0, local_steps, one, begun)


def together(
    rule: str,
    ids: Int[Array, "n runs m"],
    x: Float[Array, "runs d"],
    begun: Float[Array, "n runs m"],
    ended: Float[Array, "n runs m"],
) -> Float[Array, "runs d"]:
    """The next iterate, by the rule; contributions are added up in the order of the workers."""
    row = jnp.arange(len(x))[None, :, None]
    add = lambda values: jnp.zeros_like(x).at[row, ids].add(values, mode="drop")
    if rule == "merge":
        return add(ended) / len(ids)
    if rule == "step":
        return x + add(ended - begun) / len(ids)
    holders = add(jnp.ones_like(ended))
    return x + add(ended - begun) / jnp.maximum(holders, 1)


def _times(L, ids, held, z):
    """L_i z_i on the coordinates that are held."""
    n, runs, m = z.shape
    d = L.shape[1]
    worker = jnp.arange(n)[:, None, None]
    if m * BLOCKS_PAY <= d and m <= n:
        at = worker[..., None], held[..., :, None], held[..., None, :]
        blocks = L.at[at].get(mode="promise_in_bounds")
        return (blocks * z[..., None, :]).sum(-1)
    row = jnp.arange(runs)[None, :, None]
    whole = jnp.zeros((n, runs, d), z.dtype).at[worker, row, ids].set(z, mode="drop")
    return jnp.take_along_axis(jnp.einsum("nrb,nba->nra", whole, L), held, axis=2)
