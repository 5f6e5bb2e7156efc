"""What is learnt: a net, its loss, its batches and its measures, from a config and its data.

Three tasks: examples with one label each (``classify``), sparse ones with several out of very many
labels (``multilabel``), and the nodes of a graph (``nodes``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict
from ml_collections import ConfigDict

from ist_jax import depth, method, partition
from ist_jax.core.errors import InputError
from ist_jax.cost import program
from ist_jax.data import Batches, Dataset, sparse
from ist_jax.data.clusters import Nodes
from ist_jax.data.sources.xmc import MultiLabel
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.models import message_passing, normalise
from ist_jax.models.cnn import CNN
from ist_jax.models.ensemble import MEMBERS, Ensemble
from ist_jax.models.gcn import ENDS, GraphNet
from ist_jax.models.mlp import MLP
from ist_jax.models.resnet import ResNet
from ist_jax.models.vgg import VGG
from ist_jax.models.xmc import XMC
from ist_jax.tasks import classification, many_labels, nodes

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "vgg": VGG,
    "resnet": ResNet,
}
OTHERS = {MultiLabel: "xmc", Nodes: "graph"}  # the model of a data set that is no Dataset
OTHER_MODELS: Mapping[str, Callable[..., nn.Module]] = {"xmc": XMC, "graph": GraphNet}
EVALUATED = 2000  # examples that are looked at together, at most
WIDEST = 2**26  # numbers in an array that an evaluation computes, 256 MiB

Compiled = Callable[..., Any]
OfNet = Callable[[Any], dict[str, Any]]


class Task(NamedTuple):
    """What a method trains.

    Attributes:
      model: the whole net.
      first: what it is initialised with.
      given: the groups whose neurons the batches tell, and how many slots a worker has of each.
      loss: of a subnet's model.
      batches: of a seed and the workers wanted.
      statistics: with a way to compile, a net's that it is asked with; none of some nets.
      measure: with a way to compile and the net's statistics, what is measured of a net.
      example: shapes of one local step's batch.
      common: what every step sees beside its batch (``ist_jax.build``), or None.
      gains: of the model where it is asked.
    """

    model: nn.Module
    first: Any
    given: Mapping[str, int]
    loss: Callable[[nn.Module], Loss]
    batches: Callable[[int, Sequence[int]], Any]
    statistics: Callable[[Compiled], OfNet]
    measure: Callable[[Compiled, OfNet], OfNet]
    example: Any
    common: Any = None
    gains: Mapping[str, float] = FrozenDict()


def of(config: ConfigDict, data: Any, how: Method, rounds: int) -> Task:
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
        return _retrieval(config, data, how, count, rounds)
    return (_of_nodes if isinstance(data, Nodes) else _classification)(config, data, how, count)


def method_of(config: ConfigDict, name: str) -> Method:
    """The method a config means by a name."""
    return method.named(name, config.assignment, tuple(config.shares), config.min_depth)


def _classification(config: ConfigDict, data: Dataset, how: Method, count: int) -> Task:
    model = _build(
        MODELS[config.model.name],
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
    if (
        how.meant.scaled and count > 1 and config.normalise != "scale"
    ):  # which scales while it trains
        whole = model.clone(gains=depth.mean_shares(how.draw, model.widths, count))

    def measure(compiled: Compiled, statistics: OfNet) -> OfNet:
        tops = sorted({1, config.top})
        names = {k: "accuracy/test" if k == 1 else f"accuracy_top{k}/test" for k in tops}
        batch = _at_once(model, data.train_x[:1])
        evaluate = classification.accuracies(whole, statistics, tops, batch, compiled)
        return lambda net: {
            names[k]: share for k, share in evaluate(net, data.test_x, data.test_y).items()
        }

    return Task(
        model=model,
        first=data.train_x[:1],
        given={},
        loss=classification.cross_entropy,
        batches=lambda seed, own: _batches(config, data, count, seed, own),
        statistics=lambda compiled: normalise.recompute(whole, some, compiled),
        measure=measure,
        gains=whole.gains,
        example={
            "x": jax.ShapeDtypeStruct((config.data.batch, *shape), data.train_x.dtype),
            "y": jax.ShapeDtypeStruct((config.data.batch,), np.int32),
        },
    )


def _retrieval(config: ConfigDict, data: MultiLabel, how: Method, count: int, rounds: int) -> Task:
    cuts = how.exchange == "round" and method.cuts(how, dict(config.model.widths), count)
    widths = {
        **config.model.widths,
        "features": data.features,
        "labels": data.classes,
    }
    sampled = config.xmc.sampled if cuts else 0
    groups = ("features", *(("labels",) if sampled else ())) if cuts else ()
    model = _build(XMC, config, widths, how, given=groups, affine=config.model.affine)

    def batches(seed: int, own: Sequence[int]) -> Any:
        found = _batches(config, data, count, seed, own)
        if not cuts:
            return found
        return sparse.Touched(found, data.features, data.classes, given, sampled)

    def slots(seed: int) -> dict[str, int]:
        whole = _batches(config, data, count, seed, range(count))
        return sparse.slots(whole, data.train_x, data.train_y, rounds, sampled)

    of_seeds = [slots(seed) for seed in config.seeds] if cuts else []
    given = {group: max(found[group] for found in of_seeds) for group in groups}

    def measure(compiled: Compiled, statistics: OfNet) -> OfNet:
        noticed = many_labels.propensities(
            data.train_y.counts(), len(data.train_y), *config.xmc.propensity
        )
        a_row = data.train_x.most * config.model.widths.get("hidden0", 1)  # of the first layer
        batch = max(1, min(500, WIDEST // a_row))
        evaluate = many_labels.precision(model, statistics, noticed, batch, compiled=compiled)

        def named(net: Any) -> dict[str, float]:
            found = evaluate(net, data.test_x, data.test_y)
            return {
                "accuracy/test": found["precision_1"],
                **{f"{name}/test": value for name, value in found.items()},
            }

        return named

    shape = (config.data.batch,)
    example = jax.eval_shape(
        lambda: {"x": data.train_x.blank(shape), "y": data.train_y.blank(shape)}
    )
    if sampled:
        one = jax.ShapeDtypeStruct(shape, np.int32)
        example |= {"sure": one, "drawn": one}
    return Task(
        model=model,
        first=data.train_x[:1],
        given=given,
        loss=lambda net: many_labels.loss(
            net, data.classes, config.xmc.loss, data.train_y.a_row, config.xmc.block
        ),
        batches=batches,
        statistics=lambda compiled: normalise.recompute(
            model, data.train_x[: config.statistics_examples], compiled
        ),
        measure=measure,
        example=example,
    )


def _of_nodes(config: ConfigDict, data: Nodes, how: Method, count: int) -> Task:
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
    features = data.graph.features
    for group, count_of in zip(ENDS, (features.shape[1], data.classes), strict=True):
        if (width := config.model.widths.get(group, count_of)) != count_of:
            raise InputError(f"config.model.widths.{group}={width}, but {data.name} has {count_of}")
    model = _build(GraphNet, config, dict(config.model.widths), how, classes=data.classes)
    none = np.zeros(0, np.int32)
    shape = (config.data.batch,)
    example = jax.eval_shape(
        lambda: {"x": data.train_x.blank(shape), "y": data.train_y.blank(shape)}
    )
    return Task(
        model=model,
        first={"features": features[:1], "links": message_passing.links(none, none, 1)},
        given={},
        loss=nodes.loss,
        batches=lambda seed, own: _batches(config, data, count, seed, own),
        statistics=lambda compiled: lambda net: {},
        measure=lambda compiled, _: nodes.measures(model, data.graph, compiled=compiled),
        example=example,
        common=features,
    )


def _build(
    kind: Callable[..., nn.Module],
    config: ConfigDict,
    widths: dict[str, int],
    how: Method,
    **more: Any,
) -> nn.Module:
    """The config's net, or for a narrow method one as wide as a subnet."""
    if how.meant.narrow:
        hidden = {g: n for g, n in widths.items() if g not in ENDS}
        cut = method_of(config, how.meant.narrow).draw
        widths = widths | partition.sub_widths(cut, hidden, config.workers)
    try:
        return kind(widths=widths, normalise=config.normalise, **more, **config.model.options)
    except TypeError as error:
        raise InputError(
            f"config.model.options does not fit model {config.model.name!r}: {error}"
        ) from None


def _at_once(model: nn.Module, first: np.ndarray) -> int:
    """How many examples like the first may be looked at together."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: model.init(key, first, train=True))
    many = jax.ShapeDtypeStruct((EVALUATED, *first.shape[1:]), first.dtype)
    forward = lambda params, x: model.apply(params, x, train=True, rngs={"dropout": key})
    return max(1, min(EVALUATED, EVALUATED * WIDEST // program.widest(forward, params, many)))


def _batches(config: ConfigDict, data: Any, count: int, seed: int, own: Sequence[int]) -> Batches:
    if config.data.batch > len(data.train_x):
        raise InputError(
            f"config.data.batch={config.data.batch} is more than all {len(data.train_x)} examples "
            f"of {data.name}"
        )
    return Batches(
        data.train_x,
        data.train_y,
        workers=count,
        classes=data.classes,
        of=own,
        batch=config.data.batch,
        local_steps=config.local_steps,
        seed=seed,
        split=config.data.split,
        skew=config.data.skew if count > 1 else 0.0,
    )
