"""What is learnt from inputs and labels: the loss follows from what the labels are.

======================  =============================  ==========================================
labels                  loss                           measured besides
======================  =============================  ==========================================
int ``[n]``             cross entropy of the logits    accuracy: the label has the largest logit
int ``[n, T]``          the same, at every position    accuracy, over all positions
bool ``[n, C]``         cross entropy of C sigmoids    accuracy, over all entries
float ``[n]``, ``...``  mean squared error             nothing
======================  =============================  ==========================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ist_jax.core.errors import InputError
from ist_jax.local import Loss
from ist_jax.models import normalise

PyTree = Any
OfOutputs = Callable[[Array, Array], Array]


class Kind(NamedTuple):
    """How outputs are judged by labels.

    Attributes:
      loss: ``(outputs [B, ...], labels [B, ...]) -> ``a loss, or one for each example; their mean
        counts.
      right: which of the labels the outputs are right about, or None.
    """

    loss: OfOutputs
    right: OfOutputs | None = None


def kind_of(labels: Any) -> Kind:
    """The kind that labels are of, by their dtype.

    Raises:
      InputError: they are neither whole numbers, truth values nor numbers.
    """
    dtype = np.asarray(labels).dtype
    if np.issubdtype(dtype, np.integer):
        return Kind(_classes_loss, lambda outputs, y: outputs.argmax(-1) == y)
    if np.issubdtype(dtype, np.bool_):
        return Kind(_several_loss, lambda outputs, y: (outputs > 0) == y)
    if np.issubdtype(dtype, np.floating):
        return Kind(_squared)
    raise InputError(
        f"labels must be whole numbers (classes), truth values (several classes at once) or "
        f"numbers; found {dtype}. Or give a loss of your own, loss(outputs, labels)"
    )


def check_outputs(outputs: tuple[int, ...], labels: Any) -> None:
    """Complains about outputs ``[B, ...]`` that do not fit labels ``[n, ...]``.

    Raises:
      InputError: a label for which there is no logit; other axes; labels that look like classes,
        but are numbers.
    """
    labels = np.asarray(labels)
    if np.issubdtype(labels.dtype, np.integer):
        if len(outputs) != labels.ndim + 1 or outputs[1:-1] != labels.shape[1:]:
            raise InputError(
                f"outputs are {list(outputs)} and labels {['n', *labels.shape[1:]]}: of classes, "
                "labels are whole numbers [n] and outputs logits [n, classes]. Of one-hot labels "
                "take y.argmax(-1), of a column y[:, 0]"
            )
        if labels.max(initial=0) >= outputs[-1]:
            raise InputError(
                f"labels go up to {labels.max()}, and the model has {outputs[-1]} outputs, for 0 "
                f"to {outputs[-1] - 1}. Give it more outputs, or number the classes from 0"
            )
    elif outputs[1:] != labels.shape[1:]:
        raise InputError(
            f"outputs are {list(outputs)} and labels {['n', *labels.shape[1:]]}: labels that are "
            f"{labels.dtype} are targets, one for each output. Classes are whole numbers: "
            "y.astype(int)"
        )
    elif labels.ndim == 2 and labels.dtype != bool and labels.shape[1] > 1:
        some = labels[:256]
        if ((some == 0) | (some == 1)).all() and (some.sum(axis=1) == 1).all():
            raise InputError(
                "labels look one-hot. For classes give y.argmax(-1); for several at once "
                "y.astype(bool); to learn them as targets, a loss of your own"
            )


def loss_of(model: Any, kind: Kind) -> Loss:
    """``loss(params, batch, key)`` of ``batch = {"x": [B, ...], "y": [B, ...]}``.

    Args:
      model: ``apply(params, x, train=True, rngs={"dropout": key})`` gives the outputs.
    """

    def loss(params, batch, key):
        outputs: Any = model.apply(params, batch["x"], train=True, rngs={"dropout": key})
        return kind.loss(outputs, jnp.asarray(batch["y"])).mean()

    return loss


def measures(
    model: Any,
    statistics_from: Any,
    kind: Kind,
    batch: int = 2000,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[..., dict[str, float]]:
    """``evaluate(params, x, y, statistics=None) -> {"loss": ..., "accuracy": ...}``, of the whole
    net; statistics may be known already.

    Else they, and ``compiled``, are as for ``classification.accuracy``. ``accuracy`` is absent
    where the kind has none.
    """
    recompute = normalise.recompute(model, statistics_from, compiled)

    @compiled
    def sums(params, statistics, x, y):
        outputs: Any = model.apply({**params, **statistics}, x, train=False)
        y = jnp.asarray(y)
        found = {"loss": kind.loss(outputs, y).mean() * len(x)}
        if kind.right is not None:
            right = kind.right(outputs, y)
            found["accuracy"] = right.sum() / (right.size // len(x))
        return found

    def evaluate(params: PyTree, x: Any, y: Any, statistics: PyTree = None) -> dict[str, float]:
        statistics = recompute(params) if statistics is None else statistics
        starts = range(0, len(x), batch)
        found = [sums(params, statistics, x[i : i + batch], y[i : i + batch]) for i in starts]
        return {key: sum(float(part[key]) for part in found) / len(x) for key in found[0]}

    return evaluate


def _classes_loss(outputs: Array, y: Array) -> Array:
    """NaN where a label is no class: values cannot be refused in a compiled program."""
    y = jnp.asarray(y, jnp.int32)
    y = jnp.where(y < 0, outputs.shape[-1], y)  # optax takes -1 for the last class
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y)


def _several_loss(outputs: Array, y: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(outputs, y)


def _squared(outputs: Array, y: Array) -> Array:
    return jnp.square(outputs - y)
