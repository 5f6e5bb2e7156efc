"""Arrays, sparse matrices and lists out of a pickle, of which nothing is run.

NumPy and SciPy believe what a pickle says of their insides; a damaged one can have them write where
nothing of theirs lies. Here a pickle fills plain objects, and arrays are made of what they hold.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files

REMEMBER = ("PUT", "BINPUT", "LONG_BINPUT")
LONGEST_CODE = 3  # characters of a kind of numbers: f4, i8


def load(file: Path) -> Any:
    """An array, a sparse matrix by rows, or a dictionary of lists.

    Raises:
      InputError: anything else, or a damaged file.
    """
    data = files.read(file)
    try:
        _check(data)
        found = _Unpickler(data).load()
        return found.made() if isinstance(found, _Array | _Rows) else found
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"{file} is no file of Planetoid: {error!s:.200}") from None


def shown(value: Any) -> str:
    """A value out of a pickle, for a complaint; a whole number may have a million digits."""
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"
    return f"{type(value).__name__} {value[:40]!r}" if isinstance(value, str) else str(type(value))


def _check(data: bytes) -> None:
    """Complains about a pickle that declares more than it holds.

    Lengths are compared with what is there; and a number to remember something by takes a place in
    a list of that length, though there cannot be more of them than there are instructions.
    """
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.name in REMEMBER and not 0 <= int(argument or 0) <= count:
            raise ValueError(f"it remembers something as number {argument}")


class _Kind:
    """Stands for a dtype."""

    def __init__(self, code: str = "", *_: Any):
        self._code = code
        self._order: Any = "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]

    def made(self) -> np.dtype:
        if not isinstance(self._code, str) or len(self._code) > LONGEST_CODE:
            raise ValueError("a kind of numbers that is none")
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

    def made(self) -> Any:  # a csr_matrix of scipy
        fields = self.__dict__
        parts = [fields[what].made() for what in ("data", "indices", "indptr")]
        if any(part.dtype.kind not in "iu" for part in parts[1:]):
            raise ValueError("places in the matrix that are no whole numbers")
        if [*map(len, parts[:2])] != [*parts[2][-1:]] * 2:  # SciPy would leave the rest out
            raise ValueError("the matrix has entries that are in no row, or rows without theirs")
        with np.errstate(over="ignore"):
            if not np.isfinite(parts[0].astype(np.float32)).all():
                raise ValueError("a number in the matrix is not finite")
        from scipy import sparse  # slow to import

        matrix = sparse.csr_matrix(tuple(parts), fields.get("_shape") or fields["shape"])
        matrix.check_format(full_check=True)
        entries = matrix.nnz
        matrix.sum_duplicates()
        if matrix.nnz != entries:
            raise ValueError("a row of the matrix has a column twice")
        return matrix


def _new_dict(*_: Any) -> dict:
    """What is absent from a dictionary of lists is not asked for."""
    return {}


def _new_list() -> list:
    return []


KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy", "_reconstruct"): lambda kind, *_: kind(),
    ("scipy", "csr_matrix"): _Rows,
    ("copy_reg", "_reconstructor"): lambda kind, *_: kind(),
    ("copyreg", "_reconstructor"): lambda kind, *_: kind(),
    ("collections", "defaultdict"): _new_dict,
    ("__builtin__", "list"): _new_list,
    ("builtins", "list"): _new_list,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._left = len(data)  # bytes that texts may still be turned into

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return KNOWN[module.split(".")[0], name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no array") from None

    def _encode(self, text: str, encoding: str) -> bytes:
        """As Python 3 writes bytes for Python 2; each text once, so no more than the file holds."""
        self._left -= len(text)
        if encoding != "latin1" or self._left < 0:
            raise pickle.UnpicklingError(f"a text that is encoded as {encoding!r:.20}, or twice")
        return text.encode("latin1")
