"""Rounds at shapes that a single worker could not hold: memory, predicted and measured."""

import resource
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ist_jax import axes, method
from ist_jax.cost import traffic
from ist_jax.trainer import Trainer


def tell(
    trainer: Trainer,
    net: Any,
    shapes: Any,
    names: Any,
    size: int,
    limit_gb: float,
    batches: Any,
    told: Any = None,
    real: Mapping[str, np.ndarray] | None = None,
    common: Any = None,
) -> None:
    """Prints what ``size`` workers of IST hold and send, and trains two rounds.

    Args:
      net: what the trainer is initialised with; ``shapes`` and ``names`` are its.
      limit_gb: 10^9 bytes that a worker may hold.
      batches, told, common: of a round, placed.
      real: the members of external groups that each worker holds.
    """
    known = axes.describe(shapes, names)
    whole = 4 * int(traffic.entries(known, {}))
    counts = traffic.neurons_held(known, method.ist(), size, real)
    subnet = 4 * int(traffic.entries(known, counts).max())
    print(f"net: {whole / 4:,.0f} parameters, {whole / 1e9:.2f} GB")
    print(f"data parallel, each worker: {2 * whole / 1e9:.2f} GB of parameters and gradient")
    print(f"IST, each worker: its part of the net {whole / size / 1e9:.3f} GB, of which it trains "
          f"{subnet / 1e9:.3f} GB in this round (closed form)")  # fmt: skip
    state = trainer.init(net, jax.random.key(0))
    program = trainer.lower(state, batches, None, told, common).compile()
    memory: Any = program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    print(f"the compiled round, each worker: {memory.argument_size_in_bytes / 1e9:.3f} GB of "
          f"arguments, {memory.temp_size_in_bytes / 1e9:.3f} GB besides")  # fmt: skip
    fits = lambda n: "fits" if n <= limit_gb * 1e9 else "does not fit"
    print(f"in {limit_gb:g} GB a worker: IST {fits(held)}, data parallel {fits(2 * whole)}")
    for number in range(2):
        since = time.perf_counter()
        state, report = trainer.round(state, batches, None, told, common)
        jax.block_until_ready((state, report.loss))
        seconds = time.perf_counter() - since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"round {number}: {seconds:.1f} s, loss {np.mean(report.loss):.3f}, sent by a worker "
              f"{report.bytes_sent.max() / 1e9:.3f} GB; this process: {peak / 1e9:.2f} GB at most, "
              f"{peak / size / 1e9:.2f} a worker")  # fmt: skip
    assert np.isfinite(report.loss).all()
