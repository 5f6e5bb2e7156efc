"""Examples with several labels out of very many: the loss of a worker, and what the net finds.

The counterpart of ``classify`` for nets that give the two factors of their logits
(``models.xmc``). Precision at k is the share of right ones among the k labels with the largest
logits. Its propensity-scored form counts a right label 1/p, where p is how likely it is that the
label was noticed when the set was made, and divides by what the best possible answer would get
(Jain, Prabhu and Varma, KDD 2016, equation 2 and section 4):

    1/p_l = 1 + C (N_l + B)^-A,   C = (log N - 1) (B + 1)^A,

with N_l of N training examples having the label. It says how well rare labels are found.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ist_jax.core.errors import InputError
from ist_jax.local import Loss
from ist_jax.models import normalise
from ist_jax.tasks import blockwise

PyTree = Any
BLOCK = 8192  # labels at a time
KS = (1, 3, 5)


def loss(
    model: nn.Module,
    labels: int,
    kind: str = "logistic",
    per_example: float = 1.0,
    block: int = BLOCK,
) -> Loss:
    """``loss(params, batch, key)``: the mean of ``blockwise.loss`` over the labels that are held.

    ``batch["y"]`` is ``int32[B, P]``, padded with the number of labels. Where a worker holds a
    sample of the labels, the batch also has ``"sure"`` and ``"drawn"``, ``int32[B]``: the first
    ``sure`` slots are labels of the round's examples, the next ``drawn`` stand for all others, each
    for (labels - sure) / drawn, and the rest are empty. The sum over them is in expectation that
    over all labels.

    Args:
      model: ``apply(params, x, train=True, rngs=...)`` gives ``hidden [B, m], kernel [m, L]``.
      labels: how many there are in all.
      kind: of ``blockwise.KINDS``.
      per_example: labels that an example has on average. ``logistic`` begins with every label as
        likely as that.
      block: labels at a time.
    """
    if kind not in blockwise.KINDS:
        raise InputError(f"the loss must be one of {', '.join(blockwise.KINDS)}; found {kind!r}")
    bias = float(np.log(per_example / labels)) if kind == "logistic" else 0.0

    def mean(params, batch, key):
        factors: Any = model.apply(params, batch["x"], train=True, rngs={"dropout": key})
        hidden, kernel = factors
        weight = _weights(batch, labels, kernel.shape[1], hidden.dtype)
        return blockwise.loss(hidden, kernel, batch["y"], weight, kind, bias, block).mean()

    return mean


def _weights(batch: Any, labels: int, slots: int, dtype: Any) -> jax.Array:
    """What is added to the logit of each label that is held: 0 for itself alone, minus infinity for
    an empty slot."""
    weight = jnp.zeros(slots, dtype)
    if "sure" not in batch:
        return weight
    sure, drawn, number = batch["sure"][0], batch["drawn"][0], jnp.arange(slots)
    stands_for = jnp.log((labels - sure) / jnp.maximum(drawn, 1))
    weight = jnp.where(number < sure + drawn, stands_for, -jnp.inf)
    return jnp.where(number < sure, 0.0, weight)


def precision(
    model: nn.Module,
    statistics_from: PyTree,
    propensities: Float[np.ndarray, " L"],
    batch: int = 500,
    block: int = BLOCK,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[[PyTree, Any, Any], dict[str, float]]:
    """``evaluate(params, x, y) -> {"precision_1": ..., "propensity_1": ..., ...}`` (at 1, 3 and 5).

    ``x`` and ``y`` give padded rows (``sparse.Rows``). As ``classify.accuracy``, it recomputes the
    statistics over ``statistics_from``, and looks at a net where it lies with
    ``compiled=trainer.on_params``. No more than ``[batch, block]`` logits exist at once, and
    ``[batch, F, m]`` of the rows of the first layer.
    """
    recompute = normalise.recompute(model, statistics_from, compiled)

    @compiled
    def best(params, statistics, x):
        factors: Any = model.apply({**params, **statistics}, x, train=False)
        hidden, kernel = factors
        return blockwise.top(hidden, kernel, max(KS), block)

    def evaluate(params: PyTree, x: Any, y: Any) -> dict[str, float]:
        statistics = recompute(params)
        parts = [range(i, min(i + batch, len(x))) for i in range(0, len(x), batch)]
        found = [np.asarray(best(params, statistics, x[np.asarray(part)])) for part in parts]
        return measures(np.concatenate(found), y[np.arange(len(y))], propensities)

    return evaluate


def measures(
    found: Int[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n P"],
    propensities: Float[np.ndarray, " L"],
) -> dict[str, float]:
    """Precision at 1, 3 and 5, and its propensity-scored form, of labels that were found.

    Args:
      found: the labels found for each example, the best first.
      labels: the right ones, padded with L.
      propensities: of each label.
    """
    padded = np.append(1 / propensities, 0.0)
    real = labels[:, None, :] < len(propensities)
    right = ((found[:, :, None] == labels[:, None, :]) & real).any(axis=2)
    gained = np.cumsum(right * padded[found], axis=1)
    most = np.cumsum(-np.sort(-padded[labels], axis=1), axis=1)
    if most.shape[1] < found.shape[1]:
        most = np.pad(most, ((0, 0), (0, found.shape[1] - most.shape[1])), mode="edge")
    out = {}
    for k in KS:
        out[f"precision_{k}"] = float(right[:, :k].sum(axis=1).mean() / k)
        out[f"propensity_{k}"] = float(gained[:, k - 1].sum() / most[:, k - 1].sum())
    return out


def propensities(
    counts: Int[np.ndarray, " L"], examples: int, a: float = 0.55, b: float = 1.5
) -> Float[np.ndarray, " L"]:
    """How likely a label is to have been noticed, from the training examples that have it.

    ``a`` and ``b`` are those the paper takes for sets without others (0.6 and 2.6 for Amazon's).
    """
    c = (np.log(examples) - 1) * (b + 1) ** a
    return 1 / (1 + c * (counts + b) ** -a)
