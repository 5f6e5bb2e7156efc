"""A step of GraphSAGE on a whole graph: ours, its bare products, and PyTorch Geometric's.

    python -m benchmarks.graph --cache=FOLDER --torch-python=PYTHON --json=graph.json

A step is a forward pass, gradients and Adam on all nodes. What it cannot do without is the products
of its kernels, and one pass over the bytes that the edges carry, forward and back; times are shown
as multiples of that. Turns are taken, so that other load on the machine falls on all alike. Of
PyTorch Geometric, edges are a list or a sparse matrix; it is needed for its half only (``pip
install torch==2.13.0 torch-geometric``, in any environment), and without it ours runs alone.
"""

import argparse
import itertools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ist_jax import axes, data
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.data.graph import TRAIN, Graph
from ist_jax.local import with_common
from ist_jax.models import message_passing
from ist_jax.models.gcn import GraphNet
from ist_jax.tasks import nodes

ROOT = pathlib.Path(__file__).parent.parent
LEARNING_RATE = 0.005


def ours(graph: Graph, widths: dict[str, int]) -> Callable[[], float]:
    """A function that takes a step and tells its loss."""
    model = GraphNet(widths, graph.classes)
    links = message_passing.links(graph.senders, graph.receivers, len(graph.features))
    batch = jax.tree.map(
        jnp.asarray,
        {
            "x": {"nodes": np.arange(len(graph.features)), "links": links},
            "y": np.where(graph.part == TRAIN, graph.labels, -1),
        },
    )
    features = jnp.asarray(graph.features)
    none = np.zeros(0, np.int32)
    first = {"features": graph.features[:1], "links": message_passing.links(none, none, 1)}
    params, _ = axes.of(model.init(jax.random.key(0), first, train=True))
    optimizer, slope = optax.adam(LEARNING_RATE), jax.value_and_grad(nodes.loss(model))

    @jax.jit
    def step(params: Any, state: Any, batch: Any, features: Any) -> Any:
        value, gradient = slope(params, with_common(batch, features, {}, {}), jax.random.key(0))
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    kept = [params, optimizer.init(params)]

    def take() -> float:
        *kept[:], value = step(*kept, batch, features)
        return float(value)

    return take


def bare(graph: Graph, widths: dict[str, int]) -> Callable[[], float]:
    """The products of a step's kernels, and a pass over the bytes of its edges."""
    n, layers = len(graph.features), [graph.features.shape[1], *widths.values(), graph.classes]
    draw = np.random.default_rng(0)
    array = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)
    pairs = list(itertools.pairwise(layers))
    inputs, outputs = [array(n, a) for a, _ in pairs], [array(n, b) for _, b in pairs]
    kernels = [(array(a, b), array(a, b)) for a, b in pairs]
    edges = [jnp.zeros((len(graph.senders), min(pair))) for pair in pairs]

    @jax.jit
    def products(inputs: Any, outputs: Any, kernels: Any) -> Any:
        found = []
        for number, (x, g, own) in enumerate(zip(inputs, outputs, kernels, strict=True)):
            for kernel in own:  # forward, and the gradients of kernel and (but for features) input
                found += [x @ kernel, x.T @ g]
                found += [g @ kernel.T] if number else []
        return found

    passed = jax.jit(lambda edges: [jnp.sum(values) for values in edges])

    def take() -> float:
        jax.block_until_ready(products(inputs, outputs, kernels))
        for turn in range(2):  # forward and back; no gradient of features
            jax.block_until_ready(passed(edges[turn:]))
        return 0.0

    return take


def sums(graph: Graph) -> dict[str, Callable[[], float]]:
    """A sum over neighbours and its gradient: ours, and JAX's over sorted edges."""
    links = jax.tree.map(
        jnp.asarray, message_passing.links(graph.senders, graph.receivers, len(graph.features))
    )
    x, senders, receivers = map(jnp.asarray, (graph.features, graph.senders, graph.receivers))

    def segments(x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(x[senders], receivers, len(x), indices_are_sorted=True)

    def taken(found: Callable[[jax.Array], Any]) -> Callable[[], float]:
        compiled = jax.jit(found)
        return lambda: float(jax.block_until_ready(compiled(x)).ravel()[0])

    ways = {"sum by gathers": lambda x: message_passing.total(x, links), "segment_sum": segments}
    return {
        name + part: taken(found)
        for name, way in ways.items()
        for part, found in (
            ("", way),
            (", gradient", lambda slope, way=way: jax.vjp(way, slope)[1](slope)[0]),
        )
    }


class Peer:
    """PyTorch Geometric in a process of its own."""

    def __init__(self, python: str, *words: str):
        command = [python, str(ROOT / "benchmarks/peers/geometric.py"), *words]
        self._process: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"PyTorch stopped with code {self._process.wait()}")
        return float(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        default="wordnet",
        choices=("wordnet", "debian_graph", "ogb", "planetoid", "reddit"),
    )
    parser.add_argument("--path", default="", help="as data.path")
    parser.add_argument("--cache", default="", help="as data.cache")
    parser.add_argument("--widths", nargs="+", type=int, default=[512, 512])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sums", action="store_true", help="also sums over neighbours alone")
    parser.add_argument("--torch-python", help="a Python that has PyTorch Geometric")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args()
    try:
        graph = data.load(options.data, options.path, cache=options.cache).graph
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    widths = {f"hidden{n}": width for n, width in enumerate(options.widths)}
    takes: dict[str, Callable[[], float]] = {"ours": ours(graph, widths)}
    takes["bare"] = bare(graph, widths)
    takes |= sums(graph) if options.sums else {}
    with tempfile.TemporaryDirectory() as folder:
        if options.torch_python:
            file = f"{folder}/graph.npz"
            np.savez(
                file,
                features=graph.features,
                edges=np.stack([graph.senders, graph.receivers]),
                labels=graph.labels,
                train=graph.nodes(TRAIN),
                widths=np.array([*options.widths, graph.classes]),
                rate=LEARNING_RATE,
            )
            takes["geometric"] = Peer(options.torch_python, file)
            takes["geometric, csr"] = Peer(options.torch_python, file, "--sparse")
        try:
            losses = {name: [take(), take()] for name, take in takes.items()}  # compiled and warm
            seconds: dict[str, list[float]] = {name: [] for name in takes}
            for _ in range(options.turns):
                for name, take in takes.items():
                    started = time.perf_counter()
                    losses[name].append(take())
                    seconds[name].append(time.perf_counter() - started)
        finally:
            for take in takes.values():
                if isinstance(take, Peer):
                    take.close()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        {
            "data": options.data,
            "widths": options.widths,
            "what": name,
            "step_s": round(medians[name], 4),
            "step_s_all": [round(value, 4) for value in times],
            "x_bare": round(medians[name] / medians["bare"], 3),
            "loss": round(losses[name][-1], 4),
        }
        for name, times in seconds.items()
    ]
    for row in rows:
        print(f"{row['what']:24} {row['step_s']:.3f} s, {row['x_bare']:.2f} x bare")
    if options.json:
        options.json.write_text(strict_json.dumps(rows, "rows", indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
