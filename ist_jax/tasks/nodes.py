"""Labels of a graph's nodes: the loss of a worker, and what the whole net says of all nodes.

The whole net looks at the whole graph layer by layer. Between two layers hidden features lie on the
host, and a layer is applied to a block of nodes and their neighbours at a time: a net that is wider
than one device is looked at where it lies (``compiled=trainer.on_params``), and what a device needs
besides its part of the weights is room for the features of one block, of all layers' neurons.
"""

import functools
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ist_jax.core.errors import InputError
from ist_jax.data.graph import TEST, VALID, Graph
from ist_jax.local import COMMON, HELD, NEURONS, Loss
from ist_jax.models import message_passing
from ist_jax.models.message_passing import Links

PyTree = Any
IN_MEMORY = 2**31  # bytes of hidden features; more of them lie in a file
AT_ONCE = 2**26  # numbers of a block


def loss(model: nn.Module) -> Loss:
    """``loss(params, batch, key)``: mean cross entropy of a batch's nodes that have a label.

    The batch is ``{"x": {"nodes": int [m], "links": Links}, "y": int [m]}``, y -1 for the others,
    with what ``local.with_common`` adds: ``"common"`` are the features of all nodes, ``[n, F]``, 0
    for a number beyond n. Of a subnet that holds some of the ``features`` or ``labels``, only
    those: nodes with other labels have none.

    Raises (the loss):
      InputError: a batch without what is common.
    """

    return functools.partial(_mean, model)


def _mean(model: nn.Module, params: PyTree, batch: Any, key: Any) -> jax.Array:
    """The loss of a worker's batch."""
    if COMMON not in batch:
        raise InputError(
            "the loss of a graph's nodes looks their features up: hand them to the trainer, "
            "round(state, batches, common=graph.features)"
        )
    features, neurons, held = batch[COMMON], batch[NEURONS], batch[HELD]
    h, y = message_passing.at(jnp.asarray(features), batch["x"]["nodes"]), batch["y"]
    if "features" in neurons:
        h = message_passing.at(h.T, neurons["features"]).T
    x = {"features": h, "links": batch["x"]["links"], "held": held}
    logits: Any = model.apply(params, x, train=True, rngs={"dropout": key})
    if "labels" in neurons:
        logits = jnp.where(held["labels"], logits, -jnp.inf)
        is_it = neurons["labels"] == y[:, None]
        y = jnp.where(is_it.any(axis=1), is_it.argmax(axis=1), -1)
    there = y >= 0
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(y, 0))
    return jnp.sum(jnp.where(there, each, 0.0)) / jnp.maximum(there.sum(), 1)


def logits(
    model: nn.Module,
    graph: Graph,
    block: int | None = None,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[[PyTree], np.ndarray]:
    """``evaluate(params) -> float32 [n, classes]``: what the whole net says of all nodes.

    Args:
      model: has ``layers``, ``widest`` and a method ``layer`` (``ist_jax.models.gcn``).
      block: nodes that are looked at at once, beside their neighbours; if absent, as few as keep
        a block with its neighbours below ``AT_ONCE`` numbers (a node is never parted from its own).
    """
    n, layers = len(graph.features), model.layers
    widest = max(graph.features.shape[1], model.widest)
    blocks = _blocks(graph, block or n, n if block else AT_ONCE // widest)

    def applied(number: int) -> Callable[..., Any]:
        return compiled(
            lambda params, h, of: model.apply(params, h, of, number, train=False, method="layer")
        )

    apply = [applied(number) for number in range(layers)]

    return lambda params: _through_layers(apply, params, graph.features, blocks)


def _through_layers(
    apply: list[Callable[..., Any]], params: PyTree, features: np.ndarray, blocks: list["_Block"]
) -> np.ndarray:
    """The last layer's output for all nodes; no more than two layers' lie on the host."""
    h = features
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
        for number, layer in enumerate(apply):
            out: Any = None
            for own, heard, links in blocks:
                inputs = np.zeros((len(links.degree), *h.shape[1:]), np.float32)
                inputs[: len(heard)] = h[heard]
                found = np.asarray(layer(params, inputs, links))[: len(own)]
                if out is None:
                    out = _room((first, second)[number % 2], (len(features), *found.shape[1:]))
                out[own] = found
            h = out
        return np.array(h)


def measures(
    model: nn.Module,
    graph: Graph,
    block: int | None = None,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[[PyTree], dict[str, float]]:
    """``evaluate(params)``: accuracy (of one label each, which is micro F1) and macro F1.

    Keys: ``accuracy/test``, ``f1_macro/test``, ``accuracy/valid``, ``f1_macro/valid``.
    """
    say = logits(model, graph, block, compiled)

    def evaluate(params: PyTree) -> dict[str, float]:
        best = say(params).argmax(axis=1)
        found = {}
        for name, part in (("test", TEST), ("valid", VALID)):
            nodes = graph.nodes(part)
            found[f"accuracy/{name}"] = float(np.mean(best[nodes] == graph.labels[nodes]))
            found[f"f1_macro/{name}"] = f1_macro(best[nodes], graph.labels[nodes])
        return found

    return evaluate


def f1_macro(said: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes, of those that occur or are said, of the harmonic mean of precision
    and recall."""
    classes = int(max(said.max(), labels.max())) + 1
    right = np.bincount(labels[said == labels], minlength=classes)
    of = np.bincount(said, minlength=classes) + np.bincount(labels, minlength=classes)
    return float(np.mean(2 * right[of > 0] / of[of > 0]))


class _Block(NamedTuple):
    own: np.ndarray
    heard: np.ndarray  # its own nodes, and then those they hear
    links: Links


def _blocks(graph: Graph, size: int, most: int) -> list[_Block]:
    """Blocks of so many nodes, in halves where they and those they hear are more than ``most``."""
    n = len(graph.features)
    degrees = np.bincount(graph.receivers, minlength=n)
    found = []
    left = [np.arange(start, min(start + size, n)) for start in range(0, n, size)][::-1]
    while left:
        own = left.pop()
        begin, end = np.searchsorted(graph.receivers, (own[0], own[-1] + 1))
        senders = np.asarray(graph.senders[begin:end])
        heard = np.concatenate([own, np.setdiff1d(senders, own)])
        if len(heard) > most and len(own) > 1:
            left += np.array_split(own, 2)[::-1]
            continue
        place = np.full(n, -1)
        place[heard] = np.arange(len(heard))
        found.append((own, heard, place[senders], graph.receivers[begin:end] - own[0]))
    rooms: dict[int, tuple[int, int]] = {}  # of blocks about as large, which share a program
    for _, heard, _, into in found:
        room, rows = rooms.get(len(heard).bit_length(), (0, 0))
        needed = int(message_passing.beyond(np.bincount(into)).sum())
        rooms[len(heard).bit_length()] = max(room, len(heard)), max(rows, needed)
    blocks = []
    for own, heard, senders, into in found:
        room, rows = rooms[len(heard).bit_length()]
        degree = np.zeros(room, np.int64)
        degree[: len(heard)] = degrees[heard]
        blocks.append(_Block(own, heard, message_passing.links(senders, into, room, rows, degree)))
    return blocks


def _room(file: Any, shape: tuple[int, ...]) -> np.ndarray:
    if 4 * np.prod(shape) < IN_MEMORY:
        return np.empty(shape, np.float32)
    file.truncate(0)
    return np.memmap(file, np.float32, "w+", shape=shape)
