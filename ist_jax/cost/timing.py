"""How long a round takes: a worker's arithmetic, its bytes over its link, a wait for each message.

Every worker is a machine of its own, with one link that carries the same both ways. Then

    seconds = J * (seconds of a local step) + bytes received / rate + waits * latency

where a pass of the exchange waits once for each of its messages, and a ring of n machines 2 (n - 1)
times for an all-reduce, n - 1 times for an all-gather. Bytes are those of ``traffic.wire``. It is a
lower bound: measured rounds took 1.1 to 1.6 times as long (docs/results/scaling.md).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ist_jax import axes, compress
from ist_jax.compress import Code
from ist_jax.core.keys import fold
from ist_jax.cost import traffic
from ist_jax.method import Method, sends
from ist_jax.optimizer_state.carry import Memory
from ist_jax.sharded import layout

PyTree = Any
DRAWS = 4  # to average over, where messages depend on the draw


class Exchanged(NamedTuple):
    """What a worker that is a machine of its own receives in a round, on average."""

    bytes_received: float
    waits: float


class Link(NamedTuple):
    """A machine's link: bytes per second each way, and seconds until a message is there."""

    rate: float
    latency: float = 0.0

    def seconds(self, compute: float, exchanged: Exchanged) -> float:
        """A round's, with ``compute`` seconds of local steps."""
        return compute + exchanged.bytes_received / self.rate + exchanged.waits * self.latency


def exchanged(
    params: PyTree,
    names: PyTree,
    method: Method,
    workers: int,
    memory: Memory,
    optimizer: optax.GradientTransformation,
    steps: int,
    given: Mapping[str, int] | None = None,
    code: Code | None = None,
) -> Exchanged:
    """What a method's round of ``steps`` local steps moves; ``params`` may be shapes.

    ``given``, ``code``: as for ``ist_jax.build``.
    """
    if workers == 1:
        return Exchanged(0.0, 0.0)
    slots = dict(given or {})
    widths = {g: n for g, n in axes.widths(params, names).items() if g not in slots}
    key = fold(jax.random.key(0), "draw")
    draw = jax.jit(lambda number, before: method.assign(key, widths, workers, number, before))
    rested = jax.eval_shape(lambda net: (net, memory.rest(optimizer.init(net))), params)
    spread = layout.plan(
        rested,
        (names, memory.names(params, names)),
        who=jax.eval_shape(lambda: draw(0, None)),
        given=slots,
        workers=workers,
        devices=workers,
        disjoint=method.disjoint,
        exact=False,
        codes=compress.of_leaves(code if sends(method, workers) else None, params),
    )
    ring = workers - 1
    if method.exchange == "step":
        nbytes = traffic.wire(spread, {}, gradient=params, steps=steps)
        return Exchanged(nbytes, 2 * ring * steps + ring)
    found = []
    who = draw(0, None)
    for number in range(1, DRAWS + 1):
        after = draw(number, who)
        passes = traffic.passes(spread, who, after)
        journeys = [j for way in ("out", "on", "back") for j in spread.journeys(way)]
        waits = ring + sum(passes[j.name] * len(j.messages) for j in journeys)
        shared = len({leaf.dtype for leaf in spread.leaves if not leaf.split})
        nbytes = traffic.wire(spread, passes, given=sum(slots.values()))
        found.append((nbytes, waits + 2 * ring * shared))
        who = after
    nbytes, waits = np.mean(found, axis=0)
    return Exchanged(float(nbytes), float(waits))
