"""Sparse examples with several out of very many labels."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax import method
from ist_jax.data import held_out, sparse
from ist_jax.data.sources.xmc import MultiLabel
from ist_jax.method import Method
from ist_jax.models import normalise
from ist_jax.models.xmc import XMC
from ist_jax.run.job import WIDEST, Compiled, OfNet, Task
from ist_jax.run.tasks import labelled
from ist_jax.run.tasks import options as task_options
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import many_labels

AT_ONCE = 500  # examples that are evaluated together, at most


def task(config: ConfigDict, data: MultiLabel, how: Method, count: int, rounds: int) -> Task:
    """The task of ``count`` workers; a subnet has only the features and labels of its batches."""
    cuts = how.exchange == "round" and method.cuts(how, dict(config.model.widths), count)
    options = task_options.many_labels(config)
    sampled = options.sampled if cuts else 0
    groups = ("features", *(("labels",) if sampled else ())) if cuts else ()
    widths = {**config.model.widths, "features": data.features, "labels": data.classes}
    model = parts.build_net(XMC, config, widths, how, external=groups, affine=config.model.affine)
    of_seeds = [_slots(config, data, count, s, rounds, sampled) for s in config.seeds if cuts]
    external = {group: max(found[group] for found in of_seeds) for group in groups}

    def batches(seed: int, own: Sequence[int]) -> Any:
        found = parts.batches(config, data, count, seed, own)
        if not cuts:
            return found
        return sparse.Touched(found, data.features, data.classes, external, sampled)

    return Task(
        model=model,
        first=data.train_x[:1],
        external=external,
        loss=lambda net: many_labels.loss(
            net, data.classes, options.loss, data.train_y.a_row, options.block
        ),
        batches=batches,
        statistics=lambda compiled: normalise.recompute(
            model,
            data.train_x[labelled.some(data.train_x, config.statistics_examples)],
            compiled,
        ),
        measure=lambda compiled, statistics: _measure(config, data, model, compiled, statistics),
        example=_example(data, config.data.batch, sampled),
    )


def _slots(
    config: ConfigDict, data: MultiLabel, count: int, seed: int, rounds: int, sampled: int
) -> dict[str, int]:
    """How many features and labels a worker meets in a round, at most."""
    whole = parts.batches(config, data, count, seed, range(count))
    return sparse.slots(whole, data.train_x, data.train_y, rounds, sampled)


def _measure(
    config: ConfigDict, data: MultiLabel, model: nn.Module, compiled: Compiled, statistics: OfNet
) -> OfNet:
    """Of a net: precision among its first labels; that at 1 is called its accuracy."""
    noticed = many_labels.propensities(
        data.train_y.counts(), len(data.train_y), *task_options.many_labels(config).propensity
    )
    a_row = data.train_x.most * config.model.widths.get("hidden0", 1)  # of the first layer
    batch = max(1, min(AT_ONCE, WIDEST // a_row))
    evaluate = many_labels.precision(model, statistics, noticed, batch, compiled=compiled)

    def named(net: Any) -> dict[str, float]:
        measures: dict[str, float] = {}
        for part, (x, y) in held_out.measured(data).items():
            found = evaluate(net, x, y)
            measures[f"accuracy/{part}"] = found["precision_1"]
            measures |= {f"{name}/{part}": value for name, value in found.items()}
        return measures

    return named


def _example(data: MultiLabel, batch: int, sampled: int) -> Any:
    shape = (batch,)
    example = jax.eval_shape(
        lambda: {"x": data.train_x.blank(shape), "y": data.train_y.blank(shape)}
    )
    if sampled:
        chances = jax.ShapeDtypeStruct(shape, np.int32)
        example |= {"sure": chances, "drawn": chances}
    return example
