"""Does an accelerator stay busy with subnets? Their FLOP rate beside the whole net's.

    python -m benchmarks.gpu                  # ten minutes on one accelerator
    python -m benchmarks.gpu --small          # to see that it runs, also on a CPU

S subnets train on one device, J local steps each: one after another, as a round has it
(``lax.map``), and side by side (``vmap``). Their FLOPs by the second are set against those of the
whole net's own steps. All programs of a row take turns; medians of the ratios within each turn.

* *products*: nothing but the subnets' largest product, as one batched product;
* *gather, scatter*: their share of gather, local steps and scatter together.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.local_phase import time_in_turn
from ist_jax import axes, decompose, local, partition
from ist_jax.cost import program
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.models.resnet import ResNet
from ist_jax.sharded.placement import each
from ist_jax.tasks import classification

CLASSES = 100


class Case(NamedTuple):
    """A net, what goes into it, and its steps."""

    name: str
    model: Any
    inputs: tuple[int, ...]
    batch: int
    steps: int


def cases(small: bool) -> list[Case]:
    """MLPs with two hidden layers, and a net of residual blocks."""
    widths, batch, steps = ((64,), 8, 2) if small else ((4096, 16384), 512, 8)
    mlp = lambda n: MLP({"hidden0": n, "hidden1": n}, CLASSES)
    found = [Case(f"MLP, {n} wide", mlp(n), (n,), batch, steps) for n in widths]
    side = 8 if small else 32
    return [*found, Case("residual", residual(small), (side, side, 3), batch // 4, steps)]


def residual(small: bool) -> ResNet:
    """With blocks that all but the first of the third stage are cut of."""
    blocks, base = ((1, 1, 9, 1), 4) if small else ((3, 4, 17, 3), 64)
    return ResNet({"stage3": blocks[2] - 1}, CLASSES, blocks=blocks, base=base)


def programs(
    case: Case, workers: int, dtype: Any
) -> tuple[dict[str, Callable[[], Any]], dict[str, float], dict[str, jax.stages.Compiled]]:
    """What runs, by name; FLOPs of what trains; and what is compiled."""
    key, optimizer = jax.random.key(0), optax.sgd(0.01)
    one = jnp.zeros((1, *case.inputs))
    params, names = axes.of(case.model.init(key, one, train=True))
    widths = axes.widths(params, names)
    who = partition.permutation(key, widths, workers)
    nets = decompose.gather(params, names, who, workers)
    cut = {group: ids.shape[1] for group, ids in who.items()}
    shape = (case.steps, case.batch)
    x = jax.random.normal(key, (workers, *shape, *case.inputs))
    batches = {"x": x, "y": jnp.zeros((workers, *shape), jnp.int32)}
    keys = jax.random.split(key, workers)

    def trainer(model: Any) -> Callable[..., Any]:
        loss = classification.cross_entropy(model)

        def narrow(net: Any, batch: Any, key: Any) -> Any:
            typed = lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a
            return loss(jax.tree.map(typed, net), jax.tree.map(typed, batch), key)

        gradient = jax.value_and_grad(narrow)
        return lambda net, batches, key: local.train(
            gradient, optimizer, net, optimizer.init(net), batches, key
        )

    dense, subnet = trainer(case.model), trainer(normalise.subnet(case.model, cut))
    first = jax.tree.map(lambda leaf: leaf[0], (nets, batches, keys))
    arguments: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "dense": (dense, (params, *first[1:])),
        "in turn": (each(subnet), (nets, batches, keys)),
        "side by side": (jax.vmap(subnet), (nets, batches, keys)),
        "gather": (lambda p, w: decompose.gather(p, names, w, workers), (params, who)),
        "scatter": (
            lambda p, n, w: decompose.scatter(p, n, names, w, disjoint=True),
            (params, nets, who),
        ),
        "products": (batched, largest(nets, x, dtype)),
    }
    compiled: dict[str, jax.stages.Compiled] = {}
    seconds: dict[str, float] = {}
    for name, (function, given) in arguments.items():
        started = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*given).compile()
        seconds[name] = time.perf_counter() - started
    counts = {
        "dense": case.steps * step_flops(case.model, params, first[1]),
        "subnets": workers * case.steps * step_flops(normalise.subnet(case.model, cut), *first[:2]),
        "products": program.flops(batched, *arguments["products"][1]),
        "compiled in turn": seconds["in turn"],
        "compiled side by side": seconds["side by side"],
    }
    runs: dict[str, Callable[[], Any]] = {
        name: functools.partial(compiled[name], *arguments[name][1]) for name in arguments
    }
    return runs, counts, compiled


def step_flops(model: Any, net: Any, batches: Any) -> int:
    """Of one step."""
    loss, step = classification.cross_entropy(model), jax.tree.map(lambda a: a[0], batches)
    return program.flops(jax.grad(loss), net, step, jax.random.key(0))


def batched(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum("sab,sbc->sac", left, right)


def largest(nets: Any, x: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """The subnets' largest leaf as matrices, and as many rows as a step's batch to go with it."""
    leaf = max(jax.tree.leaves(nets), key=lambda leaf: leaf.size)
    right = leaf.reshape(len(leaf), -1, leaf.shape[-1]).astype(dtype)
    return jnp.ones((len(leaf), x.shape[2], right.shape[1]), dtype), right


def rows(case: Case, workers: int, dtype: Any, turns: int) -> Iterator[str]:
    """The cells of a row."""
    runs, counts, compiled = programs(case, workers, dtype)
    taken = time_in_turn(runs, turns)
    rate = {"dense": counts["dense"] / taken["dense"]}
    rate["products"] = counts["products"] / taken["products"]
    for name in ("in turn", "side by side"):
        rate[name] = counts["subnets"] / taken[name]
    yield f"{np.median(rate['dense']) / 1e12:.2f}"
    for name in ("in turn", "side by side", "products"):
        yield f"{np.median(rate[name] / rate['dense']):.2f}"
    moved = taken["gather"] + taken["scatter"]
    yield f"{100 * np.median(moved / (moved + taken['in turn'])):.1f}"
    for name in ("in turn", "side by side"):
        yield f"{counts[f'compiled {name}']:.1f}"
    for name in ("in turn", "side by side"):
        memory: Any = compiled[name].memory_analysis()
        yield f"{memory.temp_size_in_bytes / 2**20:.0f}" if memory else "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="nets that a CPU runs in some minutes")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8])
    options = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}, {options.turns} turns\n")
    head = ["net", "numbers", "subnets", "whole net (TFLOP/s)", "in turn / whole net"]
    head += ["side by side / whole net", "products / whole net", "gather, scatter (%)"]
    head += ["compile in turn (s)", "side by side (s)", "temporaries in turn (MiB)"]
    head += ["side by side (MiB)"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for case in cases(options.small):
        for dtype in (jnp.float32, jnp.bfloat16):
            for workers in options.workers:
                cells = rows(case, workers, dtype, options.turns)
                name = jnp.dtype(dtype).name
                print(
                    f"| {case.name} | {name} | {workers} | " + " | ".join(cells) + " |", flush=True
                )


if __name__ == "__main__":
    main()
