"""Paths that a user names: in a config, a flag or a call."""

import os
from pathlib import Path

from ist_jax.core.errors import InputError

LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes, on Linux


def expanded(path: str | os.PathLike, what: str) -> Path:
    """The path with ``~`` and ``~name`` replaced by that home folder.

    Args:
      what: the key or flag that the path comes from, for messages.

    Raises:
      InputError: no such home, a name that no file can have, a link to nothing, or a folder on
        the way that may not be entered.
    """
    text = os.fspath(path)
    shown = f"{what}={text[:60]!r}"
    full = os.path.expanduser(text)
    if text.startswith("~") and full == text:
        raise InputError(
            f"{shown}: ~ stands for a home folder that is not known here (no $HOME, or no such "
            "user). Write the path in full."
        )
    found = Path(full)
    if "\0" in full or not _can_be(full, *found.parts):
        raise InputError(f"{shown}: no file can have that name")
    for place in (found, *found.parents):
        if os.path.islink(place) and not os.path.exists(place):
            raise InputError(
                f"{shown}: {place} is a link to {os.readlink(place)}, which is not there"
            )
    try:
        found.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # for whoever wants to read or make it
    except OSError as error:
        raise InputError(f"{shown} cannot be looked at: {error.strerror}") from None
    return found


def _can_be(path: str, *names: str) -> bool:
    try:
        longest = max((len(os.fsencode(name)) for name in names), default=0)
        return len(os.fsencode(path)) <= LONGEST_PATH and longest <= LONGEST_NAME
    except UnicodeEncodeError:
        return False
