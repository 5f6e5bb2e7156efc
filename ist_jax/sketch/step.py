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

Products L_i C_i x are the work. Either all runs multiply the whole L_i at once, or, where workers
hold few coordinates, each run reads its own block, for a limited number of runs at once. A run
takes n d numbers, never d^2.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ist_jax.sketch.sketch import Drawn

RULES = ("step", "merge", "copy")
BLOCKS_PAY = 9  # reading an entry of a block takes as long as 9^2 products of a whole L_i
AT_ONCE = 500_000  # entries of blocks: 4 MB, whatever the number of runs
IN_BOUNDS = "promise_in_bounds"


def local(
    L: Float[Array, "d d"],
    b: Float[Array, " d"],
    drawn: Drawn,
    noises: Float[Array, "tau runs m"] | None,
    *,
    x: Float[Array, "runs d"],
    step_size: Any,
    local_steps: int,
) -> tuple[Float[Array, "runs m"], Float[Array, "runs m"]]:
    """z^0 and z^tau of one worker, on the coordinates that it holds in each run, ``[runs, m]``."""
    ids, scales = drawn
    held = jnp.minimum(ids, x.shape[1] - 1)  # an empty slot reads anything, times 0
    sketched = lambda v: scales * v if scales.ndim == 2 else (scales @ v[..., None])[..., 0]
    own_b = b[held]
    begun = sketched(jnp.take_along_axis(x, held, axis=1))

    def local_step(t, z):
        gradient = times(L, jnp.asarray(ids), z) - own_b
        if noises is not None:
            gradient += noises[t]
        return z - step_size * sketched(gradient)

    return begun, lax.fori_loop(0, local_steps, local_step, begun)


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


def times(
    L: Float[Array, "d d"], ids: Int[Array, "runs m"], z: Float[Array, "runs m"]
) -> Float[Array, "runs m"]:
    """L z on the coordinates that are held, for z on the same ones; empty slots hold zeros."""
    held = jnp.minimum(ids, len(L) - 1)
    if ids.shape[1] * BLOCKS_PAY <= len(L):

        def block_times(run):
            held, z = run
            return L.reshape(-1).at[held[:, None] * len(L) + held].get(mode=IN_BOUNDS) @ z

        return lax.map(block_times, (held, z), batch_size=max(AT_ONCE // ids.shape[1] ** 2, 1))
    row = jnp.arange(len(z))[:, None]
    whole = jnp.zeros((len(z), len(L)), z.dtype).at[row, ids].set(z, mode="drop")
    return jnp.take_along_axis(whole @ L, held, axis=1)
