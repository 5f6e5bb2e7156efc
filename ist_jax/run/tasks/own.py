"""A model and examples of one's own: what ``ist_jax.fit`` learns."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ist_jax import axes, named, partition
from ist_jax.core.errors import InputError
from ist_jax.data import arrays, held_out
from ist_jax.data.dataset import Dataset
from ist_jax.method import Method
from ist_jax.run import schema
from ist_jax.run.job import Compiled, OfNet, Task
from ist_jax.run.tasks import labelled
from ist_jax.run.tasks import task as parts
from ist_jax.tasks import supervised
from ist_jax.tasks.supervised import Kind

Present = Callable[[int], Any]


class Examples(NamedTuple):
    """What is learnt from, and measured on.

    Attributes:
      x, y: some training examples, for shapes and for the statistics of the whole net.
      batches: of a seed and the workers wanted.
      batch: B, examples in each.
      about: the data set; its test examples are measured on, if there are any.
    """

    x: Any
    y: Any
    batches: Callable[[int, Sequence[int]], Any]
    batch: int
    about: Dataset


def examples(
    config: ConfigDict, train: Any, test: Any, count: int, present: Present | None
) -> Examples:
    """Of a data set, arrays ``(x, y)``, or a function of (worker, step).

    Args:
      present: who takes part in a round, ``number -> bool[S]``; everyone if None.

    Raises:
      InputError: as ``arrays.dataset`` and ``Batches``.
    """
    of = _of_function if callable(train) else _of_arrays
    given = of(config, train, test, count)
    if present is None:
        return given
    config.on_worker_failure = "drop"
    return given._replace(batches=lambda seed, own: TookPart(given.batches(seed, own), present))


def _of_arrays(config: ConfigDict, train: Any, test: Any, count: int) -> Examples:
    data = train
    if not isinstance(train, Dataset):
        data = arrays.dataset(train, test)
    elif test is not None:
        test_x, test_y = arrays.dataset(test)[1:3]
        data = train._replace(test_x=test_x, test_y=test_y, sha256="").checked()
    some = labelled.some(data.train_x, config.statistics_examples)
    batches = lambda seed, own: parts.batches(config, data, count, seed, own)
    return Examples(data.train_x[some], data.train_y[some], batches, config.data.batch, data)


def _of_function(config: ConfigDict, draw: Any, test: Any, count: int) -> Examples:
    if config.data.skew or config.data.split != schema.default().data.split:
        raise InputError(
            "split and skew are for arrays: a function of (worker, step) decides itself what each "
            "worker is given"
        )
    first = arrays.drawn(draw, 0, 0)
    wanted = -(-config.statistics_examples // (count * len(first["x"])))
    steps = min(wanted, config.rounds * config.local_steps)  # it may have no more
    some = [arrays.drawn(draw, worker, step) for step in range(steps) for worker in range(count)]
    x, y = (np.concatenate([one[name] for one in some]) for name in ("x", "y"))
    data = arrays.dataset((x, y), test)._replace(name="function")
    batches = lambda seed, own: arrays.FromFunction(draw, config.local_steps, own)
    return Examples(x, y, batches, len(first["x"]), data)


class TookPart:
    """Batches of which some workers' are as if they could not be read: those do not take part.

    Args:
      batches: of the workers wanted.
      present: ``number of the round -> bool[S]``.
    """

    def __init__(self, batches: Any, present: Present):
        self._batches, self._present = batches, present
        self.local_steps, self.of = batches.local_steps, batches.of

    def __call__(self, number: int, lost: dict[int, str]) -> dict[str, Any]:
        """As ``Batches``; ``lost`` takes those who do not take part."""
        present = np.asarray(self._present(number))
        if present.dtype != bool or present.shape != (len(self.of),):
            raise InputError(
                f"took_part({number}) must be bool[{len(self.of)}], found {present.dtype}"
                f"{list(present.shape)}"
            )
        lost |= {self.of[n]: "took_part" for n in np.flatnonzero(~present)}
        return self._batches(number, lost)


def narrow(model: Any, how: Method, workers: int) -> Any:
    """The net that a method is meant for: as it is, or as wide as a subnet."""
    if not how.meant.narrow:
        return model
    cut = named.find(how.meant.narrow).draw
    widths = partition.sub_widths(cut, dict(model.widths), workers)
    return model.clone(widths=widths)


def kind_of(how: Method, net: Any, given: Examples, loss: Callable[[Any, Any], Any] | None) -> Kind:
    """How outputs are judged: by a loss of one's own, or as the labels say.

    Of an ensemble of nets, whose outputs are logarithms of probabilities, these are classes.

    Raises:
      InputError: labels that are of no kind, or that the model's outputs do not fit.
    """
    if how.meant.members and (loss is not None or not np.issubdtype(given.y.dtype, np.integer)):
        raise InputError(f"{how.name}: its nets are asked together about classes, and nothing else")
    if loss is not None:
        return Kind(loss)
    kind = supervised.kind_of(given.y)

    def answer(key):
        rngs = {"params": key, "dropout": key}
        params = net.init(rngs, given.x[:1], train=True)
        return net.apply(axes.of(params)[0], given.x[: given.batch], train=True, rngs=rngs)

    outputs = jax.eval_shape(answer, jax.random.key(0))
    labels = np.concatenate([given.about.train_y, given.about.test_y])
    supervised.check_outputs(outputs.shape, labels)
    return kind


def task(how: Method, count: int, model: Any, kind: Kind, given: Examples) -> Task:
    """The task of ``count`` workers."""
    return labelled.task(
        how,
        count,
        model,
        functools.partial(supervised.loss_of, kind=kind),
        given.batches,
        given.x,
        labelled.shapes(given.x, given.y, given.batch),
        functools.partial(_measure, kind, given.about),
    )


def _measure(
    kind: Kind, data: Dataset, model: Any, statistics: OfNet, batch: int, compiled: Compiled
) -> OfNet:
    evaluate = supervised.measures(model, statistics, kind, batch, compiled)

    def measure(net):
        found = statistics(net)
        return {
            f"{name}/{part}": value
            for part, (x, y) in held_out.measured(data).items()
            if len(x)
            for name, value in evaluate(net, x, y, found).items()
        }

    return measure
