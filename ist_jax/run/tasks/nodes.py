"""The nodes of a graph."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.data.clusters import Nodes
from ist_jax.method import Method
from ist_jax.models import message_passing
from ist_jax.models.gcn import ENDS, GraphNet
from ist_jax.run.job import Task
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import nodes


def task(config: ConfigDict, data: Nodes, how: Method, count: int) -> Task:
    """The task of ``count`` workers.

    Raises:
      InputError: a config that is not for the nodes of a graph.
    """
    _check(config, data, how, count)
    features = data.graph.features
    model = parts.build_net(GraphNet, config, dict(config.model.widths), how, classes=data.classes)
    none = np.zeros(0, np.int32)
    shape = (config.data.batch,)
    example: Any = jax.eval_shape(
        lambda: {"x": data.train_x.blank(shape), "y": data.train_y.blank(shape)}
    )
    return Task(
        model=model,
        first={"features": features[:1], "links": message_passing.links(none, none, 1)},
        external={},
        loss=nodes.loss,
        batches=lambda seed, own: parts.batches(config, data, count, seed, own),
        statistics=lambda compiled: lambda net: {},
        measure=lambda compiled, _: nodes.measures(model, data.graph, compiled=compiled),
        example=example,
        common=features,
    )


def _check(config: ConfigDict, data: Nodes, how: Method, count: int) -> None:
    if config.mesh.data > 1:
        raise InputError(
            f"config.mesh.data={config.mesh.data} devices would split a batch of examples; the "
            "nodes of a batch are joined by edges. Set it to 1."
        )
    if "nan" in config.faults:
        raise InputError(
            "config.faults: nan spoils a number of a worker's batches; those of a graph hold none, "
            "as its features are everybody's"
        )
    if how.meant.members or how.meant.scaled:
        raise InputError(f"{how.name} is for nets cut by depth; a graph net's layers have widths")
    if how.exchange == "never" and count > 1 and "labels" not in config.model.widths:
        raise InputError(
            f"{how.name}: the members would share the bias of the classes. Let those be a group: "
            f'"labels":{data.classes} in config.model.widths'
        )
    ends = (data.graph.features.shape[1], data.classes)
    for group, right in zip(ENDS, ends, strict=True):
        if (width := config.model.widths.get(group, right)) != right:
            raise InputError(f"config.model.widths.{group}={width}, but {data.name} has {right}")
