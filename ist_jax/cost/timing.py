"""How long a round takes: a worker's arithmetic, its bytes over its link, a wait for each message.

Every worker is a machine of its own, with one link that carries the same both ways. Then

    seconds = J * (seconds of a local step) + bytes received / rate + waits * 2 * latency

where a chunk of the exchange waits once for each of its messages, and a ring of n machines
2 (n - 1) times for an all-reduce, n - 1 times for an all-gather. A wait is there and back: gloo
sends when the receiver has said that it is ready. Bytes are those of ``wire.received``. It is a
lower bound: measured rounds took 1.1 to 1.3 times as long, and with codes, whose arithmetic is not
in it, 1.4 to 2.9 times (docs/results/resist.md).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from ist_jax import compress, partition
from ist_jax.axes import Net
from ist_jax.compress import Code
from ist_jax.core.keys import fold
from ist_jax.cost import wire
from ist_jax.method import Method, sends
from ist_jax.optimizer_state.carried import Carried
from ist_jax.partition import Context
from ist_jax.sharded import layout
from ist_jax.sharded.leaf_layout import WAYS

DRAWS = 4  # to average over, where messages depend on the draw


class Exchanged(NamedTuple):
    """What a worker that is a machine of its own receives in a round, on average."""

    bytes_received: float
    waits: float


class Link(NamedTuple):
    """A machine's link: bytes per second each way, and seconds until a packet is there."""

    rate: float
    latency: float = 0.0

    def seconds(self, compute: float, exchanged: Exchanged) -> float:
        """A round's, with ``compute`` seconds of local steps."""
        return compute + exchanged.bytes_received / self.rate + 2 * exchanged.waits * self.latency


def exchanged(
    net: Net,
    everything: Carried,
    method: Method,
    workers: int,
    steps: int,
    external: Mapping[str, int] | None = None,
    code: Code | None = None,
    message_bytes: int | None = None,
) -> Exchanged:
    """What a method's round of ``steps`` local steps moves.

    Args:
      everything: the net with what is carried of its optimizers' states.
      external, code, message_bytes: as for ``ist_jax.build``.
    """
    if workers == 1:
        return Exchanged(0.0, 0.0)
    external = external or {}
    widths = {group: n for group, n in net.widths.items() if group not in external}
    key = fold(jax.random.key(0), "draw")
    draw = jax.jit(
        lambda number, before: method.draw(key, Context(widths, workers, number, before))
    )
    slots = partition.slot_counts(method.draw, widths, workers) | dict(external)
    sent_in = code if sends(method, workers) else None
    spread = layout.spread_out(
        everything.net,
        slots=slots,
        external=external,
        workers=workers,
        devices=workers,
        disjoint=method.disjoint,
        exact=False,
        codes=compress.of_leaves(sent_in, net.leaves, slots, method.disjoint),
        message=message_bytes,
        roles=everything.roles,
    )
    ring = workers - 1
    if method.exchange == "step":
        nbytes = wire.received(spread, {}, gradients=len(net.leaves), steps=steps)
        return Exchanged(nbytes, 2 * ring * steps + ring)
    found = []
    assignment = draw(0, None)
    for number in range(1, DRAWS + 1):
        after = draw(number, assignment)
        chunks = wire.chunks(spread, assignment, after)
        transfers = [j for way in WAYS for j in spread.transfers(way)]
        waits = ring + sum(chunks[j.name] * len(j.messages) for j in transfers)
        waits += sum(swap.times for way in WAYS for swap in spread.swaps(way))
        whole = [leaf for leaf in spread.leaves if leaf.trained and not leaf.split]
        waits += 2 * ring * len({leaf.dtype for leaf in whole if leaf.code is None})
        waits += (1 + ring) * wire.messages_in_codes(whole, spread)
        nbytes = wire.received(spread, chunks, external=sum(external.values()))
        found.append((nbytes, waits))
        assignment = after
    nbytes, waits = np.mean(found, axis=0)
    return Exchanged(float(nbytes), float(waits))
