"""What a run ran on: hosts, versions, devices; and the most memory that it has had."""

import importlib.metadata
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

import ist_jax

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def described(hosts: Sequence[str]) -> dict[str, Any]:
    """For ``summary.json``; ``hosts`` are those of all processes, in their order."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "host": hosts,
        "python": platform.python_version(),
        "ist_jax": ist_jax.__version__,
        **versions,
        "devices": [str(device) for device in jax.devices()],
        "cpus": os.cpu_count(),
    }


def peak_memory() -> dict[str, int]:
    """Bytes at the peak since this process began, also while other methods trained.

    Of the device of this process that had most; where devices do not count (CPU), of the process.
    """
    counted = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in counted if "peak_bytes_in_use" in stats]
    if peaks:
        return {"memory/device_bytes": max(peaks)}
    unit = 1 if sys.platform == "darwin" else 1024  # of what the system calls its maximum
    return {"memory/host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
