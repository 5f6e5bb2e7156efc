"""How figures look: the color and the marker of a method, the axes that there are.

A method looks alike in every figure. The colors are apart also for eyes that do not tell red from
green (`tests/test_curves.py` asks three models of such eyes), and markers differ besides.
"""

import difflib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ist_jax.core.errors import InputError


class Look(NamedTuple):
    """Of a method: a color as ``#rrggbb``, and a marker of matplotlib."""

    color: str
    marker: str


class Axis(NamedTuple):
    """What accuracy is drawn against: a key of a metrics line, what it says, its unit."""

    key: str
    label: str
    unit: str = ""  # behind a prefix, as 10 MB


METHODS = {
    "ist": Look("#0072b2", "o"),
    "local_sgd": Look("#e69f00", "s"),
    "data_parallel": Look("#009e73", "v"),
    "ensemble": Look("#d55e00", "^"),
    "single": Look("#000000", "P"),
    "dense_subnet": Look("#cc79a7", "D"),
    "diloco": Look("#8825dc", "8"),
    "rotate": Look("#644e25", "x"),
    "dense_local_sgd": Look("#afd480", "+"),
    "dense_diloco": Look("#e0c1b9", "1"),
    "dense_ensemble": Look("#2e2a17", "2"),
    "resist": Look("#56b4e9", "p"),
    "loft": Look("#332288", "X"),
    "shallow_ensemble": Look("#882255", "<"),
}
OTHERS = ("#7f7f7f", "#999933", "#aa4499", "#8c564b")
MARKERS = ("h", "*", ">", "d", "H")
LINES = ("-", "--", ":", "-.")  # of folders in one panel
AXES = {
    "steps": Axis("step", "gradient steps of a worker"),
    "bytes": Axis("comm/bytes_sent", "sent by a worker", "B"),
    "seconds": Axis("time/train_s", "training time", "s"),
    "flops": Axis("compute/flops", "FLOPs of a worker"),
}


def look(method: str) -> Look:
    """A method's look; that of an unknown one follows from its name alone."""
    if method in METHODS:
        return METHODS[method]
    number = zlib.crc32(method.encode())
    return Look(OTHERS[number % len(OTHERS)], MARKERS[number // len(OTHERS) % len(MARKERS)])


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Names of axes, if they are.

    Raises:
      InputError: a name that is not in ``AXES``, none at all, or one twice.
    """
    for name in names:
        if name not in AXES:
            close = difflib.get_close_matches(name, AXES, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"a figure is against {', '.join(AXES)}, one or several; found {name!r}{hint}"
            )
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"a figure is against {', '.join(AXES)}, each at most once; found {','.join(names)!r}"
        )
    return tuple(names)
