"""What differs between finished run folders: keys of their configs, and their data."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ist_jax.run import compare, report, sweep
from ist_jax.run.markdown import aligned


class Differences(NamedTuple):
    """Between run folders.

    Attributes:
      keys: of the configs, that differ and change what is learnt; not methods and seeds, which are
        rows of a table.
      settings: the values of these keys in each folder.
      data: what each folder's data are called; and ``same`` whether all are the same, by their
        digest.
      held: training examples that each folder kept for validation.
    """

    keys: list[str]
    settings: list[dict[str, Any]]
    data: list[str]
    same: bool
    held: list[int]


def of(folders: Sequence[pathlib.Path]) -> Differences | None:
    """None if one of the folders is not finished, or of a version that says less."""
    try:
        summaries = [json.loads((folder / report.SUMMARY).read_text()) for folder in folders]
        flat = [compare.flat(one["config"]) for one in summaries]
        about = [one["data"] for one in summaries]
        digests = {one["sha256"] or number for number, one in enumerate(about)}
        held = [int(one.get("validation", 0)) for one in about]
        names = [f"{one['name']} ({one['train']} training examples)" for one in about]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    every = dict.fromkeys(key for one in flat for key in one)
    keys = [key for key in every if any(one.get(key) != flat[0].get(key) for one in flat)]
    keys = [key for key in keys if not key.startswith((*sweep.IDLE, *sweep.ROWS, "version"))]
    settings = [{key: one.get(key) for key in keys} for one in flat]
    return Differences(keys, settings, names, len(digests) == 1, held)


def table(folders: Sequence[pathlib.Path], found: Differences) -> str:
    """A row for each key that differs, a column for each folder; a line if the data are unlike."""
    lines = []
    if found.keys:
        rows = [["differs", *(folder.name for folder in folders)], ["---"] * (len(folders) + 1)]
        for key in found.keys:
            rows.append([key, *(sweep.shown(one[key]) for one in found.settings)])
        lines.append(aligned(rows))
    if not found.same:
        named = ", ".join(
            f"{folder.name}: {data}" for folder, data in zip(folders, found.data, strict=True)
        )
        lines.append(f"not the same data, so accuracies cannot be compared: {named}")
    return "\n\n".join(lines)
