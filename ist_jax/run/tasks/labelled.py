"""Examples with labels, whatever those are: a net, its loss and its measures in, a task out."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ist_jax import depth
from ist_jax.core.errors import InputError
from ist_jax.cost import program
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.models import normalise
from ist_jax.models.ensemble import MEMBERS, Ensemble
from ist_jax.run.job import WIDEST, Compiled, OfNet, Task

EVALUATED = 2000  # examples that are evaluated together, at most

Measure = Callable[[Any, OfNet, int, Compiled], OfNet]


def task(
    how: Method,
    count: int,
    model: Any,
    loss: Callable[[Any], Loss],
    batches: Callable[..., Any],
    some: Any,
    example: dict[str, Any],
    measure: Measure,
) -> Task:
    """The task of ``count`` workers.

    Args:
      model: the whole net, as wide as the method is to train it.
      loss: of a subnet's model.
      batches: of a seed and the workers wanted.
      some: training inputs ``[n, ...]``, for the statistics of the whole net.
      example: shapes of a batch, ``{"x": [B, ...], "y": [B, ...]}``.
      measure: of the whole net's model, its statistics, how many examples it may be asked about
        together, and a way to compile.
    """
    policy = getattr(model, "normalise", "none")
    if how.meant.members:
        if not isinstance(model, nn.Module):
            raise InputError(f"{how.name} needs a module of Linen, whose leaves it stacks")
        model = Ensemble(model, {MEMBERS: count}, policy)
    whole = model
    shares = policy == "share" or (how.meant.scaled and policy != "scale")
    if shares and count > 1 and hasattr(model, "gains"):
        whole = model.clone(gains=depth.mean_shares(how.draw, model.widths, count))
    return Task(
        model=model,
        first=some[:1],
        external={},
        loss=loss,
        batches=batches,
        statistics=lambda compiled: normalise.recompute(whole, some, compiled),
        measure=lambda compiled, statistics: measure(
            whole, statistics, at_once(model, some[:1]), compiled
        ),
        whole=whole,
        example=example,
    )


def some(x: Any, count: int) -> Any:
    """Which of the training examples statistics are of: all, or so many, drawn once.

    Not the first ones: many sets are sorted by class.
    """
    n = len(x)
    if n <= count:
        return slice(None)
    return np.sort(np.random.default_rng(0).permutation(n)[:count])


def shapes(x: Any, y: Any, batch: int) -> dict[str, Any]:
    """Of a batch of so many of these examples."""
    of = lambda part: jax.ShapeDtypeStruct((batch, *part.shape[1:]), part.dtype)
    return {"x": of(x), "y": of(y)}


def at_once(model: Any, first: Any) -> int:
    """How many examples like the first may be evaluated together."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: model.init({"params": key, "dropout": key}, first, train=True))
    many = jax.ShapeDtypeStruct((EVALUATED, *first.shape[1:]), first.dtype)
    forward: Any = lambda params, x: model.apply(params, x, train=True, rngs={"dropout": key})
    return max(1, min(EVALUATED, EVALUATED * WIDEST // program.widest(forward, params, many)))
