"""What lies in a checkpoint: read, checked against its digests, and put on devices.

``checkpoint`` writes it; ``docs/checkpoints.md`` says how to read it without this library.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from etils import epath

from ist_jax import digest
from ist_jax.errors import CheckpointError
from ist_jax.state import State

FORMAT = 1
STATE, ABOUT = "state", "about"
BLOCK = 1 << 26  # bytes that are read at a time to be checked
LARGEST_ABOUT = 1 << 28

_digest = jax.jit(digest.of)  # compiled for each shape, not for each net


def describe(state: State, about: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a natural state beside it: a digest of every leaf, and a seal on all that."""
    found = digests(state)
    told = {
        "format": FORMAT,
        "round": int(state.round),
        "about": about,
        "leaves": {
            path: {"shape": list(leaf.shape), "dtype": leaf.dtype.name, "digest": found[path]}
            for path, leaf in leaves(state).items()
        },
    }
    return told | {"seal": seal(told)}


def check(folder: epath.Path, number: int) -> dict[str, Any]:
    """What was told of a round's checkpoint, if every byte of it is as it was written.

    One process can do that alone; it reads a block of a leaf at a time.

    Raises:
      CheckpointError: naming the leaf, or what else is wrong.
    """
    where = folder / str(number)
    try:
        told = read_about(where / ABOUT / "metadata", number)
        for path, leaf in told["leaves"].items():
            _check_leaf(where / STATE, path, leaf)
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint of round {number} is damaged: {error}") from None
    return told


def restore(folder: epath.Path, told: Mapping[str, Any], shapes: State) -> State:
    """The state of a checkpoint that was checked, lying as ``shapes`` (``Trainer.shapes``) say.

    Every process reads what its devices are to hold, and waits for no other. The assignment is as
    it was stored, for whatever number of workers.

    Raises:
      CheckpointError: it holds other leaves than ``shapes``, or could not be read.
    """
    kept = told["leaves"]
    wanted = {path: _as_stored(path, leaf, kept) for path, leaf in leaves(shapes).items()}
    if wanted.keys() != kept.keys():
        strange = sorted(wanted.keys() ^ kept.keys())[0]
        raise CheckpointError(f"the checkpoint and the net do not both have a leaf {strange}")
    where = folder / str(told["round"]) / STATE
    found = {}
    for path, leaf in wanted.items():
        with _reading(path):
            read = functools.partial(_part, _open(where, path))
            found[path] = jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
    return _unflattened(shapes, found)


def confirm(told: Mapping[str, Any], state: State) -> None:
    """Makes sure that what was restored is what was checked; all processes together.

    Raises:
      CheckpointError: a leaf was read otherwise, in some process.
    """
    for path, found in digests(state).items():
        if found != told["leaves"][path]["digest"]:
            raise CheckpointError(f"leaf {path} is not what was checked: it was read otherwise")


def digests(state: State) -> dict[str, str]:
    """Of every leaf, by its path, where it lies."""
    found = jax.device_get({path: _digest(leaf) for path, leaf in leaves(state).items()})
    return {path: digest.text(lanes) for path, lanes in found.items()}


def _plain(leaf: Any) -> Any:
    """A key as its numbers; anything else as it is. Shapes too."""
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        numbers = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=leaf.sharding)
    return jax.random.key_data(leaf)


def leaves(state: State) -> dict[str, Any]:
    """All leaves by their paths, as ``params.hidden0.kernel``."""
    paths = jax.tree_util.tree_leaves_with_path(state)
    return {_name(path): _plain(leaf) for path, leaf in paths}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _unflattened(shapes: State, found: Mapping[str, Any]) -> State:
    def one(path, leaf):
        value = found[_name(path)]
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(value))
        return value

    return jax.tree_util.tree_map_with_path(one, shapes)


def _as_stored(path: str, leaf: Any, stored: Mapping[str, Any]) -> Any:
    """What to ask for; an assignment comes with the shape it was stored with."""
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


def seal(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_about(path: epath.Path, number: int) -> dict[str, Any]:
    try:
        if path.stat().length > LARGEST_ABOUT:
            raise CheckpointError(f"{path.parent.name} is larger than it can be")
        told = json.loads(path.read_bytes())
        sealed = told.pop("seal")
        whole = sealed == seal(told)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path.parent.name} cannot be read ({repr(error)[:80]})") from None
    if not whole:
        raise CheckpointError(f"{path.parent.name} does not carry its seal")
    if told.get("format") != FORMAT:
        raise CheckpointError(f"its format is not {FORMAT}, the one that this library reads")
    if told.get("round") != number:
        raise CheckpointError("it is of another round")
    kept = told.get("leaves")
    if not isinstance(kept, dict) or not all(map(_is_told, kept.values())):
        raise CheckpointError("it does not tell of its leaves")
    return told


def _is_told(leaf: Any) -> bool:
    types = {"shape": list, "dtype": str, "digest": str}
    return isinstance(leaf, dict) and {k: type(v) for k, v in leaf.items()} == types


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"leaf {path} cannot be read ({reason})") from None


def _open(state: epath.Path, path: str) -> tensorstore.TensorStore:
    base = str(state) if "://" in str(state) else f"file://{state.resolve()}"
    where = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base}, "path": f"{path}/"}
    return tensorstore.open(where, open=True, read=True).result()


def _part(array: tensorstore.TensorStore, index: Any) -> np.ndarray:
    return array[index].read().result()


def _check_leaf(state: epath.Path, path: str, told: Mapping[str, Any]) -> None:
    """Reads a leaf block by block.

    Raises:
      CheckpointError: it cannot be read, or is not what was told.
    """
    found = np.zeros(2, np.uint32)
    with _reading(path):
        array = _open(state, path)
        if (list(array.shape), array.dtype.name) != (told["shape"], told["dtype"]):
            raise CheckpointError(f"leaf {path} has another shape or type than was written")
        rows, size = (array.shape[0], array.size) if array.shape else (1, 1)
        some = max(1, BLOCK * rows // max(1, size * array.dtype.numpy_dtype.itemsize))
        for first in range(0, rows, some):
            block = array[first : min(first + some, rows)] if array.shape else array
            found = found + np.asarray(_digest(block.read().result(), first))
    if digest.text(found) != told["digest"]:
        raise CheckpointError(f"leaf {path} differs from its digest")
