"""What saves that failed leave on a local disk, which may be full of it."""

import contextlib

import jax
from etils import epath

UNFINISHED = "*.orbax-checkpoint-tmp"


def remove(folder: epath.Path) -> None:
    """Removes it, by process 0, as far as that is possible.

    A thread of a save that failed just now may still write, so that a folder fills while it is
    emptied. It is no checkpoint, and is left for the next time then; Orbax, asked to clean up,
    would fail, and the next save with it.
    """
    if jax.process_index() or not folder.exists():
        return
    for unfinished in folder.glob(UNFINISHED):
        with contextlib.suppress(OSError):
            unfinished.rmtree(missing_ok=True)
