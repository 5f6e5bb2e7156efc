"""What saves that failed leave on a local disk, which may be full of it."""

import errno
import time

import jax
from etils import epath

UNFINISHED = "*.orbax-checkpoint-tmp"
TRIES, PAUSE = 50, 0.1  # seconds between two tries


def remove(folder: epath.Path) -> None:
    """Removes it, by process 0, as far as that is possible.

    A thread of a save that failed just now may still write, so that a folder fills while it is
    emptied. Orbax, asked to clean up, fails then, and the next save with it.
    """
    if jax.process_index() or not folder.exists():
        return
    for _ in range(TRIES):
        try:
            for unfinished in folder.glob(UNFINISHED):
                unfinished.rmtree(missing_ok=True)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                return  # they are no checkpoints, and a later opening tries again
            time.sleep(PAUSE)
