"""Arrays, sparse matrices and lists out of a pickle, of which nothing is run.

NumPy and SciPy believe what a pickle says of their insides; a damaged one can have them write where
nothing of theirs lies. Here a pickle fills plain objects, and arrays are made of what they hold.
"""

import codecs
import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from ist_jax.errors import InputError


def load(file: Path) -> Any:
    """An array, a sparse matrix by rows, or a dictionary of lists.

    Raises:
      InputError: anything else, or a damaged file.
    """
    try:
        with file.open("rb") as opened:
            found = _Unpickler(opened, encoding="latin1").load()
        return found.made() if isinstance(found, _Array | _Rows) else found
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"{file} is no file of Planetoid: {error}") from None


class _Kind:
    """Stands for a dtype."""

    def __init__(self, code: str = "", *_: Any):
        self._code = code
        self._order: Any = "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]

    def made(self) -> np.dtype:
        kind = np.dtype(self._code)
        if kind.kind not in "biuf":
            raise ValueError(f"numbers of kind {kind}")
        return kind.newbyteorder(self._order)


class _Array:
    """Stands for an array."""

    def __setstate__(self, state: tuple) -> None:
        _, self._shape, self._kind, self._by_columns, self._data = state

    def made(self) -> np.ndarray:
        data = self._data.encode("latin1") if isinstance(self._data, str) else self._data
        order: Any = "F" if self._by_columns else "C"
        return np.frombuffer(data, self._kind.made()).reshape(self._shape, order=order).copy()


class _Rows:
    """Stands for a sparse matrix."""

    def made(self) -> scipy.sparse.csr_matrix:
        told = self.__dict__
        parts = (told[what].made() for what in ("data", "indices", "indptr"))
        matrix = scipy.sparse.csr_matrix(tuple(parts), told.get("_shape") or told["shape"])
        matrix.check_format(full_check=True)
        return matrix


KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy", "_reconstruct"): lambda kind, *_: kind(),
    ("scipy", "csr_matrix"): _Rows,
    ("copy_reg", "_reconstructor"): lambda kind, *_: kind(),
    ("copyreg", "_reconstructor"): lambda kind, *_: kind(),
    ("collections", "defaultdict"): collections.defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    ("_codecs", "encode"): codecs.encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module.split(".")[0], name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no array") from None
