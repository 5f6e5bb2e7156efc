"""All that a run is between two rounds: how it begins, how it is looked at, saved and resumed."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Int, Key

from ist_jax import validate
from ist_jax.axes import same_structure
from ist_jax.core.errors import InputError
from ist_jax.optimizer_state.carried import OWN
from ist_jax.partition import Assignment
from ist_jax.sharded import placement, views
from ist_jax.sharded.layout import Layout

PyTree = Any
NO_ERRORS: dict[str, Array] = {}


class State(NamedTuple):
    """All that a run is between two rounds.

    ``assignment`` is that of the coming round. On several devices the leaves of ``params`` and
    ``opt_state`` are spread as ``layout`` says: cut axes first, neurons in the order of their
    holders, which another round changes. So ``params`` is not the net: ``Trainer.unsharded`` gives
    its leaves their natural shapes, and ``Trainer.map_params`` changes them. ``errors`` is what
    each worker remembers of updates that a code cut short (``compress.with_feedback``): of each
    such leaf an array ``[S, ...]``. ``server`` is the state of the method's outer optimizer. Where
    an optimizer's state is each worker's own, ``opt_state`` has leaves ``[S, ...]``.
    """

    params: PyTree
    opt_state: PyTree
    round: Int[Array, ""]
    key: Key[Array, ""]
    assignment: Assignment
    errors: PyTree = NO_ERRORS
    server: PyTree = ()

    @property
    def carried(self) -> tuple[PyTree, PyTree, PyTree]:
        """What ``layout`` spreads."""
        return self.params, self.opt_state, self.server


class States:
    """What can be done with a state between two rounds (``trainer.Trainer`` says what each does).

    Args:
      layout: how ``(params, opt_state, server)`` are spread.
      mesh: the devices.
      begin: ``params -> (params, opt_state, server)`` of a run that begins.
      draw: ``(key, number) -> `` an assignment, compiled.

    Attributes:
      shapes: what ``unsharded`` gives.
    """

    def __init__(
        self,
        layout: Layout,
        mesh: Mesh,
        begin: Callable[[PyTree], tuple[PyTree, PyTree, PyTree]],
        draw: Callable[..., Assignment],
    ):
        self._mesh, self._draw, self._begin = mesh, draw, jax.jit(begin)
        self._own = any(leaf.role == OWN for leaf in layout.leaves)
        self.shapes = _shapes(layout, mesh, jax.eval_shape(self._draw, jax.random.key(0), 0))
        lay_out = functools.partial(views.lay_out, layout, mesh)
        # One program for all seeds.
        self._first = functools.lru_cache(2)(lambda make: lay_out(lambda start: begin(make(start))))
        self._lay_out = lay_out(_itself)
        self._unsharded = views.unfold(layout, mesh, whole=False)
        self._whole = views.unfold(layout, mesh, whole=True)
        self._no_errors = jax.jit(
            lambda: {n: jnp.zeros(leaf.shape, leaf.dtype) for n, leaf in layout.errors.items()},
            out_shardings=NamedSharding(mesh, placement.SPLIT),
        )
        self._everywhere = jax.jit(_copies, out_shardings=NamedSharding(mesh, placement.EVERYWHERE))

    def init(self, params: Any, key: Key[Array, ""]) -> State:
        is_net = not callable(params) or same_structure(params, self.shapes.params)  # Equinox: both
        make, start = (_itself, params) if is_net else (params, key)
        _check(self.shapes.params, jax.eval_shape(make, start))
        assignment = self._draw(key, 0)
        carried = self._first(make)(start, assignment)
        return self._complete(carried, jnp.int32(0), key, assignment, {})

    def resume(self, state: State) -> State:
        validate.check_usable(state)
        if self._own and not _of_as_many(state.opt_state, self.shapes.opt_state):
            state = state._replace(opt_state=self._begin(state.params)[1])  # of other workers
        carried = state.carried
        _check(self.shapes.carried, carried)
        shape_of = lambda assignment: jax.tree.map(jnp.shape, dict(assignment))
        assignment = state.assignment
        if shape_of(assignment) != shape_of(self.shapes.assignment):
            assignment = self._draw(state.key, state.round)
        carried = self._lay_out(carried, assignment)
        return self._complete(carried, state.round, state.key, assignment, state.errors)

    def unsharded(self, state: State) -> State:
        return _unfolded(self._unsharded, state, _copies(state.errors))

    def whole(self, state: State) -> State:
        return _unfolded(self._whole, state, self._everywhere(state.errors))

    def map_params(self, function: Callable[[Array], Array], state: State) -> State:
        unsharded = self.unsharded(state)
        params = jax.jit(lambda params: jax.tree.map(function, params))(unsharded.params)
        return self.resume(unsharded._replace(params=params))

    def _complete(
        self,
        carried: Any,
        number: Array,
        key: Key[Array, ""],
        assignment: Assignment,
        errors: Mapping[str, Array],
    ) -> State:
        rest = _copies((number, key, dict(assignment)))  # the first round takes them over
        params, opt_state, server = carried
        number, key, assignment = placement.place(rest, self._mesh)
        errors = self._remembered(errors)
        return State(params, opt_state, number, key, assignment, errors, server)

    def _remembered(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """What workers remember, if it is of as many workers; else nothing yet."""
        wanted = self.shapes.errors
        fit = {n for n in wanted if n in given and jnp.shape(given[n]) == wanted[n].shape}
        kept = placement.place({n: given[n] for n in fit}, self._mesh, placement.SPLIT)
        return (self._no_errors() if len(fit) < len(wanted) else {}) | _copies(kept)


def _unfolded(
    unfold: Callable[[PyTree, Assignment], PyTree], state: State, errors: dict[str, Array]
) -> State:
    validate.check_usable(state)
    params, opt_state, server = unfold(state.carried, state.assignment)
    number, key, assignment = _copies((state.round, state.key, state.assignment))
    return State(params, opt_state, number, key, assignment, errors, server)


def _itself(start: PyTree) -> PyTree:
    return start


def _copies(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def _shapes(layout: Layout, mesh: Mesh, assignment: PyTree) -> State:
    """What ``unsharded`` gives."""
    one = NamedSharding(mesh, placement.EVERYWHERE)
    shape = lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
    shardings = views.unfolded(layout, mesh)
    params, opt_state, server = layout.tree.unflatten(map(shape, layout.leaves, shardings))
    rest = jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(jax.random.key, 0), dict(assignment)
    number, key, assignment = jax.tree.map(lambda leaf: shape(leaf, one), rest)
    split = NamedSharding(mesh, placement.SPLIT)
    errors = {name: shape(leaf, split) for name, leaf in layout.errors.items()}
    return State(params, opt_state, number, key, assignment, errors, server)


def _of_as_many(found: PyTree, wanted: PyTree) -> bool:
    """Whether states of workers' own are of as many workers."""
    count = lambda tree: {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    return count(found) == count(wanted)


def _check(expected: PyTree, found: PyTree) -> None:
    wanted, there = _kinds(expected), _kinds(found)
    for path in wanted | there:
        if wanted.get(path) != there.get(path):
            raise InputError(
                f"leaf {path} does not fit the trainer: it was built for "
                f"{wanted.get(path, 'none')}, found {there.get(path, 'none')}"
            )


def _kinds(tree: PyTree) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
