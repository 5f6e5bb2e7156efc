"""Nets on graphs whose hidden features are cut: GCN, GraphSAGE and GAT.

Each hidden layer is a group of its own, ``hidden0``, ``hidden1``, ...; input features and classes
are cut only if they are named too (GIST: Wolfe et al.). GraphSAGE's kernels for a node and for its
neighbours are apart, so that a hidden neuron is a column of both and a row of the next two. Of GAT,
the width of every head is cut: kernels keep the heads as an axis. Hidden features are normalised
node by node, without scale and shift (``layer_norm``), so that a subnet needs no statistics of the
whole net.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Bool, Float

from ist_jax.core.errors import InputError
from ist_jax.models import message_passing
from ist_jax.models.message_passing import Links
from ist_jax.models.mlp import hidden

KINDS = ("gcn", "sage", "gat")
ENDS = ("features", "labels")


class GraphNet(nn.Module):
    """``{"features": [n, F], "links": Links} -> logits [n, classes]``.

    Of a subnet the input may have ``held``, which slots of a group hold a neuron (bool [m]): only
    those are normalised, and the others stay 0.

    Attributes:
      widths: hidden features of each layer (``hidden0``, ...), of GAT those of one head. With
        ``features`` or ``labels`` the input features or the classes are groups too, and can be cut.
      classes: number of logits, unless ``labels`` is a group.
      kind: ``gcn`` (Kipf and Welling: neighbours and the node itself, each divided by the roots of
        both degrees), ``sage`` (Hamilton et al.: the mean of the neighbours, and the node itself)
        or ``gat`` (Velickovic et al.: neighbours and itself, weighted by attention).
      heads: of ``gat``; the last layer's are averaged.
      drop: share of the inputs of each layer that is dropped out in training.
      layer_norm: whether hidden features are normalised.
      normalise, gains: as ``ist_jax.models.mlp.MLP``; there is nothing to standardise.
    """

    widths: Mapping[str, int]
    classes: int
    kind: str = "sage"
    heads: int = 4
    drop: float = 0.0
    layer_norm: bool = True
    normalise: str = "none"
    gains: Mapping[str, float] = FrozenDict()

    def __call__(self, x: Mapping[str, Any], *, train: bool) -> Float[Array, "n classes"]:
        h = jnp.asarray(x["features"])
        for number in range(self.layers):
            held = x.get("held", {}).get(f"hidden{number}")
            h = self.layer(h, x["links"], number, train=train, held=held)
        return h

    @property
    def layers(self) -> int:
        """The logits' among them."""
        return len(self._hidden) + 1

    @property
    def widest(self) -> int:
        """Numbers of a node in its widest layer."""
        of_layers = [self.widths[group] for group in self._hidden]
        return max(*of_layers, self.classes) * (self.heads if self.kind == "gat" else 1)

    @property
    def _hidden(self) -> list[str]:
        return hidden({group: n for group, n in self.widths.items() if group not in ENDS})

    @nn.compact
    def layer(
        self,
        h: Float[Array, "n *d"],
        links: Links,
        number: int,
        *,
        train: bool,
        held: Bool[Array, " d"] | None = None,
    ) -> Float[Array, "n *d2"]:
        """One layer alone, the logits' after all hidden ones: ``apply(..., method="layer")``."""
        self._check()
        first, last = (group if group in self.widths else None for group in ENDS)
        groups = [first, *self._hidden, last]
        above, group = groups[number], groups[number + 1]
        below = (None, above) if self.kind == "gat" and number else (above,)
        still = not (train and self.has_rng("dropout"))
        h = nn.Dropout(self.drop, deterministic=still)(h)
        if not number:
            h = h * self.gains.get("features", 1.0)
        width = self.widths[group] if group else self.classes
        h = _LAYERS[self.kind](self, h, links, width, below, group)
        if number < self.layers - 1:
            h = _normalised(h, held) if self.layer_norm else h
            return nn.relu(h) * self.gains.get(self._hidden[number], 1.0)
        bias: Any = self.param(
            "bias", nn.with_partitioning(nn.initializers.zeros, (group,)), (width,)
        )
        return (h.mean(axis=1) if self.kind == "gat" else h) + bias

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"a graph net is one of {', '.join(KINDS)}; found {self.kind!r}")
        if self.normalise == "standardise":
            raise InputError(
                "a graph net normalises each node by itself: config.normalise='none' or 'scale'"
            )
        if not 0 <= self.drop < 1:
            raise InputError(f"drop must be in [0, 1), found {self.drop}")
        if self.heads < 1:
            raise InputError(f"a graph net needs at least one head, found {self.heads}")


def _gcn(net: GraphNet, h: Array, links: Links, width: int, below: Any, group: Any) -> Array:
    root = jax.lax.rsqrt(links.degree.astype(h.dtype) + 1)[:, None]
    with_self = lambda h: root * (message_passing.total(root * h, links) + root * h)
    return _mixed(with_self, h, width, below, group, "all")


def _sage(net: GraphNet, h: Array, links: Links, width: int, below: Any, group: Any) -> Array:
    share = 1 / jnp.maximum(links.degree, 1).astype(h.dtype)[:, None]
    mean = lambda h: share * message_passing.total(h, links)
    return _linear(h, (width,), below, (group,), "self") + _mixed(
        mean, h, width, below, group, "neighbours"
    )


def _gat(net: GraphNet, h: Array, links: Links, width: int, below: Any, group: Any) -> Array:
    name = group or "logits"
    z = _linear(h, (net.heads, width), below, (None, group), "all")

    def towards(which: str) -> Array:
        init = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)  # heads come out
        named = nn.with_partitioning(init, (None, group))
        kernel: Any = net.param(f"{which}_{name}", named, (net.heads, width))
        return jnp.einsum("nhd,hd->nh", z, kernel)

    to, of = towards("to"), towards("of")
    hears, itself = message_passing.across(to, of, links)
    share, mine = message_passing.softmax(
        nn.leaky_relu(hears, 0.2), nn.leaky_relu(itself, 0.2), links
    )
    return message_passing.weighted(z, share, links) + mine[:, :, None] * z


_LAYERS = {"gcn": _gcn, "sage": _sage, "gat": _gat}


def _mixed(mix: Any, h: Array, width: int, below: Any, group: Any, name: str) -> Array:
    """A linear layer on what is mixed over neighbours, mixed where there are fewer features."""
    if width < h.shape[-1]:
        return mix(_linear(h, (width,), below, (group,), name))
    return _linear(mix(h), (width,), below, (group,), name)


def _linear(h: Array, width: tuple, below: tuple, names: tuple, name: str) -> Array:
    layer = nn.DenseGeneral(
        width,
        tuple(range(-len(below), 0)),
        use_bias=False,
        kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), (*below, *names)),
        name=f"{name}_{names[-1] or 'logits'}",
    )
    return layer(h)


def _normalised(h: Array, held: Array | None) -> Array:
    """To mean 0 and variance 1 over the features of each node, those that are held.

    An empty slot is 0 before, and after. Divided by the count, or with the slots selected inside
    the sums, results had other bits where a device trains another number of workers.
    """
    over: dict[str, Any] = {"axis": tuple(range(1, h.ndim)), "keepdims": True}
    there = jnp.ones(h.shape[-1], h.dtype) if held is None else held.astype(h.dtype)
    share = 1 / (there.sum() * math.prod(h.shape[1:-1]))
    centred = (h - share * h.sum(**over)) * there
    return centred * jax.lax.rsqrt(share * jnp.square(centred).sum(**over) + 1e-5)
