"""All that a run is between two rounds: how it begins, how it is looked at, saved and resumed."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from ist_jax import validate
from ist_jax.axes import same_structure
from ist_jax.core.errors import InputError
from ist_jax.partition import Assignment
from ist_jax.sharded import placement as devices
from ist_jax.sharded.layout import Layout

PyTree = Any


class State(NamedTuple):
    """All that a run is between two rounds.

    ``who`` is the assignment of the coming round. On several devices the leaves of ``params`` and
    ``opt_state`` lie as ``layout`` says: cut axes first, neurons in the order of their holders,
    which another round changes. So ``params`` is not the net: ``Trainer.natural`` gives its leaves
    their natural shapes, and ``Trainer.map_params`` changes them.
    """

    params: PyTree
    opt_state: PyTree
    round: Int[Array, ""]
    key: Key[Array, ""]
    who: Assignment


class AtRest(NamedTuple):
    """Functions of a state between two rounds (``trainer.Trainer`` says what each does)."""

    init: Callable[[Any, Key[Array, ""]], State]
    resume: Callable[[State], State]
    natural: Callable[[State], State]
    whole: Callable[[State], State]
    map_params: Callable[[Callable[[Array], Array], State], State]
    shapes: State


def at_rest(
    lying: Layout,
    mesh: Mesh,
    rested: Callable[[PyTree], tuple[PyTree, PyTree]],
    draw: Callable[..., Assignment],
) -> AtRest:
    """What can be done with a state.

    Args:
      lying: how ``(params, opt_state)`` lies.
      mesh: where.
      rested: ``params -> (params, opt_state)`` of a run that begins.
      draw: ``(key, round) -> `` an assignment.
    """
    drawn = jax.jit(draw)
    shapes = _shapes(lying, mesh, jax.eval_shape(drawn, jax.random.key(0), 0))

    @functools.lru_cache(maxsize=2)  # one program for all seeds
    def begin(make):
        return devices.lay_down(lying, mesh, lambda start: rested(make(start)))

    go_on = devices.lay_down(lying, mesh, _as_given)

    def complete(rest, number, key, who):
        number, key, who = _copies((number, key, dict(who)))  # the first round donates them
        return State(*rest, *devices.place((number, key, who), mesh))

    def init(params, key):
        is_net = not callable(params) or same_structure(params, shapes.params)  # or both (Equinox)
        make, start = (_as_given, params) if is_net else (params, key)
        _check(shapes.params, jax.eval_shape(make, start))
        who = drawn(key, 0)
        return complete(begin(make)(start, who), jnp.int32(0), key, who)

    def resume(state):
        validate.check_usable(state)
        rest = state.params, state.opt_state
        _check((shapes.params, shapes.opt_state), rest)
        same = jax.tree.map(jnp.shape, dict(state.who)) == jax.tree.map(jnp.shape, shapes.who)
        who = state.who if same else drawn(state.key, state.round)
        return complete(go_on(rest, who), state.round, state.key, who)

    def unfold(everywhere):
        unfolding = devices.unfold(lying, mesh, everywhere)

        def of(state):
            validate.check_usable(state)
            rest = unfolding((state.params, state.opt_state), state.who)
            return State(*rest, *_copies((state.round, state.key, state.who)))

        return of

    natural = unfold(everywhere=False)

    def map_params(function, state):
        looked_at = natural(state)
        params = jax.jit(lambda params: jax.tree.map(function, params))(looked_at.params)
        return resume(looked_at._replace(params=params))

    return AtRest(init, resume, natural, unfold(everywhere=True), map_params, shapes)


def _as_given(start: PyTree) -> PyTree:
    return start


def _copies(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def _shapes(lying: Layout, mesh: Mesh, who: PyTree) -> State:
    """What ``natural`` gives."""
    one = devices.everywhere(mesh)
    shape = lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)
    lies = devices.unfolded(lying, mesh)
    params, opt_state = lying.tree.unflatten(map(shape, lying.leaves, lies))
    key, number = jax.eval_shape(jax.random.key, 0), jax.ShapeDtypeStruct((), jnp.int32)
    rest = jax.tree.map(lambda leaf: shape(leaf, one), (number, key, dict(who)))
    return State(params, opt_state, *rest)


def _check(expected: PyTree, found: PyTree) -> None:
    wanted, given = _told(expected), _told(found)
    for path in wanted | given:
        if wanted.get(path) != given.get(path):
            raise InputError(
                f"leaf {path} does not fit the trainer: it was built for "
                f"{wanted.get(path, 'none')}, found {given.get(path, 'none')}"
            )


def _told(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
