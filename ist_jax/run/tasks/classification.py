"""Examples with one label each."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax import depth
from ist_jax.core import by_name
from ist_jax.cost import program
from ist_jax.data import Dataset, held_out
from ist_jax.method import Method
from ist_jax.models import MODELS, normalise
from ist_jax.models.ensemble import MEMBERS, Ensemble
from ist_jax.run.tasks import task as parts
from ist_jax.run.tasks.task import WIDEST, Compiled, OfNet, Task
from ist_jax.tasks import classification

EVALUATED = 2000  # examples that are evaluated together, at most


def task(config: ConfigDict, data: Dataset, how: Method, count: int) -> Task:
    """The task of ``count`` workers."""
    model = parts.build_net(
        by_name.found(config.model.name, MODELS, "config.model.name"),
        config,
        dict(config.model.widths),
        how,
        classes=data.classes,
        affine=config.model.affine,
        logits=config.model.logits,
    )
    if how.meant.members:
        model = Ensemble(model, {MEMBERS: count}, config.normalise)
    shape = data.train_x.shape[1:]
    some = data.train_x[: config.statistics_examples]
    whole = model
    scales = config.normalise == "scale"  # while it trains
    if how.meant.scaled and count > 1 and not scales:
        whole = model.clone(gains=depth.mean_shares(how.draw, model.widths, count))

    def measure(compiled: Compiled, statistics: OfNet) -> OfNet:
        batch = _at_once(model, data.train_x[:1])
        return _accuracies(whole, statistics, config.top, batch, compiled, data)

    return Task(
        model=model,
        first=data.train_x[:1],
        external={},
        loss=classification.cross_entropy,
        batches=lambda seed, own: parts.batches(config, data, count, seed, own),
        statistics=lambda compiled: normalise.recompute(whole, some, compiled),
        measure=measure,
        gains=getattr(whole, "gains", {}),
        example={
            "x": jax.ShapeDtypeStruct((config.data.batch, *shape), data.train_x.dtype),
            "y": jax.ShapeDtypeStruct((config.data.batch,), np.int32),
        },
    )


def _accuracies(
    model: nn.Module, statistics: OfNet, top: int, batch: int, compiled: Compiled, data: Dataset
) -> OfNet:
    """Of a net: the share of examples whose label is the likeliest, and among the ``top``."""
    tops = sorted({1, top})
    names = {k: "accuracy" if k == 1 else f"accuracy_top{k}" for k in tops}
    evaluate = classification.accuracies(model, statistics, tops, batch, compiled)
    return lambda net: {
        f"{names[k]}/{part}": share
        for part, (x, y) in held_out.measured(data).items()
        for k, share in evaluate(net, x, y).items()
    }


def _at_once(model: nn.Module, first: np.ndarray) -> int:
    """How many examples like the first may be evaluated together."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: model.init(key, first, train=True))
    many = jax.ShapeDtypeStruct((EVALUATED, *first.shape[1:]), first.dtype)
    forward: Any = lambda params, x: model.apply(params, x, train=True, rngs={"dropout": key})
    return max(1, min(EVALUATED, EVALUATED * WIDEST // program.widest(forward, params, many)))
