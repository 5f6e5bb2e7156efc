"""What a checkpoint says of itself: its format, round and leaves, under a seal.

``about/metadata`` is JSON. It has what the caller wants to know, the shape, type and digest of
every leaf, and the SHA-256 of all that.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from ist_jax.core.errors import CheckpointError

FORMAT, READ = 2, (1, 2)  # of 1 there are no statistics
STATE, STATISTICS, ABOUT = "state", "statistics", "about"
ITEMS = {STATE: "leaves", STATISTICS: "statistics"}  # where ``about`` lists their leaves
LARGEST = 1 << 28  # bytes


def seal(about: Mapping[str, Any]) -> str:
    """SHA-256 of all that a checkpoint says of itself, but for the seal."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its seal."""
    return {**about, "seal": seal(about)}


def read(folder: epath.Path, number: int) -> dict[str, Any]:
    """What a round's checkpoint says of itself, by its seal as it was written; no leaf is read.

    Raises:
      CheckpointError: it is damaged, or of a format that this library does not know.
    """
    path = folder / str(number) / ABOUT / "metadata"
    try:
        if path.stat().length > LARGEST:
            raise CheckpointError(f"{path.parent.name} is larger than it can be")
        about = json.loads(path.read_bytes())
        whole = about.pop("seal") == seal(about)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path.parent.name} cannot be read ({repr(error)[:80]})") from None
    if not whole:
        raise CheckpointError(f"{path.parent.name} does not carry its seal")
    if about.get("format") not in READ:
        known = " or ".join(map(str, READ))
        raise CheckpointError(
            f"its format is {about.get('format')!r}, and this library reads {known}"
        )
    if about.get("round") != number:
        raise CheckpointError("it is of another round")
    about = {ITEMS[STATISTICS]: {}} | about
    for kept in map(about.get, ITEMS.values()):
        if not isinstance(kept, dict) or not all(map(_is_leaf, kept.values())):
            raise CheckpointError("it does not tell of its leaves")
    return about


def _is_leaf(leaf: Any) -> bool:
    types = {"shape": list, "dtype": str, "digest": str}
    return isinstance(leaf, dict) and {k: type(v) for k, v in leaf.items()} == types
