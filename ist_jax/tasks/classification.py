"""Classification: the loss of a worker, and the accuracy of the whole net."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import check_labels
from ist_jax.local import Loss
from ist_jax.models import normalise
from ist_jax.models.normalise import Model

PyTree = Any

OTHERWISE = (
    ". Classification takes one class for each example; ist_jax.fit takes targets, and several "
    "labels each, too"
)


def check_one_each(x: Any, y: Any, classes: int | None = None) -> None:
    """Complains about labels that are not one integer for each example, from 0 to classes - 1.

    Args:
      classes: how many there are; without it, only labels below 0 can be told from right ones.

    Raises:
      InputError: saying what was found.
    """
    _check_kind(x, y)
    if classes == 0:
        raise InputError("its labels are no classes but targets" + OTHERWISE)
    check_labels(x, y, classes)


def _check_kind(x: Any, y: Any) -> None:
    """Of labels whose values are not known while the loss is traced."""
    if np.ndim(y) != 1 or not jnp.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"labels must be int[{len(x)}], one for each example; found {y.dtype}"
            f"{list(np.shape(y))}{OTHERWISE}"
        )


def cross_entropy(model: Model) -> Loss:
    """``loss(params, batch, key)``: mean cross entropy of ``batch = {"x": [B, ...], "y": [B]}``.

    NaN if a label is not from 0 to classes - 1: values cannot be refused in a compiled program.
    Labels that are not one integer each are refused as it is traced.

    Args:
      model: ``apply(params, x, train=True, rngs={"dropout": key})`` gives logits ``[B, classes]``.
    """

    def loss(params, batch, key):
        _check_kind(batch["x"], batch["y"])
        logits: Any = model.apply(params, batch["x"], train=True, rngs={"dropout": key})
        y = jnp.asarray(batch["y"], jnp.int32)
        y = jnp.where(y < 0, logits.shape[-1], y)  # optax takes -1 for the last class
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss


def accuracy(
    model: Model,
    statistics_from: Any,
    batch: int = 2000,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[[PyTree, Any, np.ndarray], float]:
    """``evaluate(params, x, y) -> share of examples classified right``, with the whole net.

    Statistics are recomputed over ``statistics_from`` (training inputs, or ``params -> statistics``
    as ``normalise.recompute`` gives it), so that the answer for an example depends on no other test
    example; ``batch`` only bounds memory. A model without the attribute ``normalise`` has no
    statistics. A net that is spread over devices is evaluated where it is: with
    ``compiled=trainer.on_params`` the parameters are ``trainer.sharded_params(state)``.

    Raises:
      InputError: from ``evaluate``, labels that are not ``int [n]`` from 0 to classes - 1.
    """
    of_tops = accuracies(model, statistics_from, (1,), batch, compiled)
    return lambda params, x, y: of_tops(params, x, y)[1]


def accuracies(
    model: Model,
    statistics_from: Any,
    tops: Sequence[int],
    batch: int = 2000,
    compiled: Callable[..., Any] = jax.jit,
) -> Callable[..., dict[int, float]]:
    """As ``accuracy``, in one pass for several k: the label is among the k largest logits.

    ``evaluate(params, x, y, statistics=None)`` takes statistics that are known already.
    """
    recompute = normalise.recompute(model, statistics_from, compiled)

    @compiled
    def right(params, statistics, x, y):
        logits: Any = model.apply({**params, **statistics}, x, train=False)
        most = min(max(tops), logits.shape[-1])
        best = jnp.argmax(logits, axis=-1)[:, None] if most == 1 else lax.top_k(logits, most)[1]
        counts = [jnp.sum(best[:, :k] == y[:, None]) for k in tops]
        return jnp.stack([*counts, jnp.full_like(counts[0], logits.shape[-1])])

    def evaluate(
        params: PyTree, x: Any, y: np.ndarray, statistics: PyTree = None
    ) -> dict[int, float]:
        y = np.asarray(y)
        check_one_each(x, y)
        statistics = recompute(params) if statistics is None else statistics
        starts = range(0, len(x), batch)
        found = [right(params, statistics, x[i : i + batch], y[i : i + batch]) for i in starts]
        check_one_each(x, y, classes=int(found[0][-1]))
        total = np.sum([np.asarray(part[:-1], np.int64) for part in found], axis=0)
        return {k: float(n) / len(x) for k, n in zip(tops, total, strict=True)}

    return evaluate
