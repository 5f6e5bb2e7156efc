"""What is learnt: a net, its loss, its batches and its measures, from a config and its data.

A file for each of four kinds: ``classification`` (examples with one label each), ``language`` (with
one at each place), ``many_labels`` (sparse ones with several out of very many), and ``nodes`` (of a
graph).
"""

from typing import Any

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.data.clusters import Nodes
from ist_jax.data.sources.xmc import MultiLabel
from ist_jax.method import Method
from ist_jax.run.job import Task
from ist_jax.run.tasks import classification, language, many_labels, nodes
from ist_jax.run.tasks.task import method_of

OTHERS = {MultiLabel: "xmc", Nodes: "graph"}  # the model of a data set that is no Dataset


def make(config: ConfigDict, data: Any, how: Method, rounds: int) -> Task:
    """The task that a data set is for.

    Raises:
      InputError: a model that is for another kind of data.
    """
    if OTHERS.get(type(data), config.model.name) != config.model.name or (
        config.model.name in OTHERS.values() and type(data) not in OTHERS
    ):
        raise InputError(
            f"config.model.name={config.model.name!r} is not for the data set {data.name}: 'xmc' "
            "is for sparse examples with several labels, 'graph' for the nodes of a graph, and "
            "they need it"
        )
    count = how.workers or config.workers
    if isinstance(data, MultiLabel):
        return many_labels.task(config, data, how, count, rounds)
    if isinstance(data, Nodes):
        return nodes.task(config, data, how, count)
    if language.is_text(data):
        return language.task(config, data, how, count)
    return classification.task(config, data, how, count)


__all__ = ["Task", "method_of", "of"]
