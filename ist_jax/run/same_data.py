"""Runs that go on, and processes that train together, have the same data: by its SHA-256."""

import contextlib
import pathlib
import sys

from ml_collections import ConfigDict

from ist_jax import checkpoint
from ist_jax.checkpoint import Checkpoints
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.run import compare
from ist_jax.run.saving import folder
from ist_jax.run.team import Team


def check_team(team: Team, data: str) -> None:
    """Makes sure that all processes have the same data, by their digests.

    Raises:
      InputError: in every process.
    """
    first, *others = team.share("the digest of the data", data)
    for number, other in enumerate(others, start=1):
        if other != first:
            raise InputError(
                f"the processes were not given the same data: their SHA-256 is {first or 'unknown'}"
                f" in process 0 and {other or 'unknown'} in process {number}"
            )


def check_data(config: ConfigDict, workdir: pathlib.Path, data: str) -> None:
    """Makes sure that the checkpoints of an experiment are of the data that it has now.

    Prints a line for one that does not say its data. One that cannot be read, or of another config,
    is passed over here, as it is refused where it is to be used.

    Raises:
      InputError: naming both digests.
    """
    for kept in checkpoint.within(folder(config, workdir)):
        found = _digests(config, kept)
        for number, digest in found.items():
            if digest and data and digest != data:
                raise InputError(
                    f"{kept.folder}: round {number} was trained on other data: their SHA-256 was "
                    f"{digest}, now it is {data}. Give the data it was trained on (they may lie "
                    "elsewhere), or choose another --workdir."
                )
        if found and not (data and next(iter(found.values()))):
            print(
                f"{kept.folder}: the checkpoint of round {next(iter(found))} does not say what "
                "data it was trained on; they are taken to be the same as now",
                file=sys.stderr,
            )


def _digests(config: ConfigDict, kept: Checkpoints) -> dict[int, str]:
    """Of the data of each round's checkpoint, the newest first; empty if it does not say."""
    found = {}
    for number in kept.rounds():
        with contextlib.suppress(CheckpointError, InputError, KeyError, TypeError):
            about = kept.about(number)["about"]
            compare.same(config, about["config"], "")
            found[number] = about.get("data", "")
    return found
