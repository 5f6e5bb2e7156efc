"""One net, one file; the suffix says in which format."""

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ist_jax.core.errors import InputError
from ist_jax.export import leaves
from ist_jax.export.arrays import npz, safetensors
from ist_jax.export.programs import program

PyTree = Any
FORMATS = (".npz", ".safetensors", ".stablehlo")


def save(
    path: str | os.PathLike,
    params: PyTree,
    statistics: PyTree = None,
    apply: Callable[[PyTree, PyTree], PyTree] | None = None,
    example: PyTree = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes a net for others: its arrays, or a program.

    Args:
      path: ends with ``.npz``, ``.safetensors`` (arrays) or ``.stablehlo`` (a program).
      params: of the whole net, as ``Trainer.whole(state).params``.
      statistics: what the net is asked with besides, as ``normalise.statistics`` finds them.
      apply: ``({**params, **statistics}, x) -> y``, pure; for a program alone.
      example: a batch ``x``, its shape and type (``programs.program``); for a program alone.
      about: what is said of the net; ``.safetensors`` keeps it, the others have no place for it.

    Raises:
      InputError: a suffix that is not known, and whatever the formats refuse.
      OSError: the disk is full, or fails; what was at ``path`` is still there.
    """
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix not in FORMATS:
        near = difflib.get_close_matches(suffix.lower(), FORMATS, 1)
        raise InputError(
            f"{path} must end with one of {', '.join(FORMATS)}, found {suffix!r}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    variables = _together(params, statistics)
    if suffix == ".npz":
        return npz(path, variables)
    if suffix == ".safetensors":
        return safetensors(path, variables, about)
    if apply is None or example is None:
        raise InputError(f"{path} is to be a program: give apply and example too")
    here = jax.tree.map(jnp.asarray, leaves.on_host(variables))  # a model may index them by x
    program(path, lambda x: apply(here, x), example)


def _together(params: PyTree, statistics: PyTree) -> PyTree:
    if not statistics:
        return params
    if not isinstance(params, Mapping) or not isinstance(statistics, Mapping):
        raise InputError("params and statistics must both be dicts, to be one tree")
    if both := sorted(params.keys() & statistics.keys()):
        raise InputError(f"params and statistics both have {both[0]!r}: rename one of them")
    return {**params, **statistics}
