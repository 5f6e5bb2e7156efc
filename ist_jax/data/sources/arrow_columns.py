"""Columns of tables of Arrow, as arrays: what they hold is taken from their type."""

import json
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import own


def _described(table: Any, column: str) -> dict[str, Any]:
    """What ``datasets`` has written into the file about a column."""
    try:
        found = json.loads((table.schema.metadata or {})[b"huggingface"])
        found = found["info"]["features"][column]
        return found if isinstance(found, dict) else {}
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}


def class_names(table: Any, column: str) -> list[str]:
    """The names of the classes of a ``ClassLabel``, or none."""
    found = _described(table, column).get("names")
    return found if isinstance(found, list) else []


def kind(table: Any, column: str) -> str:
    """``"image"``, ``"text"`` or ``"numbers"``."""
    import pyarrow

    stored = table.schema.field(column).type
    if pyarrow.types.is_dictionary(stored):
        stored = stored.value_type
    if _described(table, column).get("_type") == "Image" or pyarrow.types.is_binary(stored):
        return "image"
    if pyarrow.types.is_struct(stored) and stored.get_field_index("bytes") >= 0:
        return "image"
    text = pyarrow.types.is_string(stored) or pyarrow.types.is_large_string(stored)
    return "text" if text else "numbers"


def decoded(values: Any) -> Any:
    """A column in one piece, without the dictionary that its values may be numbers of."""
    import pyarrow

    return values.dictionary_decode() if pyarrow.types.is_dictionary(values.type) else values


def texts(values: Any, where: str) -> list[str]:
    """Of a column in one piece."""
    _whole(values, where)
    return values.to_pylist()


def labels(values: Any, where: str) -> np.ndarray:
    """Integers, texts or floating-point numbers, ``[n]``; or numbers ``[n, ...]`` of lists."""
    import pyarrow

    _whole(values, where)
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        return np.array(values.to_pylist())
    return _array(values, where)


def numbers(values: Any, where: str) -> np.ndarray:
    """``float32 [n, ...]`` of numbers, or of lists of one length."""
    found = _array(values, where)
    own.check_size(found.shape, where, "Prepare a reader that maps its arrays from files")
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what becomes infinite is refused with its number
        found = found.astype(np.float32)
    return found[:, None] if found.ndim == 1 else found


def _array(values: Any, where: str) -> np.ndarray:
    """Lists of lists are axes, if those of an axis are of one length."""
    import pyarrow
    import pyarrow.compute

    shape = [len(values)]
    _whole(values, where)
    while _is_list(values.type):
        lengths = pyarrow.compute.list_value_length(values).to_numpy(zero_copy_only=False)
        if (odd := np.flatnonzero(lengths != lengths[0])).size:
            raise InputError(
                f"{where}: a list of {lengths[odd[0]]} beside one of {lengths[0]}; all must be of "
                "one length"
            )
        shape.append(int(lengths[0]))
        values = values.flatten()
        _whole(values, where)
    kinds, stored = pyarrow.types, values.type
    if not (kinds.is_integer(stored) or kinds.is_floating(stored) or kinds.is_boolean(stored)):
        raise InputError(f"{where} must hold numbers, found {stored!s:.60}")
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _is_list(stored: Any) -> bool:
    import pyarrow

    kinds = pyarrow.types
    return kinds.is_list(stored) or kinds.is_large_list(stored) or kinds.is_fixed_size_list(stored)


def _whole(values: Any, where: str) -> None:
    if values.null_count:
        first = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{where}: value {first} is missing (one of {values.null_count}). Leave such examples "
            "out"
        )
