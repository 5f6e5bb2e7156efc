"""Numbers in rows, a line each, separated by commas: read block by block, or refused by line."""

from pathlib import Path
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import files


def read(file: Path, kind: Any, columns: int | None = None) -> np.ndarray:
    """The numbers of a text file, ``[lines, columns]``; ``.gz`` and ``.xz`` are unpacked.

    Args:
      kind: dtype of the numbers; whole numbers must fit it.
      columns: how many each line must hold; as many as the first does if absent.

    Raises:
      InputError: a line that is blank, a comment, or not that many numbers (file and line are
        named); an empty file; more numbers than a file of its size can hold (``files.most``).
    """
    parts: list[np.ndarray] = []
    lines_read = kept = 0
    for lines in files.blocks(file):
        rows = _rows(lines, kind)
        if rows is None or rows.shape[1] != (columns or rows.shape[1]):
            raise InputError(_complaint(file, lines, lines_read + 1, kind, columns))
        columns = rows.shape[1]
        parts.append(rows)
        lines_read, kept = lines_read + len(lines), kept + rows.nbytes
        if kept > files.most(file):
            raise InputError(
                f"{file} holds over {lines_read} lines, which take more than {files.SPREAD} times "
                "its own size: it is damaged"
            )
    if not parts:
        raise InputError(f"{file}: it is empty")
    return np.concatenate(parts)


def _rows(lines: list[bytes], kind: Any) -> np.ndarray | None:
    """A row for each line; None if one is no row, or unlike the others."""
    if not all(line.strip() for line in lines):
        return None
    try:
        return np.loadtxt(lines, kind, delimiter=",", comments=None, ndmin=2)
    except ValueError:
        return None


def _complaint(file: Path, lines: list[bytes], first: int, kind: Any, columns: int | None) -> str:
    """What is wrong with the first of these lines that is no row."""
    number, line = first, lines[0]
    for number, line in enumerate(lines, start=first):  # noqa: B007 (they are said below)
        row = _rows([line], kind)
        if row is None or row.shape[1] != (columns or row.shape[1]):
            break
        columns = row.shape[1]
    what = "whole numbers" if np.issubdtype(kind, np.integer) else "numbers"
    found = files.shown(line) if line.strip() else "a blank line"
    return f"{file}, line {number}: expected {columns or 'a row of'} {what}, found {found}"
