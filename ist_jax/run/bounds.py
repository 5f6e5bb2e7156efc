"""How large and how small the numbers of a config may be, by key.

A key without a bound of its own takes numbers from 0 on. Whole numbers end where int32 does, which
JAX counts in; others stay where float32 still tells them from 0 and from infinity.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

INT32 = 2**31 - 1
SMALL, LARGE = 1e-30, 1e30


class Bound(NamedTuple):
    """``least`` to ``most``; with ``above`` the least itself is left out, with ``below`` the most.

    Without ``most`` there is only the end of the type.
    """

    least: float = 0
    most: float | None = None
    above: bool = False
    below: bool = False

    @property
    def in_words(self) -> str:
        if self.most is None:
            return "positive" if self.above else f"at least {self.least}"
        ends = f"above {self.least}" if self.above else f"from {self.least}"
        last = "and below" if self.below else "and at most" if self.above else "to"
        return f"{ends} {last} {self.most}"

    def holds(self, value: int | float) -> bool:
        low = value > self.least if self.above else value >= self.least
        most = math.inf if self.most is None else self.most
        return low and (value < most if self.below else value <= most)


FROM_0, FROM_1, POSITIVE = Bound(0), Bound(1), Bound(0, above=True)
SHARE = Bound(0, 1, above=True, below=True)
SEED = Bound(0, 2**32 - 1)  # jax.random.key takes the last 32 bits: others would be one of these
SIZE = Bound(1, 2**16)  # of what arrays of arrays are made
TRAINING: Mapping[str, Bound] = {
    "seeds": SEED,
    "workers": SIZE,
    "local_steps": FROM_1,
    "rounds": FROM_1,
    "eval_every": FROM_1,
    "statistics_examples": Bound(256),
    "top": FROM_1,
    "method_options.ist.shares": POSITIVE,
    "method_options.ensemble.shares": POSITIVE,
    "data.batch": FROM_1,
    "data.validation": Bound(0, 1, below=True),
    "data.validation_seed": SEED,
    "data.options.clusters": FROM_1,
    "data.options.clips": FROM_1,
    "data.options.most_features": FROM_1,
    "data.options.size": SIZE,
    "data.options.seed": SEED,
    "model.widths": FROM_1,
    "model.options.base": FROM_1,
    "model.options.blocks": FROM_1,
    "model.options.stages": FROM_1,
    "model.options.heads": FROM_1,
    "model.options.drop": Bound(0, 1, below=True),
    "model.options.drop_inputs": Bound(0, 1, below=True),
    "model.options.drop_hidden": Bound(0, 1, below=True),
    "optimizer.lr": POSITIVE,
    "optimizer.momentum": Bound(0, 1, below=True),
    "lottery.pruned": SHARE,
    "lottery.epochs": POSITIVE,
    "lottery.lr": POSITIVE,
    "task.options.block": FROM_1,
    "task.options.propensity": Bound(0, 100, above=True),
    "mesh.workers": Bound(0, 4096),
    "mesh.data": Bound(1, 4096),
    "mesh.message_kb": Bound(0, 1 << 20),
    "checkpoint.last": FROM_1,
}
FIGURES: Mapping[str, Bound] = {
    "seed": SEED,
    "heterogeneities": Bound(0, 1),
    "condition": FROM_1,
    "spread": FROM_1,
    "share_of_largest": Bound(0, 1, above=True),
    "xi": Bound(0, 1, above=True),
    "sweep.xi": Bound(0, 1, above=True),
    **dict.fromkeys(
        ("workers", "sweep.workers", "dimension", "examples", "width", "sweep.width"), SIZE
    ),
    "kernel_widths": SIZE,
}
ANY = Bound(-LARGE)
