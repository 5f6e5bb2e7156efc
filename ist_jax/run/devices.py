"""The devices of a config's mesh."""

import jax
from ml_collections import ConfigDict

from ist_jax.core.errors import InputError


def provide(config: ConfigDict, processes: int) -> None:
    """Has this process provide its part of the mesh's devices, where they are CPUs.

    Raises:
      InputError: as ``mesh``.
    """
    if wanted := mesh(config, processes):  # of other platforms there are as many as there are
        jax.config.update("jax_num_cpu_devices", wanted // processes)


def mesh(config: ConfigDict, processes: int) -> int:
    """How many devices the mesh is to have; 0 for all there are.

    Raises:
      InputError: workers or processes that do not divide it.
    """
    groups = config.mesh.workers
    if config.workers > 1 and groups and config.workers % groups:
        raise InputError(
            f"{config.workers} workers cannot be dealt out evenly to config.mesh.workers={groups}"
        )
    wanted = groups * config.mesh.data
    if wanted % processes:
        raise InputError(
            f"{wanted} devices (config.mesh.workers={config.mesh.workers} x config.mesh.data="
            f"{config.mesh.data}) cannot be dealt out evenly to {processes} processes"
        )
    return wanted
