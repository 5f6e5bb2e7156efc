"""What of a checkpoint fits the state that is asked for."""

from collections.abc import Mapping
from typing import Any

import jax

from ist_jax.core.errors import CheckpointError
from ist_jax.sharded.state import State

ERRORS, OPTIMIZER = "errors.", "opt_state."


def of_as_many(shapes: State, by_path: Mapping[str, Any], stored: Mapping[str, Any]) -> State:
    """Without errors, and states of workers' own, that were stored for another number of them.

    Args:
      shapes: what is asked for, and ``by_path`` its leaves.
      stored: what a checkpoint says of its leaves.
    """
    shape = lambda path: stored.get(path, {}).get("shape")
    errors = {n: leaf for n, leaf in shapes.errors.items() if shape(ERRORS + n) == [*leaf.shape]}
    for path, leaf in by_path.items():
        was, now = shape(path), [*leaf.shape]
        if path.startswith(OPTIMIZER) and was and was != now and was[1:] == now[1:]:
            return shapes._replace(errors=errors, opt_state=None)
    return shapes._replace(errors=errors)


def as_stored(path: str, leaf: Any, stored: Mapping[str, Any]) -> Any:
    """What to ask for; an assignment comes with the shape it was stored with.

    Raises:
      CheckpointError: another shape or type was stored.
    """
    if path.startswith("who.") and path in stored:
        shape = tuple(stored[path]["shape"])
        leaf = jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)
    if path in stored and (list(leaf.shape), leaf.dtype.name) != (
        stored[path]["shape"],
        stored[path]["dtype"],
    ):
        raise CheckpointError(
            f"leaf {path} of the checkpoint is {stored[path]['dtype']}{stored[path]['shape']}, the "
            f"net's is {leaf.dtype.name}{list(leaf.shape)}"
        )
    return leaf
