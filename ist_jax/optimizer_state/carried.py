"""All that is carried from one round to the next: ``(params, opt_state, server)``.

``opt_state`` is what ``carry.Memory`` keeps of the workers' optimizer, ``server`` the state of an
outer one (``server.Server``), or an empty tuple. Every leaf has a *role*:

* *trained*: it is of the subnets, gathered and put back;
* *own*: each worker has its own, ``[S, ...]``, which never moves;
* *the server's*: it is where the entries are that it is of, and is no part of any subnet.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ist_jax import axes
from ist_jax.axes import Net
from ist_jax.optimizer_state.carry import Memory
from ist_jax.optimizer_state.server import Server

PyTree = Any


class Role(NamedTuple):
    """What a leaf is to a round.

    Attributes:
      kind: ``"trained"``, ``"own"`` or ``"server"``.
      of: the number of the parameter whose entries a leaf of the server's belongs to, one by one.
    """

    kind: str = "trained"
    of: int | None = None


TRAINED, OWN = Role(), Role("own")


class Carried(NamedTuple):
    """``(params, opt_state, server)`` without the numbers, and the role of each of its leaves."""

    net: Net
    roles: tuple[Role, ...]


def first(
    optimizer: optax.GradientTransformation,
    memory: Memory,
    server: Server | None,
    workers: int,
    params: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """What a run that begins carries."""
    state = memory.carry(optimizer.init(params))
    if memory.own:
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (workers, *leaf.shape)), state)
    return params, state, () if server is None else server.first(params)


def describe(
    net: Net,
    optimizer: optax.GradientTransformation,
    memory: Memory,
    server: Server | None = None,
    workers: int = 1,
) -> Carried:
    """What a run carries of a net."""
    shapes = jax.eval_shape(
        lambda params: first(optimizer, memory, server, workers, params), net.shapes
    )
    names = memory.names(net)
    if memory.own:
        names = jax.tree.map(lambda leaf: (None,) * leaf.ndim, shapes[1])
    described = axes.describe(shapes, (net.names, names, () if server is None else server.names))
    of_workers = OWN if memory.own else TRAINED
    roles = [TRAINED] * len(net.leaves) + [of_workers] * len(jax.tree.leaves(shapes[1]))
    if server is not None:
        roles += [Role("server", number) for number in server.of]
    return Carried(described, tuple(roles))
