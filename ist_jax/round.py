"""One round of subnet training: assign, gather, train, scatter.

Every method and every architecture runs through ``build``; the loop over rounds is the caller's::

    trainer = round.build(loss, optimizer, params, names, method=method.ist(), workers=8)
    state = trainer.init(params, jax.random.key(0))
    for batches in data:                       # leaves [S, J, B, ...]
        state, report = trainer.round(state, batches)

Source: Yuan et al., PVLDB 15(8), 2022, section 2.1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from ist_jax import axes, decompose, local, partition, traffic
from ist_jax.errors import InputError
from ist_jax.keys import fold
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.workers import each, on_every_device, place, together

PyTree = Any


class State(NamedTuple):
    """All that a run is between two rounds."""

    params: PyTree
    opt_state: PyTree
    round: Int[Array, ""]
    key: Key[Array, ""]


class Report(NamedTuple):
    """What a round tells; arrays over the S workers.

    ``loss`` is each worker's mean over its local steps (not finite where its data or its net is
    not); bytes are those of the parameters, and of the optimiser's moments where they are kept,
    that a worker receives and sends to take part in the round.
    """

    loss: Float[Array, " S"]
    took_part: np.ndarray
    bytes_received: np.ndarray
    bytes_sent: np.ndarray


class Trainer(NamedTuple):
    """Two pure functions, and the bytes they move; ``round`` donates the state it is given."""

    init: Callable[[PyTree, Key[Array, ""]], State]
    round: Callable[..., tuple[State, Report]]
    moved: traffic.Moved


def build(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    names: PyTree,
    *,
    method: Method,
    workers: int,
    optimiser_state: str = "reset",
    mesh: Mesh | None = None,
) -> Trainer:
    """Compiles a method into the two functions that run it.

    Args:
      loss: ``loss(net, batch, key) -> scalar``, for a net of any of the widths that ``method``
        gives out (a Flax model: that of ``model.clone(widths=...)``).
      optimizer: an optax gradient transformation.
      params: the net, or a tree of its shapes.
      names: the names of its axes.
      method: what is trained and exchanged.
      workers: S.
      optimiser_state: ``"reset"`` or ``"keep"``, unless the method has its own.
      mesh: devices to spread the workers over (``workers.mesh``); one device if None. The results
        are the same bits for every number of devices.

    Returns:
      ``Trainer(init, round, moved)``. ``round(state, batches, took_part=None)`` takes a tree of
      arrays ``[S, J, ...]`` and, if not all take part, ``bool[S]``.

    Raises:
      InputError: names that do not fit, more workers than neurons, nothing to cut, an unknown
        policy; from ``init``, other parameters; from ``round``, batches of the wrong shape.
    """
    widths = axes.widths(params, names)
    _check_method(method, params, names, workers)
    memory = local.memory(optimizer, method.memory or optimiser_state)
    rest_names = memory.names(params, names)
    synchronous = method.exchange == "step"
    holders = 1 if synchronous else workers  # synchronous workers hold one net together
    jax.eval_shape(lambda key: method.assign(key, widths, holders, 0), jax.random.key(0))
    moved = traffic.per_round(params, names, method, workers, memory, optimizer)

    expected = _shapes(params)

    def init(params: PyTree, key: Key[Array, ""]) -> State:
        found = _shapes(params)
        for path in expected | found:
            if expected.get(path) != found.get(path):
                raise InputError(
                    f"leaf {path} does not fit the trainer: it was built for "
                    f"{expected.get(path, 'none')}, found {found.get(path, 'none')}"
                )
        # Copied, because the first round donates what it is given.
        params = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
        rested = memory.rest(optimizer.init(params))
        key = jnp.array(key, copy=True)
        return place(State(params, rested, jnp.int32(0), key), mesh, split=False)

    def train_one(gradient, net, opt_state, batches, key):
        net, opt_state, losses = local.train(gradient, optimizer, net, opt_state, batches, key)
        return net, memory.rest(opt_state), losses

    @jax.jit(donate_argnums=0)
    def compiled(state: State, batches: PyTree, took_part: Array):
        gradient = jax.value_and_grad(loss)
        present = took_part
        if synchronous:
            gradient = together(gradient, took_part, mesh)
            batches = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1)[None], batches)
            present = took_part.any()[None]

        who = method.assign(fold(state.key, "draw"), widths, holders, state.round)
        whole, whole_names = (state.params, state.opt_state), (names, rest_names)
        nets, rested = decompose.gather(whole, whole_names, who, holders)
        opt_states = jax.vmap(memory.resume)(nets, rested)
        round_key = fold(state.key, "train", state.round)
        keys = jax.vmap(lambda worker: fold(round_key, worker))(jnp.arange(holders))

        train = each(functools.partial(train_one, gradient), None if synchronous else mesh)
        trained = train(nets, opt_states, batches, keys)
        *pieces, losses = on_every_device(trained, mesh)

        params, opt_state = decompose.scatter(
            whole, tuple(pieces), whole_names, who, present, disjoint=method.disjoint
        )
        state = State(params, opt_state, state.round + 1, state.key)
        return state, losses.mean(axis=1).reshape(-1)

    def one_round(state: State, batches: PyTree, took_part=None) -> tuple[State, Report]:
        _check_batches(batches, workers)
        present = np.ones(workers, bool) if took_part is None else np.asarray(took_part, bool)
        if present.shape != (workers,):
            raise InputError(f"took_part must be bool[{workers}], found shape {present.shape}")
        batches = place(batches, mesh, split=True)
        state, losses = compiled(state, batches, present)
        steps = jax.tree.leaves(batches)[0].shape[1]
        received, sent = (np.where(present, n, 0) for n in moved.of_steps(steps))
        return state, Report(losses, present, received, sent)

    return Trainer(init, one_round, moved)


def _check_method(method: Method, params: PyTree, names: PyTree, workers: int) -> None:
    if method.exchange not in ("round", "step", "never"):
        raise InputError(f"exchange must be 'round', 'step' or 'never', found {method.exchange!r}")
    if method.workers not in (None, workers):
        raise InputError(f"{method.name} is for {method.workers} worker, found workers={workers}")
    if workers == 1 or method.assign is partition.uncut:
        return
    leaves = axes.walk(params, names)
    shared = [path for path, _, leaf_names in leaves if not any(leaf_names)]
    if len(shared) == len(leaves):
        raise InputError(f"{method.name} has nothing to cut: no axis of any leaf has a name")
    if shared and method.exchange == "never":
        raise InputError(
            f"{method.name}: leaf {shared[0]} has no axis to cut, so the members would share it. "
            "Name an axis of it, or drop it."
        )


def _shapes(params: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _check_batches(batches: PyTree, workers: int) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(batches)
    if not leaves:
        raise InputError("the batches are an empty tree; expected arrays [S, J, B, ...]")
    shapes = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
    steps = {shape[1:2] for shape in shapes.values()}
    if any(len(s) < 2 or s[0] != workers or s[1] < 1 for s in shapes.values()) or len(steps) > 1:
        raise InputError(
            f"every leaf of the batches must begin with [S={workers} workers, J local steps >= 1], "
            f"the same J in all; found {shapes}"
        )
