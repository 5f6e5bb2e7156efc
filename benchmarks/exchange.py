"""What lies between two rounds: its share of a round's time, and of a device's memory.

    python -m benchmarks.exchange                # 4 workers on one device
    python -m benchmarks.exchange --devices 4    # a device each, in one process

One process runs these programs in turn, many times over, and reports the median of the shares taken
within each turn, with the quartiles: other load on the machine falls on all alike.

* *round*: a whole round of IST;
* *nothing moves*: a round whose draw is always the same, so that no neuron of a leaf with one cut
  axis goes to another device; it is still drawn, read, transposed and written;
* *local steps*: only the J local steps of all workers.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ist_jax
from benchmarks.local_phase import time_in_turn
from ist_jax import axes, decompose, local, method, partition
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.run import allocator
from ist_jax.sharded import placement
from ist_jax.tasks import classification

WORKERS, STEPS, BATCH = 4, 8, 128
NETS = ((4096, 4096, 35), (4096, 4096, 4096, 35))


def programs(dims: tuple[int, ...], devices: int) -> tuple[dict[str, Callable], list[float]]:
    """Name to a function that runs the program; and what a device holds, in parts of the net.

    Those parts are the parameters, and the temporaries of a round in parts of a subnet.
    """
    inputs, *hidden, classes = dims
    key, optimizer = jax.random.key(0), optax.sgd(0.01)
    widths = {f"hidden{i}": n for i, n in enumerate(hidden)}
    model = MLP(widths, classes)
    cut = partition.sub_widths(partition.permutation, widths, WORKERS)
    loss = classification.cross_entropy(normalise.subnet(model, cut))
    mesh = placement.mesh(WORKERS, devices)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(WORKERS, STEPS, BATCH, inputs)).astype(np.float32)
    y = np.zeros((WORKERS, STEPS, BATCH), np.int32)
    batches = placement.place({"x": x, "y": y}, mesh, placement.SPLIT)
    net = lambda key: axes.of(model.init(key, x[0, 0, :1], train=True))[0]
    shapes, names = axes.of(
        jax.eval_shape(lambda key: model.init(key, x[0, 0, :1], train=True), key)
    )
    memory: Any = None

    def rounds(how):
        nonlocal memory
        trainer = ist_jax.build(
            loss, optimizer, shapes, names, method=how, workers=WORKERS, mesh=mesh
        )
        state = trainer.init(net, key)
        memory = memory or trainer.lower(state, batches).compile().memory_analysis()

        def run():
            nonlocal state
            state, report = trainer.round(state, batches)
            return state, report.loss

        return run

    def train(nets, batches, numbers):
        states = jax.vmap(optimizer.init)(nets)
        gradient = placement.alone(jax.value_and_grad(loss), mesh)
        one = functools.partial(local.train, gradient, optimizer)
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
        return placement.each(one)(nets, states, batches, keys)[0]

    split = placement.SPLIT
    steps = jax.jit(
        placement.shard_map(train, mesh=mesh, in_specs=split, out_specs=split), donate_argnums=0
    )
    who = partition.permutation(key, widths, WORKERS)
    nets = jax.jit(lambda: decompose.gather(net(key), names, who))()
    subnet = sum(leaf.nbytes for leaf in jax.tree.leaves(nets)) / WORKERS
    nets = placement.place(nets, mesh, split)
    numbers = placement.place(jnp.arange(WORKERS), mesh, split)

    def local_phase():
        nonlocal nets
        nets = steps(nets, batches, numbers)
        return nets

    runs = {
        "round": rounds(method.ist()),
        "nothing moves": rounds(method.ist(partition.fixed)),
        "local steps": local_phase,
    }
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    data = (x.nbytes + y.nbytes) / devices
    held = (memory.argument_size_in_bytes - data) / whole
    return runs, [held, memory.temp_size_in_bytes / subnet]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--turns", type=int, default=25)
    options = parser.parse_args()
    allocator.keep_memory()  # as the command line does
    jax.config.update("jax_num_cpu_devices", options.devices)
    print(
        f"{WORKERS} workers on {options.devices} devices of one process, B = {BATCH}, "
        f"J = {STEPS}, {options.turns} turns, jax {jax.__version__}\n"
    )
    head = ["net", "round (ms)", "local steps (ms)", "all but the local steps (% of the round)"]
    head += ["where nothing moves (%)", "parameters a device (net)", "temporaries (subnets)"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for dims in NETS:
        runs, memory = programs(dims, options.devices)
        seconds = time_in_turn(runs, options.turns)
        row = ["-".join(map(str, dims))]
        row += [f"{1e3 * np.median(seconds[name]):.0f}" for name in ("round", "local steps")]
        for name in ("round", "nothing moves"):
            shares = 100 * (1 - seconds["local steps"] / seconds[name])
            low, middle, high = np.percentile(shares, [25, 50, 75])
            row.append(f"{middle:.1f} ({low:.1f} to {high:.1f})")
        print("| " + " | ".join(row + [f"{part:.3f}" for part in memory]) + " |", flush=True)


if __name__ == "__main__":
    main()
