"""The arrays of a net in a file: NumPy's ``.npz``, and ``.safetensors``, which keeps bfloat16."""

import contextlib
import importlib.metadata
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core import dotted, strict_json
from ist_jax.core.errors import InputError, first_line
from ist_jax.data.extras import needed
from ist_jax.export import leaves
from ist_jax.export.whole_file import whole_file

PyTree = Any

ABOUT = "about"  # the one entry of the header: of several, the library writes no fixed order
KEPT = (  # types that safetensors writes, and reads into NumPy
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64"),
)


def npz(path: str | os.PathLike, tree: PyTree) -> None:
    """Writes the arrays of a tree for ``numpy.load``, each under its dotted name.

    Types that NumPy does not have are stored in one that holds every value of them: bfloat16 and
    smaller floats as float32, int4 as int8. The same tree gives the same bytes.

    Args:
      path: of the file; one that is there is replaced, at once and whole.
      tree: any pytree of arrays, as ``{**params, **statistics}``.

    Raises:
      InputError: a leaf that cannot be exported (``leaves.named``), or no file can be made there.
      OSError: the disk is full, or fails; what was at ``path`` is still there.

    Example:
      >>> import pathlib, tempfile
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
      >>> npz(file, {"params": {"kernel": np.ones((2, 3), np.float32)}})
      >>> np.load(file)["params.kernel"].shape
      (2, 3)
    """
    arrays = leaves.named(tree)
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():  # numpy.savez takes no leaf that is called "file"
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _as_numpys(array), allow_pickle=False)


def safetensors(
    path: str | os.PathLike, tree: PyTree, about: Mapping[str, Any] | None = None
) -> None:
    """Writes the arrays of a tree as ``.safetensors``, each under its dotted name and in its type.

    Args:
      path, tree: as for ``npz``.
      about: what the header is to say of the net (method, round, ...), anything that JSON can say.
        It is one entry, ``about``; the versions of ist_jax and JAX are added.

    Raises:
      InputError: as ``npz``; a type that the format does not have; ``about`` cannot be said in
        JSON; or the extra ``export`` is not installed.
      OSError: as ``npz``.
    """
    with needed("export"):
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

    arrays = leaves.named(tree)
    for name, array in arrays.items():
        if array.dtype.name not in KEPT:
            raise InputError(
                f"leaf {name} is of type {array.dtype.name}, and safetensors keeps "
                f"{', '.join(KEPT)}: convert it"
            )
        if name == "__metadata__":
            raise InputError("safetensors takes no leaf that is called __metadata__: rename it")
    header = {ABOUT: _said(about or {})}
    with whole_file(path) as part:
        try:
            save_file(arrays, part, header)
        except SafetensorError as error:  # the disk's error comes as text
            raise OSError(None, first_line(error)) from None


def read_npz(path: str | os.PathLike) -> PyTree:
    """What ``npz`` has written, as nested dicts of NumPy arrays.

    Raises:
      InputError: the file is not there, or is not such a file.
    """
    with _reading(path, "npz"), np.load(path, allow_pickle=False) as archive:
        return dotted.nested({name: archive[name] for name in archive.files})


def read_safetensors(path: str | os.PathLike) -> PyTree:
    """What ``safetensors`` has written, as nested dicts of NumPy arrays.

    Raises:
      InputError: as ``read_npz``, or the extra ``export`` is not installed.
    """
    with needed("export"):
        from safetensors.numpy import load_file
    with _reading(path, "safetensors"):
        return dotted.nested(load_file(path))


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """What a ``.safetensors`` file says of its net; empty where another program wrote it.

    Raises:
      InputError: as ``read_safetensors``.
    """
    with needed("export"):
        from safetensors import safe_open
    with _reading(path, "safetensors"), safe_open(path, "np") as opened:
        return json.loads((opened.metadata() or {}).get(ABOUT, "{}"))


def _as_numpys(array: np.ndarray) -> np.ndarray:
    """In a type of NumPy's own, without loss."""
    if array.dtype.isbuiltin != 2:  # 2: a type that another library has brought (ml_dtypes)
        return array
    return array.astype(np.float32 if jnp.issubdtype(array.dtype, jnp.floating) else np.int8)


def _said(about: Mapping[str, Any]) -> str:
    versions = {"jax": jax.__version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a checkout on the path
        versions["ist_jax"] = importlib.metadata.version("ist_jax")
    try:
        return strict_json.dumps({**about, "versions": versions}, ABOUT, sort_keys=True)
    except TypeError as error:
        raise InputError(f"about: {error}; give numbers, texts, lists and dicts") from None


@contextlib.contextmanager
def _reading(path: str | os.PathLike, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged file; each library raises its own
        raise InputError(f"{path} is no {kind} file of arrays ({first_line(error)})") from None
