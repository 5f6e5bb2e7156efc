"""Folders with a folder for each class, and files in those."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from ist_jax.core.errors import InputError
from ist_jax.data import options, own

LAYOUT = "FOLDER/CLASS/FILES, or FOLDER/train/CLASS/FILES and FOLDER/test/CLASS/FILES"


class Found(NamedTuple):
    """The names of the classes, in their order, and the files of each part with their class."""

    classes: list[str]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]


def read(root: Path, kinds: Collection[str], test: Any, seed: Any, what: str) -> Found:
    """The files of each class, in the order of their names; hidden ones do not count.

    Args:
      root: the folder.
      kinds: ends of names that count, in small letters; all do if there are none.
      test: the share for test, if the folder has no part for it.
      seed: of that draw.
      what: what the files are, for messages.

    Raises:
      InputError: fewer than two classes, one without a file, or parts with unlike classes.
    """
    below = _folders(root)
    held = next((below[part] for part in own.TESTS if part in below), None)
    if "train" not in below or (held is None and len(below) > 1):
        classes, files = _files(root, below, kinds, what)
    else:
        train = below["train"]
        classes, files = _files(train, _folders(train), kinds, what)
        if held is not None:
            others, test_files = _files(held, _folders(held), kinds, what)
            if odd := sorted(set(classes) ^ set(others)):
                raise InputError(
                    f"{root}: class {odd[0]!r} is in one of {train.name} and {held.name} alone; "
                    "both need a folder for each class"
                )
            return Found(classes, files, test_files)
    for_training, for_test = own.split(len(files), test, seed, root)
    return Found(classes, [files[i] for i in for_training], [files[i] for i in for_test])


def _folders(place: Path) -> dict[str, Path]:
    return {one.name: one for one in _listed(place) if one.is_dir()}


def _listed(place: Path) -> list[Path]:
    try:
        found = sorted(place.iterdir())
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}") from None
    return [one for one in found if not one.name.startswith((".", "__"))]


def _files(
    root: Path, folders: dict[str, Path], kinds: Collection[str], what: str
) -> tuple[list[str], list[tuple[Path, int]]]:
    if len(folders) < 2:
        found = f"only {options.shown(folders)}" if folders else "none"
        raise InputError(
            f"{root} must hold a folder for each of two or more classes, found {found}. Expected: "
            f"{LAYOUT}"
        )
    files: list[tuple[Path, int]] = []
    for label, folder in enumerate(folders.values()):
        its = [
            (file, label)
            for file in _listed(folder)
            if not file.is_dir() and (not kinds or file.suffix.lower() in kinds)
        ]
        if not its:
            ends = f" ({', '.join(sorted(kinds))})" if kinds else ""
            raise InputError(f"{folder} holds no {what}{ends}. Remove that class, or fill it")
        files += its
    return [*folders], files
