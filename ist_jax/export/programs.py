"""A net as a program: StableHLO, written by ``jax.export``, with its weights inside.

Another process calls it with JAX alone, without the model's source. JAX promises to read such a
file for six months after it was written.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.export

from ist_jax.core.errors import InputError, first_line
from ist_jax.data.extras import needed
from ist_jax.export.whole_file import whole_file

PyTree = Any
PLATFORMS = ("cpu", "cuda", "tpu")
KNOWN = (*PLATFORMS, "rocm")  # JAX takes any other word too, and then no device is found
LARGEST = 2**31 - 2**20  # bytes of the program: the file's format counts with 31 bits


def program(
    path: str | os.PathLike,
    predict: Callable[[PyTree], PyTree],
    example: PyTree,
    *,
    batch: int | Literal["any"] = "any",
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Writes a program that answers as ``predict`` does.

    Each answer must depend on its own example alone. That is not checked.

    Args:
      path: of the file; one that is there is replaced, at once and whole.
      predict: ``x -> y``, traced once; arrays that it closes over are stored in the file.
      example: a batch, as an array or a ``jax.ShapeDtypeStruct`` (or a tree of them). Its first
        axis is the batch; only shapes and types are looked at.
      batch: how many examples a call takes.
      platforms: where the program is to run.

    Raises:
      InputError: ``predict`` cannot be traced, cannot be compiled for a platform, or not for any
        batch; the program is too large; no file can be made; or the extra ``export`` is missing.
      OSError: the disk is full, or fails; what was at ``path`` is still there.

    Example:
      >>> import pathlib, tempfile, jax.numpy as jnp
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "twice.stablehlo"
      >>> program(file, lambda x: 2 * x, jnp.ones((1, 3)))
      >>> jax.export.deserialize(bytearray(file.read_bytes())).call(jnp.ones((5, 3))).shape
      (5, 3)
    """
    with needed("export"):
        import flatbuffers  # noqa: F401  # of jax.export, which says so late

    if batch != "any" and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise InputError(f"batch must be 'any' or how many examples, 1 or more; found {batch!r}")
    if not platforms or not set(platforms) <= set(KNOWN):
        raise InputError(f"platforms must be some of {', '.join(KNOWN)}; found {platforms!r}")
    _check(predict, _sized(example, batch if batch != "any" else 2))
    asked = _sized(example, jax.export.symbolic_shape("b")[0] if batch == "any" else batch)
    exported = _exported(predict, asked, batch, platforms)
    if exported.nr_devices > 1:
        raise InputError(
            f"predict holds arrays that are spread over {exported.nr_devices} devices: gather "
            "them first (Trainer.whole, jax.device_get)"
        )
    if (size := len(exported.mlir_module_serialized)) > LARGEST:
        raise InputError(
            f"the program takes {size / 1e9:.2f} GB, and such a file at most {LARGEST / 1e9:.2f}: "
            "export the arrays (.safetensors)"
        )
    written = exported.serialize()
    with whole_file(path) as part:
        part.write_bytes(written)


def _sized(example: PyTree, size: Any) -> PyTree:
    """The example's shapes and types, with another first axis."""

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        shape, dtype = getattr(leaf, "shape", ()), getattr(leaf, "dtype", None)
        if not shape or dtype is None:
            raise InputError(
                "example must be a batch: an array or jax.ShapeDtypeStruct whose first axis is the "
                f"batch, found {type(leaf).__name__}{list(shape)}"
            )
        return jax.ShapeDtypeStruct((size, *shape[1:]), jax.dtypes.canonicalize_dtype(dtype))

    if not jax.tree.leaves(example):
        raise InputError("example must be a batch, and there is no array in it")
    return jax.tree.map(one, example)


def _check(predict: Callable[[PyTree], PyTree], asked: PyTree) -> None:
    try:
        jax.eval_shape(predict, asked)
    except Exception as error:  # whatever a stranger's model raises
        shapes = ", ".join(
            f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in jax.tree.leaves(asked)
        )
        raise InputError(
            f"predict does not take a batch of {shapes} ({type(error).__name__}: "
            f"{first_line(error)})"
        ) from None


def _exported(
    predict: Callable[[PyTree], PyTree], asked: PyTree, batch: Any, platforms: Sequence[str]
) -> jax.export.Exported:
    where = ", ".join(platforms)
    try:
        return jax.export.export(jax.jit(predict), platforms=list(platforms))(asked)
    except Exception as error:  # of tracing with a size that is not known, or of lowering
        reason = f"{type(error).__name__}: {first_line(error)}"
    if batch == "any":
        raise InputError(
            f"predict cannot be exported for any batch and {where} ({reason}). Where it says "
            "len(x), say x.shape[0]; or export it for one size, as batch=32"
        )
    raise InputError(f"predict cannot be exported for {where} ({reason})")
