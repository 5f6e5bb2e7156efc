"""Memory that is freed stays with the process, where the command line asks for it."""

import ctypes
import subprocess
import sys

import pytest

FREED = """
import ctypes, os, sys, threading
from ist_jax.run import allocator
told = allocator.keep_memory() if sys.argv[1] == "keep" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
def use():
    block = libc.malloc(1 << 28)
    ctypes.memset(block, 1, 1 << 28)
    libc.free(block)
thread = threading.Thread(target=use)  # as XLA's are, not the main one
thread.start(); thread.join()
pages = int(open("/proc/self/statm").read().split()[1])
print(told, pages * os.sysconf("SC_PAGE_SIZE") > 1 << 28)
"""


def freed(how, **environment):
    command = [sys.executable, "-c", FREED, how]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return done.stdout.split()


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library than glibc"
)
def test_what_is_freed_is_kept_unless_somebody_has_set_the_allocator_himself():
    assert freed("keep") == ["True", "True"]
    assert freed("as it is") == ["None", "False"]
    assert freed("keep", MALLOC_ARENA_MAX="2") == ["False", "False"]
