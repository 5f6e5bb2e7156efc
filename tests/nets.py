"""The nets that guarantees are tested with: parameters, names, the loss of a subnet, batches."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from conftest import drawn, mlp_loss, mlp_tree, regression_batches


class Net(NamedTuple):
    """``loss`` takes the widths of a subnet; ``batches`` the rounds, workers and local steps."""

    params: Any
    names: Any
    loss: Callable[[dict[str, int]], Any]
    batches: Callable[[int, int, int], list[dict[str, np.ndarray]]]


def trainer(name, how, size, optimizer, **options):
    """Of a net by its name."""
    import ist_jax
    from ist_jax import axes, partition  # not before annotations are checked

    params, names, loss, _ = net(name)
    cut = partition.sub_widths(how.draw, axes.widths(params, names), size)
    return ist_jax.build(loss(cut), optimizer, params, names, method=how, workers=size, **options)


def mlp(*dims):
    params, names = mlp_tree(dims)
    batches = lambda r, s, j: regression_batches(r, s, j, 8, dims[0], dims[-1])
    return Net(params, names, lambda cut: mlp_loss, batches)


def recurrent():
    """A scan that starts from zeros, and dropout: what a stranger's model may do."""

    def loss(params, batch, key):
        def step(hidden, x):
            return jnp.tanh(x @ params["u"] + hidden @ params["w"]), None

        start = jnp.zeros((batch["x"].shape[0], params["w"].shape[0]))
        hidden, _ = jax.lax.scan(step, start, batch["x"].reshape(-1, 2, 3).swapaxes(0, 1))
        hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape)
        return jnp.mean(jnp.square(hidden @ params["v"] - batch["y"]))

    draw = np.random.default_rng(0)
    shapes = {"u": (3, 16), "w": (16, 16), "v": (16, 3)}
    params = {k: jnp.asarray(draw.normal(size=s) / 4, jnp.float32) for k, s in shapes.items()}
    names = {"u": (None, "h"), "w": ("h", "h"), "v": ("h", None)}
    return Net(
        params, names, lambda cut: loss, lambda r, s, j: regression_batches(r, s, j, 8, 6, 3)
    )


def of_images(model):
    """A model for images of 8 x 8 with 3 classes."""
    from ist_jax.models import normalise
    from ist_jax.tasks import classification

    params, names = drawn(model, np.ones((1, 8, 8, 1), np.float32))

    def batches(rounds, workers, steps):
        draw = np.random.default_rng(0)
        return [
            {
                "x": draw.normal(size=(workers, steps, 4, 8, 8, 1)).astype(np.float32),
                "y": draw.integers(0, 3, (workers, steps, 4)).astype(np.int32),
            }
            for _ in range(rounds)
        ]

    make = lambda cut: classification.cross_entropy(normalise.subnet(model, cut))
    return Net(params, names, make, batches)


def cnn():
    """Convolutions with norms and a shared bias."""
    from ist_jax.models.cnn import CNN

    return of_images(CNN({"filters0": 8, "filters1": 12, "hidden0": 16}, classes=3))


def resnet(**widths):
    """Blocks of a stage that are stacked, or filters between two convolutions."""
    from ist_jax.models.resnet import ResNet

    options = {"base": 2, "preactivate": True, "bias": True, "logits": False}
    return of_images(ResNet(widths, 3, blocks=(1, 6 if "stage2" in widths else 2), **options))


def with_features(batches, features):
    """Batches of a graph that hold their features themselves, 0 of nobody."""
    features = np.concatenate([features, np.zeros_like(features[:1])])
    x = {"features": features[batches["x"]["nodes"]], "links": batches["x"]["links"]}
    return batches | {"x": x}


def holding(loss):
    """A loss of a graph's nodes, of such batches."""
    from ist_jax.local import with_common

    def of(params, batch, key):
        x = {"nodes": np.arange(len(batch["y"])), "links": batch["x"]["links"]}
        return loss(params, with_common(batch | {"x": x}, batch["x"]["features"], {}, {}), key)

    return of


def on_a_graph(kind):
    """Clusters of a small graph with a hub, some of whose nodes have no label."""
    from ist_jax.data import Batches, graph
    from ist_jax.data.clusters import Clusters, Labels
    from ist_jax.models import message_passing, normalise
    from ist_jax.models.gcn import GraphNet
    from ist_jax.tasks import nodes

    draw = np.random.default_rng(0)
    ends = np.concatenate([draw.integers(0, 60, (2, 150)), [np.arange(30), np.full(30, 5)]], 1)
    features = draw.normal(size=(60, 5)).astype(np.float32)
    labels = np.where(np.arange(60) % 7, draw.integers(0, 3, 60), -1)
    made = graph.build("toy", features, ends, labels, np.arange(60) % 3)
    clusters = Clusters(made, draw.integers(0, 6, 60))
    model = GraphNet({"hidden0": 32, "hidden1": 24}, 3, kind, heads=2)
    of_labels = Labels(clusters, made)

    def batches(rounds, workers, steps):
        of = Batches(clusters, of_labels, workers=workers, batch=2, local_steps=steps, seed=0,
                     split="all")  # fmt: skip
        return [with_features(of(number), features) for number in range(rounds)]

    links = message_passing.links(made.senders, made.receivers, 60)
    params, names = drawn(model, {"features": made.features, "links": links})
    loss = lambda cut: holding(nodes.loss(normalise.subnet(model, cut)))
    return Net(params, names, loss, batches)


MAKE = {
    "one hidden": lambda: mlp(40, 64, 3),
    "two hidden": lambda: mlp(6, 32, 24, 3),
    "small": lambda: mlp(6, 16, 8, 3),
    "recurrent": recurrent,
    "cnn": cnn,
    "blocks": lambda: resnet(stage2=5),
    "filters": lambda: resnet(filters2_1=8),
    "gcn": lambda: on_a_graph("gcn"),
    "sage": lambda: on_a_graph("sage"),
    "gat": lambda: on_a_graph("gat"),
}


@functools.cache
def net(name):
    return MAKE[name]()
