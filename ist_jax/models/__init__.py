"""Nets whose axes have names; each takes widths of a subnet as well as of the whole.

``MODELS`` are those for examples with one label each, or at each place, by the name that a config
gives them.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn

from ist_jax.models.cnn import CNN
from ist_jax.models.gcn import GraphNet
from ist_jax.models.mlp import MLP
from ist_jax.models.resnet import ResNet
from ist_jax.models.transformer import Transformer
from ist_jax.models.vgg import VGG
from ist_jax.models.xmc import XMC

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "vgg": VGG,
    "resnet": ResNet,
    "transformer": Transformer,
}
# For data sets of another kind: sparse examples with many labels, the nodes of a graph.
OTHER_MODELS: Mapping[str, Callable[..., nn.Module]] = {"xmc": XMC, "graph": GraphNet}

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "OTHER_MODELS",
    "VGG",
    "XMC",
    "GraphNet",
    "ResNet",
    "Transformer",
]
