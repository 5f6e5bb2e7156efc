"""Examples with one label each."""

import functools
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.data import Dataset, held_out
from ist_jax.method import Method
from ist_jax.run.job import Compiled, OfNet, Task
from ist_jax.run.tasks import labelled
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import classification


def task(config: ConfigDict, data: Dataset, how: Method, count: int) -> Task:
    """The task of ``count`` workers.

    Raises:
      InputError: labels that are not one class for each example.
    """
    try:
        classification.check_one_each(data.train_x, data.train_y, data.classes)
    except InputError as error:
        raise InputError(f"{data.name}: {error}") from None
    some = data.train_x[labelled.some(data.train_x, config.statistics_examples)]
    return labelled.task(
        how,
        count,
        parts.net(config, how, data.classes, some[:1]),
        classification.cross_entropy,
        lambda seed, own: parts.batches(config, data, count, seed, own),
        some,
        labelled.shapes(data.train_x, data.train_y, config.data.batch),
        functools.partial(_accuracies, config.top, data),
    )


def _accuracies(
    top: int, data: Dataset, model: Any, statistics: OfNet, batch: int, compiled: Compiled
) -> OfNet:
    """Of a net: the share of examples whose label is the likeliest, and among the ``top``."""
    tops = sorted({1, top})
    names = {k: "accuracy" if k == 1 else f"accuracy_top{k}" for k in tops}
    evaluate = classification.accuracies(model, statistics, tops, batch, compiled)

    def measure(net):
        found = statistics(net)
        return {
            f"{names[k]}/{part}": share
            for part, (x, y) in held_out.measured(data).items()
            for k, share in evaluate(net, x, y, found).items()
        }

    return measure
