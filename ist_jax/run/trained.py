"""A trained net: asked, looked at and saved. ``ist_jax.fit`` and ``ist_jax.load`` give it."""

import functools
import io
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ist_jax import export
from ist_jax.core.errors import InputError
from ist_jax.data.extras import needed
from ist_jax.sharded.state import State
from ist_jax.trainer import Trainer

PyTree = Any
Line = dict[str, Any]


class Run:
    """What a method has trained.

    Attributes:
      method, seed: which run it is.
      model: the whole net's, with the interface of a Linen module.
      lines: the measurements, as in ``metrics.jsonl``.
      trainer, state: of a run that ``fit`` trained, to go on with; None of one that was loaded.
    """

    def __init__(
        self,
        method: str,
        seed: int,
        model: Any,
        net: Callable[[], tuple[PyTree, PyTree]],
        lines: list[Line],
        example: tuple[tuple[int, ...], Any] | None,
        batch: int = 2000,
        trainer: Trainer | None = None,
        state: State | None = None,
    ):
        """Args:
        net: gives the parameters and the statistics, when they are first asked for.
        example: shape and dtype of one input, if known.
        batch: inputs that are asked about together.
        """
        self.method, self.seed, self.model, self.lines = method, seed, model, lines
        self.trainer, self.state = trainer, state
        self._load, self._example, self._batch = net, example, batch

    @functools.cached_property
    def _net(self) -> tuple[PyTree, PyTree]:
        return self._load()

    @property
    def params(self) -> PyTree:
        """The whole net's, as its model takes them: ``model.apply(run.params, ...)`` of Linen,
        the tree that ``init`` gave of a function."""
        own = getattr(self.model, "own", None)
        return self._net[0] if own is None else own(self._net[0])

    @property
    def statistics(self) -> PyTree:
        """Of training data, that the whole net is asked with; empty if it needs none."""
        return self._net[1]

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Every measure over the rounds: ``history["accuracy/test"]`` beside ``history["step"]``,
        ``["comm/bytes_sent"]``, ``["compute/flops"]``, ``["time/train_s"]``; NaN where absent."""
        keys = dict.fromkeys(key for line in self.lines for key in line)
        numbers = (int, float)
        return {
            key: np.array([line.get(key, np.nan) for line in self.lines])
            for key in keys
            if all(isinstance(line.get(key, 0), numbers) for line in self.lines)
        }

    def predict(self, x: Any) -> np.ndarray:
        """What the whole net says of inputs ``[n, ...]``: its outputs ``[n, ...]``, for classes the
        logits. An answer does not depend on what else is asked.

        Raises:
          InputError: inputs of another shape than it was trained on.
        """
        if self.model is None:
            raise InputError(
                "this net does not take arrays [n, ...]: of graphs and of many labels a run has "
                "params, history and plot"
            )
        x = np.asarray(x)
        if self._example is not None:
            shape, dtype = self._example
            if x.shape[1:] != tuple(shape) or not x.ndim:
                hint = "; one example needs an axis before it: x[None]" * (x.shape == tuple(shape))
                raise InputError(
                    f"the net takes inputs {['n', *shape]}, found {list(x.shape)}{hint}"
                )
            if not np.can_cast(x.dtype, dtype, "same_kind"):
                raise InputError(f"the net takes inputs of {np.dtype(dtype)}, found {x.dtype}")
            x = x.astype(dtype, copy=False)
        params, statistics = self._net
        if not len(x):
            return self.predict(np.zeros((1, *x.shape[1:]), x.dtype))[:0]
        starts = range(0, len(x), self._batch)
        parts = [self._answer(params, statistics, x[i : i + self._batch]) for i in starts]
        return np.concatenate([np.asarray(part) for part in parts])

    def plot(self, x: str = "steps") -> Any:
        """A figure of accuracy against ``"steps"``, ``"bytes"``, ``"seconds"`` or ``"flops"``.

        A notebook shows it; ``figure.savefig(path)`` writes it.

        Raises:
          InputError: another word; matplotlib is not installed; nothing was measured on test data.
        """
        with needed("commands"):
            from ist_jax.run import curves, looks

            drawn = curves.canvas({"": {(self.method, self.seed): self.lines}}, looks.checked([x]))
        drawn._repr_png_ = functools.partial(_png, drawn)  # what a notebook asks for
        return drawn

    def save(self, path: str | os.PathLike) -> None:
        """Writes the net: ``.npz`` or ``.safetensors`` (arrays), or ``.stablehlo`` (a program).

        ``docs/export.md`` says how each is read without this library.

        Raises:
          InputError: another suffix, a folder that is not there, a package that is missing.
          OSError: the disk is full, or fails.
        """
        params, statistics = self._net
        example = None
        if self._example is not None:
            shape, dtype = self._example
            example = jax.ShapeDtypeStruct((2, *shape), dtype)
        apply = self.model and functools.partial(self.model.apply, train=False)
        rounds = self.lines[-1]["round"] if self.lines else 0
        about = {"method": self.method, "seed": self.seed, "round": rounds}
        try:
            export.save(path, params, statistics, apply, example, about)
        except InputError:
            if os.path.splitext(path)[1] != ".stablehlo":
                raise
            one_by_one = functools.partial(_one_by_one, apply)  # the model asks how many there are
            export.save(path, params, statistics, one_by_one, example, about)

    @functools.cached_property
    def _answer(self) -> Callable[..., Any]:
        apply = self.model.apply
        return jax.jit(
            lambda params, statistics, x: apply({**params, **statistics}, x, train=False)
        )


def _one_by_one(apply: Callable[..., Any], variables: PyTree, x: Any) -> Any:
    return jax.vmap(lambda one: apply(variables, one[None])[0])(x)


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()
