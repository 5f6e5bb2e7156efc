"""Text, token by token: which one is next."""

import functools
import math
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ist_jax.data import Dataset, held_out, subwords
from ist_jax.method import Method
from ist_jax.run.job import Compiled, OfNet, Task
from ist_jax.run.tasks import labelled
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import supervised

MOST_NATS = 700.0  # of which a float has the exponential


def is_text(data: Dataset) -> bool:
    """Whether inputs are tokens ``[n, T]``, each with a class as its label."""
    x, y = data.train_x, data.train_y
    tokens = data.classes > 0 and all(np.issubdtype(its.dtype, np.integer) for its in (x, y))
    return tokens and x.shape == y.shape and len(x.shape) == 2


def task(config: ConfigDict, data: Dataset, how: Method, count: int) -> Task:
    """The task of ``count`` workers."""
    x, y = data.train_x, data.train_y
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
    """Of a net: the share of tokens that are the likeliest, nats for a token and perplexity; and
    bits for a byte, where it is known what the tokens stand for."""
    evaluate = supervised.measures(model, statistics, kind, batch, compiled)
    sizes = _bytes_each(data)

    def measure(net):
        found = statistics(net)
        measures: dict[str, float] = {}
        for part, (x, y) in held_out.measured(data).items():
            for name, value in evaluate(net, x, y, found).items():
                measures[f"{name}/{part}"] = value
            loss = measures[f"loss/{part}"]
            measures[f"perplexity/{part}"] = math.exp(min(loss, MOST_NATS))
            if part in sizes:
                measures[f"bits/{part}"] = loss / math.log(2) / sizes[part]
        return measures

    return measure


def _bytes_each(data: Dataset) -> dict[str, float]:
    """Bytes of a token, the mean of each part; nothing where it is not known what tokens are."""
    if data.tokenizer is None:
        return {}
    sizes = np.array([len(piece) for piece in subwords.pieces(data.tokenizer, data.classes)])
    parts = held_out.measured(data).items()
    return {part: float(sizes[np.asarray(y)].mean()) for part, (_, y) in parts}
