"""S workers on D devices: the only file that knows a mesh.

Whatever differs from worker to worker has a leading worker axis, and that axis lies over the
devices: each takes S / D workers one after another (``lax.map``), so that a worker's program, and
with it every bit of its result, is the same for every D.

Both functions below give ``shard_map`` a worker axis on every output, and on every input that is
differentiated or written. So there is no replicated value whose gradient could be summed over
devices behind our back, nor one that could differ between them: what ``check_vma`` guards against
cannot be written here. It is off, because it would refuse losses that scan from a constant (any
Flax RNN).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from ist_jax import decompose
from ist_jax.errors import InputError
from ist_jax.keys import fold
from ist_jax.local import Gradient

PyTree = Any
AXIS = "worker"


def mesh(workers: int, devices: Sequence[jax.Device] | int | None = None) -> Mesh:
    """A mesh over D devices (all of them by default; a number takes the first so many).

    Raises:
      InputError: more devices than there are, or a number that does not divide the workers.
    """
    present = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(present):
            raise InputError(
                f"asked for {devices} devices, this process has {len(present)}. On CPU, more can "
                "be had with jax.config.update('jax_num_cpu_devices', n) before anything runs."
            )
        devices = present[:devices]
    devices = present if devices is None else list(devices)
    if workers % len(devices):
        raise InputError(
            f"{workers} workers cannot be dealt out evenly to {len(devices)} devices. Use a number "
            "of devices that divides the number of workers."
        )
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=list(devices)
    )


def each(work: Callable[..., PyTree], over: Mesh | None) -> Callable[..., PyTree]:
    """``work`` for every worker; arguments and results carry a leading worker axis."""

    def run(*arguments):
        return lax.map(lambda mine: work(*mine), arguments)

    if over is None:
        return run
    spec = PartitionSpec(AXIS)
    return jax.shard_map(run, mesh=over, in_specs=spec, out_specs=spec, check_vma=False)


def together(gradient: Gradient, took_part: Bool[Array, " S"], over: Mesh | None) -> Gradient:
    """One gradient from S workers' batches: the mean over those that take part, in their order.

    The batch gains a leading worker axis; the loss that comes back is ``[S]``, one a worker.
    """

    def averaged(params, batches, key):
        def locally(params, batches, keys):
            return lax.map(lambda mine: gradient(params, *mine), (batches, keys))

        run = locally
        if over is not None:
            spec = PartitionSpec(AXIS)
            run = jax.shard_map(
                locally,
                mesh=over,
                in_specs=(PartitionSpec(), spec, spec),
                out_specs=spec,
                check_vma=False,
            )
        keys = jax.vmap(lambda worker: fold(key, worker))(jax.numpy.arange(took_part.size))
        losses, grads = run(params, batches, keys)
        zeros = jax.tree.map(jax.numpy.zeros_like, params)
        return losses, mean(zeros, on_every_device(grads, over), took_part)

    return averaged


def mean(otherwise: PyTree, trees: PyTree, took_part: Bool[Array, " S"]) -> PyTree:
    """The mean over the leading worker axis: the scatter of a tree that nothing cuts."""
    names = jax.tree.map(lambda leaf: (None,) * leaf.ndim, otherwise)
    return decompose.scatter(otherwise, trees, names, {}, took_part)


def on_every_device(tree: PyTree, over: Mesh | None) -> PyTree:
    """The whole tree on each device: what follows is computed alike, bit for bit, on all."""
    if over is None:
        return tree
    return lax.with_sharding_constraint(tree, NamedSharding(over, PartitionSpec()))


def place(tree: PyTree, over: Mesh | None, split: bool) -> PyTree:
    """Puts arrays where a round expects them: split along the worker axis, or whole everywhere."""
    if over is None:
        return tree
    return jax.device_put(
        tree, NamedSharding(over, PartitionSpec(AXIS) if split else PartitionSpec())
    )
