"""The arrays of any tree, on the host, by names that other programs can use."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ist_jax.core.errors import InputError, first_line
from ist_jax.core.probes import is_box

PyTree = Any


def named(tree: PyTree) -> dict[str, np.ndarray]:
    """Every array of a tree by its path with dots, in the tree's own order.

    Args:
      tree: any pytree of JAX and NumPy arrays; Flax's boxes are left out of the names.

    Raises:
      InputError: a leaf is no array, a random key, used up or spread over processes; or its name
        would be ambiguous. The leaf is named. Or there is none.

    Example:
      >>> import numpy as np
      >>> list(named({"params": {"hidden0": {"kernel": np.ones((2, 3))}}, "more": [np.ones(1)]}))
      ['more.0', 'params.hidden0.kernel']
    """
    found: dict[str, np.ndarray] = {}
    for name, leaf in _named(tree):
        if name in found:
            raise InputError(f"two leaves are called {name}: rename one of them")
        found[name] = _on_host(name, leaf)
    if not found:
        raise InputError("there is no array in what is to be exported")
    return found


def on_host(tree: PyTree) -> PyTree:
    """The same tree, of NumPy arrays and without boxes; refused as ``named`` refuses."""
    arrays = list(named(tree).values())
    return jax.tree.unflatten(jax.tree.structure(tree, is_leaf=is_box), arrays)


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    try:
        leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_box)
    except ValueError as error:  # keys of one dict that cannot be sorted
        raise InputError(f"the tree cannot be walked: {first_line(error)}") from None
    for path, leaf in leaves:
        parts = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if not parts:
            raise InputError("one array alone has no name: export {'name': array}")
        for part in parts:
            if not part or "." in part or not part.isprintable():
                raise InputError(
                    f"leaf {jax.tree_util.keystr(path)}: names are joined by dots, so {part!r} "
                    "must be a name without one, of letters that can be printed. Rename it."
                )
        yield ".".join(parts), leaf.unbox() if is_box(leaf) else leaf


def _on_host(name: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, np.ndarray | np.generic | jax.Array):
        raise InputError(
            f"leaf {name} is no array but of type {type(leaf).__name__}: leave it out, or make it "
            "one (numpy.asarray)"
        )
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise InputError(
            f"leaf {name} is a random key, which no other library reads: leave it out, or export "
            "its numbers (jax.random.key_data)"
        )
    if isinstance(leaf, jax.core.Tracer):
        raise InputError(f"leaf {name} has no values while a function is traced: export outside it")
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise InputError(f"leaf {name} was used up (donated): export what came of it")
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        raise InputError(
            f"leaf {name} is spread over several processes: gather it first (Trainer.whole)"
        )
    found = np.asarray(leaf, order="C")
    if not jax.numpy.issubdtype(found.dtype, np.number) and found.dtype != np.bool_:
        raise InputError(f"leaf {name} is of type {found.dtype}, and no array of numbers")
    return found
