"""A tree of dicts out of leaves by dotted names, as ``params.hidden0.kernel``."""

from collections.abc import Mapping
from typing import Any

PyTree = Any


def nested(found: Mapping[str, Any]) -> PyTree:
    """Leaves by their names, as a tree of dicts.

    Raises:
      KeyError: one name goes on where another ends, as ``a`` and ``a.b``.

    Example:
      >>> nested({"params.w": 1, "params.b": 2})
      {'params': {'w': 1, 'b': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in found.items():
        *above, last = path.split(".")
        inner = tree
        for name in above:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise KeyError(path)
        if last in inner:
            raise KeyError(path)
        inner[last] = leaf
    return tree
