"""Rounds of IST with 1 to 64 workers, and a model of them that goes on to 1,024.

    python -m benchmarks.scaling

Workers are devices of one process here, which is held to one core: that core does the arithmetic of
all, one worker after another, and its memory is their link. So a round takes

    seconds = FLOPs of all workers / a + bytes that all receive / b + S * c

where c is what every worker costs a round whatever its size (drawing the permutation, starting
operations, waiting). b is the rate of a copy, a and c are fitted to the starred sizes, and
the others predicted. The second table is the model for workers that are machines of their own
(``ist_jax.cost.timing``).
"""

import argparse
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ist_jax
from ist_jax import axes, method, partition
from ist_jax.cost import program, timing
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.optimizer_state import carried, carry
from ist_jax.sharded import placement as devices
from ist_jax.tasks import classification

SIZES, CALIBRATED = (1, 2, 4, 8, 16, 32, 64), (1, 8, 64)
INPUTS, WIDTH, CLASSES, BATCH, STEPS = 1024, 4096, 35, 256, 8
HOW = method.ist(partition.balanced)


class Size(NamedTuple):
    """What is known of S workers before they run, and a function that runs a round."""

    flops: float  # of all workers
    nbytes: float  # that all receive
    workers: int
    memory: float  # bytes of a device: arguments and temporaries
    run: Any


def build(workers: int) -> Size:
    model, optimizer = MLP({"hidden0": WIDTH}, CLASSES), optax.sgd(0.01)
    x = np.random.default_rng(0).normal(size=(workers, STEPS, BATCH, INPUTS)).astype(np.float32)
    init = lambda key: axes.of(model.init(key, x[0, 0, :1], train=True))[0]
    key = jax.random.key(0)
    shapes, names = axes.of(
        jax.eval_shape(lambda key: model.init(key, x[0, 0, :1], train=True), key)
    )
    cut = partition.sub_widths(HOW.draw, axes.widths(shapes, names), workers)
    loss = classification.cross_entropy(normalise.subnet(model, cut))
    mesh = devices.mesh(workers, workers)
    trainer = ist_jax.build(loss, optimizer, shapes, names, method=HOW, workers=workers, mesh=mesh)
    y = np.zeros((workers, STEPS, BATCH), np.int32)
    batches = devices.place({"x": x, "y": y}, mesh, devices.SPLIT)
    state = trainer.init(init, key)
    memory: Any = trainer.lower(state, batches).compile().memory_analysis()

    def run():
        nonlocal state
        state, report = trainer.round(state, batches)
        jax.block_until_ready((state, report.loss))

    step = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), batches)
    known = trainer.plan
    everything = known.carried
    moved = timing.exchanged(known.net, everything, HOW, workers, STEPS)
    return Size(
        flops=workers * STEPS * program.flops(jax.grad(loss), known.subnet.shapes, step, key),
        nbytes=workers * moved.bytes_received,
        workers=workers,
        memory=memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        run=run,
    )


def measure(sizes: dict[int, Size], turns: int) -> dict[int, float]:
    """Median seconds of a round; sizes take turns."""
    seconds: dict[int, list[float]] = {workers: [] for workers in sizes}
    for turn in range(turns + 2):
        for workers, size in sizes.items():
            started = time.perf_counter()
            size.run()
            if turn >= 2:
                seconds[workers].append(time.perf_counter() - started)
    return {workers: float(np.median(values)) for workers, values in seconds.items()}


def fit(sizes: dict[int, Size], seconds: dict[int, float]) -> np.ndarray:
    """Seconds per FLOP, byte and worker; the first and the last fit the calibrated sizes best."""
    block = jnp.zeros(1 << 24)
    copy = jax.jit(jnp.negative)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        copy(block).block_until_ready()
        times.append(time.perf_counter() - started)
    a_byte = float(np.median(times)) / block.nbytes
    terms = np.array([(sizes[s].flops, sizes[s].workers) for s in CALIBRATED], float)
    left = np.array([seconds[s] - a_byte * sizes[s].nbytes for s in CALIBRATED])
    (a_flop, a_worker), *_ = np.linalg.lstsq(terms / left[:, None], np.ones(len(left)))
    return np.array([a_flop, a_byte, a_worker])


def on_paper(flops_per_s: float, gbps: float, latency: float) -> str:
    """Seconds a round of the speech net for workers that are machines of their own."""
    model, optimizer = MLP({"hidden0": 4096}, CLASSES), optax.sgd(0.01)
    x = np.zeros((1, 4096), np.float32)
    shapes, names = axes.of(
        jax.eval_shape(lambda key: model.init(key, x, train=True), jax.random.key(0))
    )
    net, link = axes.describe(shapes, names), timing.Link(gbps * 1e9 / 8, latency)
    lines = [
        "| workers | IST, uniform (s) | IST, balanced (s) | local SGD (s) | data parallel (s) |",
        "| --: | --: | --: | --: | --: |",
    ]
    inner = 4096 * 4096 + 4096 * CLASSES
    for workers in (2, 8, 32, 128, 512, 1024):
        row = [str(workers)]
        for how, share in (
            (method.ist(), workers),
            (HOW, workers),
            (method.local_sgd(), 1),
            (method.data_parallel(), 1),
        ):
            memory = carry.Memory(optimizer, how.memory or "reset")
            everything = carried.describe(net, optimizer, memory)
            moved = timing.exchanged(net, everything, how, workers, 8)
            compute = 8 * 128 * (4 * 4096 * 4096 + 6 * (inner - 4096 * 4096)) / share / flops_per_s
            row.append(f"{link.seconds(compute, moved):.3g}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    jax.config.update("jax_num_cpu_devices", max(SIZES))
    sizes = {workers: build(workers) for workers in SIZES}
    seconds = measure(sizes, turns)
    costs = fit(sizes, seconds)
    print(
        f"{INPUTS}-{WIDTH}-{CLASSES}, B = {BATCH}, J = {STEPS}, balanced, {turns} turns, jax "
        f"{jax.__version__}: {1e-9 / costs[0]:.0f} GFLOP/s, {1e-9 / costs[1]:.1f} GB/s, "
        f"{1e3 * costs[2]:.1f} ms a worker\n"
    )
    print("| workers | round (ms) | predicted (ms) | ratio | MB each receives | MB a device |")
    print("| --: | --: | --: | --: | --: | --: |")
    for workers, size in sizes.items():
        predicted = float(np.dot(costs, size[:3]))
        ratio = f"{predicted / seconds[workers]:.2f}{'*' if workers in CALIBRATED else ''}"
        print(
            f"| {workers} | {1e3 * seconds[workers]:.1f} | {1e3 * predicted:.1f} | {ratio} | "
            f"{size.nbytes / workers / 1e6:.2f} | {size.memory / 1e6:.1f} |"
        )
    print("\nMachines of their own, 4096-4096-35, B = 128, J = 8, 100 GFLOP/s, 1 Gbit/s, 0.2 ms:\n")
    print(on_paper(100e9, 1.0, 1e-4))


if __name__ == "__main__":
    main()
