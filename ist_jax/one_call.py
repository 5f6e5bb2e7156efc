"""One call: a model, data and a method in, a trained net out.

``fit`` is a thin story over ``ist_jax.build``: the model is made ready (``models.frameworks``),
what is learnt follows from the labels (``tasks.supervised``), and the rounds are those of the
command line (``run.loop``). ``load`` gives what the command line has trained. Both give a ``Run``.
"""

import contextlib
import inspect
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from ist_jax import named
from ist_jax.core import paths
from ist_jax.core.errors import InputError
from ist_jax.method import Method
from ist_jax.models import frameworks
from ist_jax.run import fitting, job, saved_run
from ist_jax.run.job import Job
from ist_jax.run.tasks import labelled, own, theirs
from ist_jax.run.trained import Run
from ist_jax.sharded import placement

PyTree = Any
Line = dict[str, Any]


def fit(
    model: Any,
    train: Any,
    test: Any = None,
    *,
    method: str | Method = "ist",
    workers: int = 4,
    rounds: int = 60,
    local_steps: int = 8,
    batch: int = 32,
    optimizer: optax.GradientTransformation | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    widths: Mapping[str, int] | None = None,
    normalise: str | None = None,
    sequences: Collection[str] = (),
    took_part: Callable[[int], Any] | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    workdir: str | pathlib.Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callable[[Line], Any]] = (),
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Trains a model with S workers, and gives the whole net back.

    Args:
      model: a module of Flax Linen or NNX with an attribute ``widths``; or a function
        ``make(widths)`` that returns ``(init, apply)`` of any framework (``models.functions``).
      train: ``(x [n, ...], y [n, ...])``, a data set of ``ist_jax.data``, or a function
        ``(worker, step) -> {"x": [B, ...], "y": [B, ...]}``.
      test: ``(x, y)`` to measure on; a data set brings its own.
      method: a name, or a ``Method``.
      workers, rounds, local_steps, batch: S; how often they exchange; J, steps between two
        exchanges; B, examples of a worker in a step (a function's own say it).
      optimizer: of every worker, any of optax; ``optax.sgd(0.1)`` if None.
      loss: ``(outputs [B, ...], labels [B, ...]) -> `` number, or ``[B]``. If None it follows from
        the labels (``tasks.supervised``).
      widths: neurons of each group, ``{"hidden0": 1024}``, if ``model`` is a function.
      normalise: ``"standardise"``, ``"scale"`` or ``"none"``, for a model that takes it; as the
        model does if None.
      sequences: groups whose members have an order, as the blocks of a stage.
      took_part: ``number of a round -> bool[S]``; the others are as if they were not there.
      seed: of the first net, the draws and the batches.
      mesh: devices (``ist_jax.mesh``); one if None.
      workdir: a run folder, for checkpoints and metrics; nothing is written if None. ``resume``
        goes on with the run in it, ``overwrite`` replaces it.
      callbacks: each is called with every line of metrics, a dict.
      progress: show how far it is.
      settings: more keys of a config's top level (``run.schema``): ``eval_every``,
        ``optimizer_state``, ``compress``, ``faults``, ``on_worker_failure``, ``on_nonfinite``,
        ``warm_up``; and ``split``, ``skew`` of the data.

    Raises:
      InputError: what does not fit together, in one line: a leaf, an argument, an example.

    Example::

        run = ist_jax.fit(MLP({"hidden0": 256}, classes=10), (x, y), (test_x, test_y), workers=4)
        run.predict(x[:1]).argmax(-1)
    """
    settings |= {"workers": workers, "rounds": rounds, "local_steps": local_steps}
    tell = lambda line: [callback(line) for callback in callbacks]
    with _in_words_of_arguments():
        how = named.find(method) if isinstance(method, str) else method
        config = fitting.config(how, seed, batch, settings, inspect.signature(fit).parameters)
        if optimizer is not None and not hasattr(optimizer, "update"):
            raise InputError(f"optimizer must be one of optax, optax.adam(1e-3), found {optimizer}")
        count = how.workers or workers
        given = own.examples(config, train, test, count, took_part)
        net = own.narrow(frameworks.of(model, given.x[:1], widths, normalise), how, workers)
        kind = own.kind_of(how, net, given, loss)
        devices = mesh or placement.mesh(count, jax.local_devices()[:1])

        def make(how: Method) -> Job:
            task = own.task(how, count, net, kind, given)
            return job.make(config, task, how, optimizer or optax.sgd(0.1), devices, {})

        made = job.with_warm_up(config, make, how, rounds)
        theirs.check_order(made, given.x, sequences)
        if workdir is None:
            state, lines = fitting.in_memory(config, made, tell, progress, resume)
        else:
            example = labelled.shapes(given.x, given.y, given.batch)
            config.task.options = {"loss_and_optimizer": fitting.digest(made.trainer.plan, example)}
            where = given.about, paths.expanded(str(workdir), "workdir"), overwrite, resume
            state, lines = fitting.in_folder(config, made, tell, progress, *where)
    found = made.trainer.whole(state).params, made.statistics(state)
    takes, together = (given.x.shape[1:], given.x.dtype), labelled.at_once(made.whole, given.x[:1])
    of = how.name, seed, made.whole, lambda: found, lines, takes, together
    return Run(*of, made.trainer, state)


def load(
    folder: str | pathlib.Path,
    method: str | None = None,
    seed: int | None = None,
    *,
    allow_code: bool = False,
) -> Run:
    """What the command line has trained, read from its run folder; no data are needed.

    Args:
      folder: of a finished run.
      method, seed: which of its runs; may be left out if there is one.
      allow_code: a model or method of somebody's own (``"module:function"`` in the config) is
        imported, that is, run. Without it such a folder is refused.

    Raises:
      InputError: no run, one that is not finished or still going, no such method or seed.

    Example::

        run = ist_jax.load("runs/quickstart", method="ist", seed=0)
        run.predict(x).argmax(-1)
    """
    return saved_run.read(paths.expanded(str(folder), "folder"), method, seed, allow_code)


@contextlib.contextmanager
def _in_words_of_arguments() -> Iterator[None]:
    """What is wrong with a key of a config, or a flag, said of the argument of that name."""
    try:
        yield
    except InputError as error:
        text = re.sub(r"\bconfig\.(?:\w+\.)*(\w+)", r"\1", str(error))
        raise InputError(re.sub(r"--(\w+)", r"\1", text)) from error.__cause__
