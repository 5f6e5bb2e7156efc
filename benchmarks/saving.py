"""What a checkpoint costs: how long training stands still for it, and how long it then takes.

    python -m benchmarks.saving                # 4 workers on one device
    python -m benchmarks.saving --devices 4

For nets of several sizes, medians over the saves of one process, in milliseconds:

* *round*: 8 local steps of every worker and what lies between two rounds;
* *copy*: the state copied once, as the CPU's memory allows: what no save can do without;
* *held up*: digests, the copy, and handing it to the threads that write;
* *written*: until the checkpoint is there, on the disk of ``--folder``;
* *statistics*: those of the whole net over 2,048 examples, which only checkpoints that stay hold;
* *checked*: every byte read and compared with the digests, before a run goes on.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import optax

import ist_jax
from ist_jax import axes, method, partition
from ist_jax.checkpoint import Checkpoints
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.sharded import placement
from ist_jax.tasks import classification

WORKERS, STEPS, BATCH, EXAMPLES = 4, 8, 128, 2048
NETS = ((64, 1024, 1024, 10), (2048, 2048, 2048, 35), (4096, 4096, 4096, 35))


def took(what: Callable) -> float:
    started = time.perf_counter()
    jax.block_until_ready(what())
    return 1e3 * (time.perf_counter() - started)


def measure(dims: tuple[int, ...], devices: int, saves: int, folder: pathlib.Path) -> list[float]:
    """Megabytes, and the medians of the columns above."""
    inputs, *hidden, classes = dims
    widths = {f"hidden{i}": n for i, n in enumerate(hidden)}
    model = MLP(widths, classes)
    cut = partition.sub_widths(partition.permutation, widths, WORKERS)
    loss = classification.cross_entropy(normalise.subnet(model, cut))
    x = np.random.default_rng(0).normal(size=(WORKERS, STEPS, BATCH, inputs)).astype(np.float32)
    batches = {"x": x, "y": np.zeros(x.shape[:3], np.int32)}
    params, names = axes.of(model.init(jax.random.key(0), x[0, 0, :1], train=True))
    trainer = ist_jax.build(
        loss,
        optax.sgd(0.01, momentum=0.9),
        params,
        names,
        method=method.ist(),
        workers=WORKERS,
        optimizer_state="keep",
        mesh=placement.mesh(WORKERS, devices),
    )
    state, kept, rows = trainer.init(params, jax.random.key(0)), Checkpoints(folder), []
    some = np.random.default_rng(1).normal(size=(EXAMPLES, inputs)).astype(np.float32)
    statistics = normalise.recompute(model, some, trainer.on_params)
    megabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(trainer.unsharded(state))) / 1e6

    def one_round():
        nonlocal state
        state, _ = trainer.round(state, batches)
        return state

    for number in range(1, saves + 2):
        row = [took(one_round)]
        leaves = jax.tree.leaves((state.params, state.opt_state))
        row.append(took(lambda n=leaves: [np.array(leaf) for leaf in n]))
        row.append(took(lambda: kept.save(trainer.unsharded(state), {})))
        row.append(row[-1] + took(kept.close))
        row.append(took(lambda: statistics(trainer.sharded_params(state))))
        row.append(took(lambda n=number: kept.check(n) and None))
        rows.append(row)
    return [megabytes, *np.median(rows[1:], axis=0)]  # the first one compiles


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--saves", type=int, default=9)
    parser.add_argument("--folder", type=pathlib.Path, help="on the disk to be measured")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)
    print("| net | MB | round | copy | held up | written | statistics | checked |")
    print("| --- " + "| ---: " * 7 + "|")
    for dims in NETS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            megabytes, *columns = measure(
                dims, options.devices, options.saves, pathlib.Path(folder)
            )
        numbers = " | ".join(f"{column:.0f}" for column in columns)
        print(f"| {'-'.join(map(str, dims))} | {megabytes:.0f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
