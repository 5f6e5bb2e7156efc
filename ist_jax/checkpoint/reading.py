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

from ist_jax.checkpoint import digest
from ist_jax.core import strict_json
from ist_jax.core.errors import CheckpointError
from ist_jax.sharded.state import State

PyTree = Any

FORMAT, READ = 2, (1, 2)  # of 1 there are no statistics
STATE, STATISTICS, ABOUT = "state", "statistics", "about"
ITEMS = {STATE: "leaves", STATISTICS: "statistics"}  # and where ``about`` tells of their leaves
ON_DISK = {"assignment": "who"}  # fields of ``State`` whose name is another in a checkpoint
BLOCK = 1 << 26  # bytes that are read at a time to be checked
LARGEST_ABOUT = 1 << 28

_digest = jax.jit(digest.of)  # compiled for each shape, not for each net


def describe(state: State, about: Mapping[str, Any], statistics: PyTree) -> dict[str, Any]:
    """What is told of a natural state beside it: a digest of every leaf, and a seal on all that.

    Raises:
      InputError: ``about`` holds what JSON cannot say (NaN, infinity).
    """
    strict_json.dumps(about, "about")

    def of_leaves(tree: PyTree) -> dict[str, Any]:
        found = digests(tree)
        return {
            path: {"shape": list(leaf.shape), "dtype": leaf.dtype.name, "digest": found[path]}
            for path, leaf in leaves(tree).items()
        }

    told = {"format": FORMAT, "round": int(state.round), "about": about}
    told |= {ITEMS[STATE]: of_leaves(state), ITEMS[STATISTICS]: of_leaves(statistics)}
    return told | {"seal": seal(told)}


def check(folder: epath.Path, number: int) -> dict[str, Any]:
    """What was told of a round's checkpoint, if every byte of it is as it was written.

    One process can do that alone; it reads a block of a leaf at a time.

    Raises:
      CheckpointError: naming the leaf, or what else is wrong.
    """
    with _damaged(number):
        told = read_about(folder, number)
        for item, kept in ITEMS.items():
            for path, leaf in told[kept].items():
                _check_leaf(folder / str(number) / item, path, leaf)
    return told


def net(folder: epath.Path, number: int) -> tuple[PyTree, PyTree]:
    """What the net of a round is asked with, ``(params, statistics)``, checked.

    Both are nested dicts of NumPy arrays, whatever containers the net had (an element of a list is
    under its number). ``statistics`` is empty where the net needs none, and in a checkpoint that
    was not to stay.

    Raises:
      CheckpointError: naming the leaf that is damaged.
    """
    with _damaged(number):
        told, where = read_about(folder, number), folder / str(number)
        params = {
            path: _read_leaf(where / STATE, path, leaf)
            for path, leaf in told[ITEMS[STATE]].items()
            if path.split(".")[0] == "params"
        }
        statistics = {
            path: _read_leaf(where / STATISTICS, path, leaf)
            for path, leaf in told[ITEMS[STATISTICS]].items()
        }
    return _nested(params)["params"], _nested(statistics)


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


def digests(tree: PyTree) -> dict[str, str]:
    """Of every leaf, by its path, where it lies."""
    found = jax.device_get({path: _digest(leaf) for path, leaf in leaves(tree).items()})
    return {path: digest.text(lanes) for path, lanes in found.items()}


def _plain(leaf: Any) -> Any:
    """A key as its numbers; anything else as it is. Shapes too."""
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        numbers = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(numbers.shape, numbers.dtype, sharding=leaf.sharding)
    return jax.random.key_data(leaf)


def leaves(tree: PyTree) -> dict[str, Any]:
    """All leaves by their paths, as ``params.hidden0.kernel``."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): _plain(leaf) for path, leaf in paths}


def _name(path: Any) -> str:
    """What a leaf is called in a checkpoint; not every field is called there as it is here."""
    first, dot, rest = jax.tree_util.keystr(path, simple=True, separator=".").partition(".")
    return f"{ON_DISK.get(first, first)}{dot}{rest}"


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


def read_about(folder: epath.Path, number: int) -> dict[str, Any]:
    """What is told of a round's checkpoint, by its seal as it was written; leaves are not read.

    Raises:
      CheckpointError: it is damaged, or of a format that this library does not know.
    """
    path = folder / str(number) / ABOUT / "metadata"
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
    if told.get("format") not in READ:
        known = " or ".join(map(str, READ))
        raise CheckpointError(
            f"its format is {told.get('format')!r}, and this library reads {known}"
        )
    if told.get("round") != number:
        raise CheckpointError("it is of another round")
    told = {ITEMS[STATISTICS]: {}} | told
    for kept in map(told.get, ITEMS.values()):
        if not isinstance(kept, dict) or not all(map(_is_told, kept.values())):
            raise CheckpointError("it does not tell of its leaves")
    return told


def _is_told(leaf: Any) -> bool:
    types = {"shape": list, "dtype": str, "digest": str}
    return isinstance(leaf, dict) and {k: type(v) for k, v in leaf.items()} == types


@contextlib.contextmanager
def _damaged(number: int) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"the checkpoint of round {number} is damaged: {error}") from None


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"leaf {path} cannot be read ({reason})") from None


def _open(item: epath.Path, path: str) -> tensorstore.TensorStore:
    base = str(item) if "://" in str(item) else f"file://{item.resolve()}"
    where = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base}, "path": f"{path}/"}
    return tensorstore.open(where, open=True, read=True).result()


def _open_as_told(item: epath.Path, path: str, told: Mapping[str, Any]) -> tensorstore.TensorStore:
    array = _open(item, path)
    if (list(array.shape), array.dtype.name) != (told["shape"], told["dtype"]):
        raise CheckpointError(f"leaf {path} has another shape or type than was written")
    return array


def _part(array: tensorstore.TensorStore, index: Any) -> np.ndarray:
    return array[index].read().result()


def _read_leaf(item: epath.Path, path: str, told: Mapping[str, Any]) -> np.ndarray:
    with _reading(path):
        found = _open_as_told(item, path, told).read().result()
    _compare(path, np.asarray(_digest(found)), told)
    return found


def _nested(found: Mapping[str, Any]) -> PyTree:
    """Leaves by their paths, as a tree of dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in found.items():
        *above, last = path.split(".")
        inner = tree
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = leaf
    return tree


def _check_leaf(item: epath.Path, path: str, told: Mapping[str, Any]) -> None:
    """Reads a leaf block by block.

    Raises:
      CheckpointError: it cannot be read, or is not what was told.
    """
    found = np.zeros(2, np.uint32)
    with _reading(path):
        array = _open_as_told(item, path, told)
        rows, size = (array.shape[0], array.size) if array.shape else (1, 1)
        some = max(1, BLOCK * rows // max(1, size * array.dtype.numpy_dtype.itemsize))
        for first in range(0, rows, some):
            block = array[first : min(first + some, rows)] if array.shape else array
            found = found + np.asarray(_digest(block.read().result(), first))
    _compare(path, found, told)


def _compare(path: str, found: np.ndarray, told: Mapping[str, Any]) -> None:
    if digest.text(found) != told["digest"]:
        raise CheckpointError(f"leaf {path} differs from its digest")
