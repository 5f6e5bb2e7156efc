"""What goes in a message: which leaves together, in what units, and how many of them.

Lists of neurons have no fixed length, messages do. A *chunk* carries ``capacity`` units of what
every pair of devices has to send, and there are as many chunks as the longest list needs: no list
can be too long, none is cut short.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

LEAST_BYTES = float(1 << 16)  # to each other device, unless there is less
MOST_BYTES = 3 << 17  # to all of them together, at a time
CHUNKS, FEWEST = (
    32,
    8,
)  # in which an even share is sent, within those bounds; where one is asked for
ALONE, TOGETHER = 2, 8  # messages that a group fills alone; that groups fill together, about
UNIT_COST = 64  # bytes that a unit costs beside its own
PARTS = (1, *(n << k for k in range(14) for n in (2, 3)))  # in which a row may go


class Message(NamedTuple):
    """What a device sends to each other one in a chunk, of one type of number."""

    size: int  # elements
    itemsize: int  # bytes of each


class Rows(NamedTuple):
    """Leaves of a transfer with rows of one group; each row goes as so many ``units``."""

    group: str
    leaves: list[int]
    units: int


class Transfer(NamedTuple):
    """Leaves that go the same way in one message.

    Attributes:
      name: of the way (``WAYS``) and the groups.
      groups: of which they have rows. Where there are several, all rows go in units of one length,
        so that they fill messages one after another.
      unit: elements of a unit, for each type of number.
      capacity: units that a chunk carries from each device to each.
      workers: S.
    """

    name: str
    groups: list[Rows]
    unit: dict[Any, int]
    capacity: int
    workers: int

    @property
    def leaves(self) -> list[int]:
        """Their numbers."""
        return [number for rows in self.groups for number in rows.leaves]

    @property
    def messages(self) -> list[Message]:
        """How they go in a chunk: one message for each type of number."""
        return [Message(self.capacity * n, dtype.itemsize) for dtype, n in self.unit.items()]


class Swap(NamedTuple):
    """Slices of one type, as they go to their holders or back: a message of ``size`` elements of
    ``itemsize`` bytes from each device to each other, so many ``times``."""

    name: str
    leaves: list[int]
    times: int
    size: int
    itemsize: int


def row_bytes(row: Mapping[Any, int]) -> int:
    """Of so many elements of each type of number."""
    return sum(n * dtype.itemsize for dtype, n in row.items())


def units(
    rows: Mapping[str, Mapping[Any, int]], slots: Mapping[str, int]
) -> tuple[dict[str, int], dict[Any, int]]:
    """In how many units each group's rows go, and a unit's elements, for each type of number.

    A unit is as long for all. The last of a row may be padding; short units have less of it, and
    there are more of them.

    Args:
      rows: elements of a row of each group, for each type of number.
      slots: how many such rows there are.
    """
    dtypes = sorted({dtype for row in rows.values() for dtype in row}, key=str)

    def split(length: int) -> tuple[int, dict[str, int], dict[Any, int]]:
        counts = {group: -(-row_bytes(row) // length) for group, row in rows.items()}
        unit = {d: max(-(-rows[g].get(d, 0) // counts[g]) for g in rows) for d in dtypes}
        every = sum(slots[group] * counts[group] for group in rows)
        return every * (row_bytes(unit) + UNIT_COST), counts, unit

    parts = PARTS if len(rows) > 1 else (1,)
    lengths = {-(-row_bytes(row) // n) for row in rows.values() for n in parts}
    _, counts, unit = min(map(split, sorted(lengths, reverse=True)), key=lambda found: found[0])
    return counts, unit


def message_bytes(share: float, devices: int, asked: int | None) -> float:
    """How long a message to each other device is to be, where an even share is so long.

    A link that is slow wants little under way at a time, for what comes back waits behind it; one
    that is long (``asked``, bytes to all others together) wants few messages.
    """
    chunks = FEWEST if asked else CHUNKS  # lists are longer than a share: one would mean two
    return min(max(share / chunks, LEAST_BYTES), longest(devices, asked))


def longest(devices: int, asked: int | None) -> float:
    """How long a message to each other device may be."""
    others = max(devices - 1, 1)
    return asked / others if asked else max(LEAST_BYTES, MOST_BYTES / others)


def bundles(shares: Mapping[str, float], message: float) -> list[list[str]]:
    """Which groups' rows go together, of even shares in bytes.

    One that fills several messages goes alone, for others would have to be copied to go with it.
    Others wait for each other only until they fill a few, since as much memory is needed.
    """
    alone = [[group] for group, share in shares.items() if share >= ALONE * message]
    together: list[list[str]] = []
    filled = TOGETHER * message
    for group, share in shares.items():
        if share < ALONE * message:
            if filled >= TOGETHER * message:
                together.append([])
                filled = 0
            together[-1].append(group)
            filled += share
    return alone + together


def capacity(share: float, unit_bytes: int, message: float) -> int:
    """Units in a message of about so many bytes, at most all of an even share.

    Of the numbers down to half of that, the one whose multiple fits the share best.
    """
    most = min(share, message / max(unit_bytes, 1))
    fits = lambda c: (-(-share // c) * c, -c)
    return int(min(range(max(1, math.ceil(most / 2)), max(1, math.ceil(most)) + 1), key=fits))
