"""What is in a checkpoint: read, checked against its digests, and put on devices.

``writing`` writes it; ``docs/checkpoints.md`` says how to read it without this library.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from etils import epath

from ist_jax.checkpoint import digest, wanted
from ist_jax.checkpoint.about import FORMAT, ITEMS, STATE, STATISTICS, read, sealed
from ist_jax.checkpoint.wanted import ERRORS, OPTIMIZER
from ist_jax.core import dotted, strict_json
from ist_jax.core.errors import CheckpointError
from ist_jax.sharded.state import State

PyTree = Any

ON_DISK = {"assignment": "who"}  # fields of ``State`` whose name is another in a checkpoint
BLOCK = 1 << 26  # bytes that are read at a time to be checked

_digest = jax.jit(digest.lanes)  # compiled for each shape, not for each net


def describe(state: State, about: Mapping[str, Any], statistics: PyTree) -> dict[str, Any]:
    """What is written beside a natural state: a digest of every leaf, and a seal on all that.

    Raises:
      InputError: ``about`` holds what JSON cannot say (NaN, infinity).
    """
    strict_json.dumps(about, "about")
    listed = {ITEMS[STATE]: _described(state), ITEMS[STATISTICS]: _described(statistics)}
    return sealed({"format": FORMAT, "round": int(state.round), "about": about, **listed})


def _described(tree: PyTree) -> dict[str, Any]:
    found = digests(tree)
    return {
        path: {"shape": list(leaf.shape), "dtype": leaf.dtype.name, "digest": found[path]}
        for path, leaf in leaves(tree).items()
    }


def check(folder: epath.Path, number: int) -> dict[str, Any]:
    """What a round's checkpoint says of itself, if every byte of it is as it was written.

    One process can do that alone; it reads a block of a leaf at a time.

    Raises:
      CheckpointError: naming the leaf, or what else is wrong.
    """
    with _damaged(number):
        about = read(folder, number)
        for item, kept in ITEMS.items():
            for path, leaf in about[kept].items():
                _check_leaf(folder / str(number) / item, path, leaf)
    return about


def net(folder: epath.Path, number: int) -> tuple[PyTree, PyTree]:
    """What the net of a round is evaluated with, ``(params, statistics)``, checked.

    Both are nested dicts of NumPy arrays, whatever containers the net had (an element of a list is
    under its number). ``statistics`` is empty where the net needs none, and in a checkpoint that
    was not to stay.

    Raises:
      CheckpointError: naming the leaf that is damaged.
    """
    with _damaged(number):
        about, where = read(folder, number), folder / str(number)
        params = {
            path: _read_leaf(where / STATE, path, leaf)
            for path, leaf in about[ITEMS[STATE]].items()
            if path.split(".")[0] == "params"
        }
        statistics = {
            path: _read_leaf(where / STATISTICS, path, leaf)
            for path, leaf in about[ITEMS[STATISTICS]].items()
        }
    return dotted.nested(params)["params"], dotted.nested(statistics)


def restore(folder: epath.Path, about: Mapping[str, Any], shapes: State) -> State:
    """The state of a checkpoint that was checked, spread as ``shapes`` (``Trainer.shapes``) say.

    Every process reads what its devices are to hold, and waits for no other. The assignment is as
    it was stored, for whatever number of workers; what workers have of their own is left out if it
    is not of as many.

    Raises:
      CheckpointError: it holds other leaves than ``shapes``, or could not be read.
    """
    kept = about["leaves"]
    shapes = wanted.of_as_many(shapes, leaves(shapes), kept)
    asked = {path: wanted.as_stored(path, leaf, kept) for path, leaf in leaves(shapes).items()}
    optional = (ERRORS, OPTIMIZER) if shapes.opt_state is None else ERRORS
    there = {path for path in kept if path in asked or not path.startswith(optional)}
    if asked.keys() != there:
        strange = sorted(asked.keys() ^ there)[0]
        raise CheckpointError(f"the checkpoint and the net do not both have a leaf {strange}")
    where = folder / str(about["round"]) / STATE
    found = {}
    for path, leaf in asked.items():
        with _reading(path):
            read = functools.partial(_part, _open(where, path))
            found[path] = jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
    return _unflattened(shapes, found)


def confirm(about: Mapping[str, Any], state: State) -> None:
    """Makes sure that what was restored is what was checked; all processes together.

    Raises:
      CheckpointError: a leaf was read otherwise, in some process.
    """
    for path, found in digests(state).items():
        if found != about["leaves"][path]["digest"]:
            raise CheckpointError(f"leaf {path} is not what was checked: it was read otherwise")


def digests(tree: PyTree) -> dict[str, str]:
    """Of every leaf, by its path; computed on the devices that hold it."""
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
    def as_leaf(path, leaf):
        value = found[_name(path)]
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(value))
        return value

    return jax.tree_util.tree_map_with_path(as_leaf, shapes)


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


def _open_described(item: epath.Path, path: str, described: Any) -> tensorstore.TensorStore:
    array = _open(item, path)
    if (list(array.shape), array.dtype.name) != (described["shape"], described["dtype"]):
        raise CheckpointError(f"leaf {path} has another shape or type than was written")
    return array


def _part(array: tensorstore.TensorStore, index: Any) -> np.ndarray:
    return array[index].read().result()


def _read_leaf(item: epath.Path, path: str, described: Mapping[str, Any]) -> np.ndarray:
    with _reading(path):
        found = _open_described(item, path, described).read().result()
    _compare(path, np.asarray(_digest(found)), described)
    return found


def _check_leaf(item: epath.Path, path: str, described: Mapping[str, Any]) -> None:
    """Reads a leaf block by block.

    Raises:
      CheckpointError: it cannot be read, or is not as it was described.
    """
    found = np.zeros(2, np.uint32)
    with _reading(path):
        array = _open_described(item, path, described)
        rows, size = (array.shape[0], array.size) if array.shape else (1, 1)
        some = max(1, BLOCK * rows // max(1, size * array.dtype.numpy_dtype.itemsize))
        for first in range(0, rows, some):
            block = array[first : min(first + some, rows)] if array.shape else array
            found = found + np.asarray(_digest(block.read().result(), first))
    _compare(path, found, described)


def _compare(path: str, found: np.ndarray, described: Mapping[str, Any]) -> None:
    if digest.text(found) != described["digest"]:
        raise CheckpointError(f"leaf {path} differs from its digest")
