"""S workers on D devices: the only file that makes a mesh.

Whatever differs from worker to worker has a leading worker axis, and that axis is spread over the
devices: each takes S / D workers one after another (``lax.map``), so that a worker's program, and
with it every bit of its result, is the same for every D.

A second mesh axis makes a worker a group of devices that hold the same subnet and split its batch.

``check_vma`` is off, because it would refuse losses that scan from a constant (any Flax RNN). What
it guards against is kept out otherwise: gradients are taken of values on the device alone, never
through a collective, and what leaves as one value for all devices comes out of a collective or of
the same arithmetic on each (tests: the workers differ between exchanges, every device agrees).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.local import Gradient
from ist_jax.sharded.leaf_layout import DATA, WORKER

PyTree = Any
EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(WORKER)
shard_map = functools.partial(jax.shard_map, check_vma=False)


def mesh(workers: int, devices: Sequence[jax.Device] | int | None = None, *, data: int = 1) -> Mesh:
    """A mesh over devices (all of them by default; a number takes the first so many).

    Args:
      workers: S, the workers to spread.
      devices: the devices, or how many; D of them (D x ``data`` in all) hold different workers.
      data: devices that share a worker and split its batch. Neighbours in the list share one.

    Raises:
      InputError: more devices than there are or than workers, or numbers that do not divide.
    """
    present = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(present):
            raise InputError(
                f"asked for {devices} devices, there are {len(present)}. On CPU, more can be had "
                "with jax.config.update('jax_num_cpu_devices', n) before anything runs."
            )
        devices = present[:devices]
    devices = present if devices is None else list(devices)
    if data < 1 or len(devices) % data:
        raise InputError(
            f"{len(devices)} devices cannot be grouped by {data}: mesh.data must divide them"
        )
    groups = len(devices) // data
    if groups > workers:
        raise InputError(
            f"{groups} devices (or groups of them) for {workers} workers would leave some without "
            f"any. Use at most {workers}, or let several share a worker (mesh.data)."
        )
    if workers % groups:
        raise InputError(
            f"{workers} workers cannot be dealt out evenly to {groups} devices. Use a number of "
            "devices that divides the number of workers."
        )
    grid = np.asarray(devices, dtype=object).reshape(groups, data)
    return Mesh(grid, (WORKER, DATA), axis_types=(AxisType.Auto,) * 2)


def fitting(over: Mesh | None, workers: int) -> Mesh:
    """The mesh, or one device if None.

    Raises:
      InputError: it was made for another number of workers.
    """
    over = over or mesh(workers, 1)
    if workers % groups(over):
        raise InputError(
            f"the mesh was made for another number of workers: {groups(over)} devices do not "
            f"divide {workers}"
        )
    return over


def each(work: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``work`` for every worker of a device; arguments and results have a leading worker axis."""
    return lambda *arguments: lax.map(lambda mine: work(*mine), arguments)


def groups(over: Mesh) -> int:
    """D: devices, or groups of them, that hold different workers."""
    return over.shape[WORKER]


def in_group(over: Mesh) -> int:
    """Devices that share a worker."""
    return over.shape[DATA]


def batch_spec(over: Mesh) -> PartitionSpec:
    """How batches ``[S, J, B, ...]`` are spread."""
    return SPLIT if in_group(over) == 1 else PartitionSpec(WORKER, None, DATA)


def alone(gradient: Gradient, over: Mesh) -> Gradient:
    """A worker's gradient, as if there were no mesh; the mean over the devices of its group.

    Flax layers that see a mesh take the names of axes for its own, and these are groups of neurons.
    Devices of a group have keys of their own, or they would drop out the same neurons.
    """

    def hidden(net, batch, key):
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return gradient(net, batch, key)

    def of_group(net, batch, key):
        return lax.pmean(hidden(net, batch, fold(key, lax.axis_index(DATA))), DATA)

    return hidden if in_group(over) == 1 else of_group


def place(tree: PyTree, over: Mesh, spec: PartitionSpec = EVERYWHERE) -> PyTree:
    """Puts whole arrays on the mesh; of each, a process keeps what its devices need."""
    sharding = NamedSharding(over, spec)

    def one(leaf):
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and len(leaf.devices()) > 1):
            return jax.device_put(leaf, sharding)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = one(np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jax.make_array_from_callback(leaf.shape, sharding, np.asarray(leaf).__getitem__)

    return jax.tree.map(one, tree)


def process_workers(over: Mesh, workers: int) -> list[int]:
    """The numbers of the workers that devices of this process train."""
    some = workers // groups(over)
    own = [
        group
        for group, devices in enumerate(over.devices)
        if any(device.process_index == jax.process_index() for device in devices)
    ]
    return [group * some + worker for group in own for worker in range(some)]


def place_own(
    batches: PyTree, over: Mesh, workers: int, spec: PartitionSpec | None = None
) -> PyTree:
    """Batches ``[S, J, B, ...]`` on the mesh; a process gives those of its own workers.

    With another ``spec``, whatever begins with an axis of workers.
    """
    own = process_workers(over, workers)
    sharding = NamedSharding(over, batch_spec(over) if spec is None else spec)

    def one(leaf):
        def part(index):
            rows = range(*index[0].indices(workers))
            return leaf[own.index(rows[0]) : own.index(rows[-1]) + 1][:, *index[1:]]

        return jax.make_array_from_callback((workers, *leaf.shape[1:]), sharding, part)

    return jax.tree.map(one, batches)
