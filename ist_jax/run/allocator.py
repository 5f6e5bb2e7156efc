"""Memory that a round has freed stays with the process, for the next round.

XLA on CPU asks for a program's temporary memory anew each time it runs, and glibc returns large
blocks to the system. Every page then comes back empty and is filled with zeros at its first touch.
That took half of what lay between two rounds' local steps (docs/results/exchange.md).
"""

import ctypes
import os

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def keep_memory() -> bool:
    """Tells glibc's allocator to keep what is freed; whether it was told.

    Not where somebody has set its variables (``MALLOC_...``), and not with another C library.
    Memory that a process holds does not shrink any more; its peak is the same.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # Threads have heaps of 64 MB by default, and ask the system for what is larger.
    wanted = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1))
    return all(library.mallopt(option, value) == 1 for option, value in wanted)
