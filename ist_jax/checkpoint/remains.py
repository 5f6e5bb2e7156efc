"""What saves that failed leave on a local disk, which may be full of it; and checkpoints that go.

One that goes is renamed first, and no checkpoint from then on: whoever is killed while it removes
the files leaves none that is half there.
"""

import contextlib

import jax
from etils import epath

UNFINISHED = "*.orbax-checkpoint-tmp"
GOING = "removed"  # the folder they are renamed into


def remove(folder: epath.Path) -> None:
    """Removes it all, by process 0, as far as that is possible; where nothing is being saved.

    A thread of a save that failed just now may still write, so that a folder fills while it is
    emptied. It is no checkpoint, and is left for the next time then; Orbax, asked to clean up,
    would fail, and the next save with it.
    """
    if jax.process_index() or not folder.exists():
        return
    for remain in (*folder.glob(UNFINISHED), folder / GOING):
        with contextlib.suppress(OSError):
            remain.rmtree(missing_ok=True)


def clear(folder: epath.Path) -> None:
    """Removes checkpoints that go, by process 0, also beside a save that renames another."""
    if jax.process_index() or not (folder / GOING).exists():
        return
    for going in (folder / GOING).iterdir():
        with contextlib.suppress(OSError):
            going.rmtree(missing_ok=True)
