"""Text, token by token: which one is next."""

import functools
import math
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.data import Dataset, held_out
from ist_jax.method import Method
from ist_jax.run.job import Compiled, OfNet, Task
from ist_jax.run.tasks import labelled
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import supervised


def task(config: ConfigDict, data: Dataset, how: Method, count: int) -> Task:
    """The task of ``count`` workers.

    Raises:
      InputError: labels that are not one integer for each token.
    """
    x, y = data.train_x, data.train_y
    if x.shape != y.shape or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"{data.name}: a text has a label at each of its tokens; found inputs "
            f"{x.dtype}{list(x.shape)} and labels {y.dtype}{list(y.shape)}"
        )
    some = x[labelled.some(x, config.statistics_examples)]
    kind = supervised.kind_of(y[:1])
    return labelled.task(
        how,
        count,
        parts.net(config, how, data.classes, some[:1]),
        functools.partial(supervised.loss_of, kind=kind),
        lambda seed, own: parts.batches(config, data, count, seed, own),
        some,
        labelled.shapes(x, y, config.data.batch),
        functools.partial(_measure, kind, data),
    )


def _measure(
    kind: supervised.Kind,
    data: Dataset,
    model: Any,
    statistics: OfNet,
    batch: int,
    compiled: Compiled,
) -> OfNet:
    """Of a net: the share of tokens that are the likeliest, nats and bits for a token."""
    evaluate = supervised.measures(model, statistics, kind, batch, compiled)

    def measure(net):
        found = statistics(net)
        measures: dict[str, float] = {}
        for part, (x, y) in held_out.measured(data).items():
            for name, value in evaluate(net, x, y, found).items():
                measures[f"{name}/{part}"] = value
            measures[f"bits/{part}"] = measures[f"loss/{part}"] / math.log(2)
        return measures

    return measure
