"""``set.json`` of a prepared set: what it was made from, and the digest of every array.

A seal, the digest of all that, shows whether the file itself is as it was written.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from ist_jax.core import strict_json
from ist_jax.data import files

FORMAT = 2  # 1 had no seal
NAME = "set.json"
LARGEST = 2**27  # bytes; 35,000 clips need 4 million


def write(folder: Path, source: str, about: dict[str, Any]) -> None:
    """Describes all files of a folder, and has the disk keep that.

    Args:
      source: digest of what they were made from.
      about: what else ``read`` is to return.
    """
    arrays = {
        str(path.relative_to(folder)): [path.stat().st_size, files.digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    whole = {"format": FORMAT, "source": source, "files": arrays, "told": about}
    text = strict_json.dumps({**whole, "seal": seal(whole)}, NAME)
    with (folder / NAME).open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(place: Path, source: str, report_damage: bool = False) -> dict[str, Any] | None:
    """What was returned when a set was made, if it is whole and made from that source.

    Args:
      report_damage: whether to print that a set is damaged.
    """
    if not place.exists():
        return None
    file = place / NAME
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        found = json.loads(files.read(file, ""))
        if found["format"] != FORMAT or found.pop("seal") != seal(found):
            raise ValueError
        if found["source"] != source:
            return None
        for name, (size, sha) in found["files"].items():
            file = place / name
            if file.stat().st_size != size or files.digest(file) != sha:
                raise ValueError
        return dict(found["told"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if report_damage:
            print(
                f"{file} is damaged, or of another version: the set is made anew", file=sys.stderr
            )
        return None


def digest_of_set(place: Path) -> str:
    """SHA-256 of a prepared set: of the names, sizes and digests of its files."""
    return seal(json.loads((place / NAME).read_text())["files"])


def seal(whole: Any) -> str:
    """SHA-256 of a description, or of a part of it."""
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
