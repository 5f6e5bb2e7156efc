"""How much longer the local phase takes than its matrix products, and a round than its local phase.

    python -m benchmarks.local_phase    # the table of docs/results/local_phase.md

One process runs these programs in turn, many times over, and reports the median of the ratios
taken within each turn, with the quartiles: other load on the machine falls on all alike.

* *products*: only the matrix products of S workers' J steps (forward, by input, by weight), with
  the gradient as the next weight, so that none can be left out;
* *with step*: the same products, and plain SGD's step in place of the bare gradient;
* *local phase*: ``local.train`` of S workers, as ``ist_jax.build`` runs it;
* *bare net*: the local phase without normalisation (policy ``none``): nothing but ReLU, the loss
  and the optimizer's step stand around the products;
* *round*: a whole round, with draw, gather and scatter, which are also timed apart;
* *copy*: the subnets copied, as many bytes as are gathered.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import ist_jax
from ist_jax import axes, decompose, local, method, partition
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.sharded.placement import each
from ist_jax.tasks import classification

WORKERS, STEPS = 4, 8
CASES = (  # inputs, hidden, classes, batch
    (4096, (4096,), 35, 128),
    (4096, (4096,), 35, 512),
    (784, (1024, 1024), 10, 128),
)


def products(net, x, update=lambda weight, gradient: gradient):
    """The products of one step: forward, by weight, and by input but for the first layer's."""
    active = [x]
    for weight in net:
        active.append(active[-1] @ weight)
    back, out = active.pop(), []
    for weight in reversed(net):
        out.append(update(weight, active.pop().T @ back))
        if active:
            back = back @ weight.T
    return out[::-1], None


def programs(inputs: int, hidden: tuple[int, ...], classes: int, batch: int):
    """Name to a function without arguments that runs the program and waits for it."""
    key, optimizer = jax.random.key(0), optax.sgd(0.01)
    widths = {f"hidden{i}": n for i, n in enumerate(hidden)}
    x = jax.random.normal(key, (WORKERS, STEPS, batch, inputs))
    batches = {"x": x, "y": jnp.zeros((WORKERS, STEPS, batch), jnp.int32)}
    keys = jax.random.split(key, WORKERS)
    sub_widths = partition.sub_widths(partition.permutation, widths, WORKERS)

    def local_phase(policy: str):
        model = MLP(widths, classes, normalise=policy)
        params, names = axes.of(model.init(key, x[0, 0, :1], train=True))
        who = partition.permutation(key, widths, WORKERS)
        nets = decompose.gather(params, names, who)
        loss = classification.cross_entropy(normalise.subnet(model, sub_widths))
        train = each(functools.partial(local.train, jax.value_and_grad(loss), optimizer))
        compiled = jax.jit(train)
        states = jax.vmap(optimizer.init)(nets)
        return (lambda: compiled(nets, states, batches, keys)), (params, names, who, nets, loss)

    standardised, (params, names, who, nets, loss) = local_phase("standardise")
    bare_net, _ = local_phase("none")
    dims = [inputs, *sub_widths.values(), classes]
    weights = [
        jax.random.normal(key, (WORKERS, a, b)) / a**0.5 for a, b in itertools.pairwise(dims)
    ]
    bare = jax.jit(each(lambda net, x: lax.scan(products, net, x)[0]))
    sgd = functools.partial(products, update=lambda weight, gradient: weight - 0.01 * gradient)
    with_step = jax.jit(each(lambda net, x: lax.scan(sgd, net, x)[0]))
    gather = jax.jit(lambda params, who: decompose.gather(params, names, who))
    scatter = jax.jit(
        lambda params, nets, who: decompose.scatter(params, nets, names, who, disjoint=True),
        donate_argnums=0,
    )
    copy = jax.jit(lambda nets: jax.tree.map(jnp.negative, nets))
    trainer = ist_jax.build(loss, optimizer, params, names, method=method.ist(), workers=WORKERS)
    state = trainer.init(params, key)
    whole = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)

    def whole_round():
        nonlocal state
        state, report = trainer.round(state, batches)
        return state, report.loss

    def put_back():
        nonlocal whole
        whole = scatter(whole, nets, who)
        return whole

    return {
        "products": lambda: bare(weights, x),
        "with step": lambda: with_step(weights, x),
        "local phase": standardised,
        "bare net": bare_net,
        "round": whole_round,
        "gather": lambda: gather(params, who),
        "scatter": put_back,
        "copy": lambda: copy(nets),
    }


def time_in_turn(runs: dict[str, Callable], turns: int) -> dict[str, np.ndarray]:
    """Seconds of each program, ``[turns]``; all of them once a turn, after two turns to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            jax.block_until_ready(run())
            if turn >= 2:
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def flops(inputs: int, hidden: tuple[int, ...], classes: int, batch: int) -> int:
    dims = np.array([inputs, *(n // WORKERS for n in hidden), classes])
    inner = dims[:-1] * dims[1:]
    return int(2 * batch * WORKERS * STEPS * (3 * inner.sum() - inner[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    print(f"{WORKERS} workers on one device, J = {STEPS}, {turns} turns, jax {jax.__version__}")
    ratios = [
        ("local phase", "products"),
        ("bare net", "products"),
        ("with step", "products"),
        ("round", "local phase"),
        ("gather", "local phase"),
        ("scatter", "local phase"),
        ("copy", "local phase"),
    ]
    head = ["net", "batch", "products", "GFLOP/s", *(f"{a} / {b}" for a, b in ratios)]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for case in CASES:
        inputs, hidden, classes, batch = case
        seconds = time_in_turn(programs(*case), turns)
        row = ["-".join(map(str, (inputs, *hidden, classes))), str(batch)]
        products_s = float(np.median(seconds["products"]))
        row += [f"{1e3 * products_s:.0f} ms", f"{flops(*case) / products_s / 1e9:.0f}"]
        for above, below in ratios:
            low, middle, high = np.percentile(seconds[above] / seconds[below], [25, 50, 75])
            row.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
