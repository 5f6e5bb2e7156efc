"""Workers that fail on purpose, replayed exactly from a seed.

A plan is text, its parts separated by semicolons::

    drop:2@5      worker 2 does not take part in round 5 (@5-9: in rounds 5 to 9; @5-: from then on)
    drop:25%      every worker misses every round with this chance
    nan:0@7       a number in worker 0's data of round 7 is not one (nan:1%, as above)
    slow:3x4      worker 3 takes four times as long, in every round
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError

_PART = re.compile(
    r"(?P<kind>drop|nan):(?:(?P<worker>N)@(?P<first>N)(?P<range>-(?P<last>N)?)?"
    r"|(?P<chance>N(?:\.N)?)%)|slow:(?P<slow>N)x(?P<times>N(?:\.N)?)".replace("N", "[0-9]{1,9}")
)
_FAULTS = 3  # what the seed is used for; 1 and 2 are the batches'


class Faults(NamedTuple):
    """Of one round: who misses it, whose data is spoilt, and how many times as long each takes."""

    dropped: np.ndarray  # bool[S]
    spoilt: np.ndarray  # bool[S]
    slowness: np.ndarray  # float[S], 1 and more


def parse(text: str, workers: int, seed: int) -> Callable[[int], Faults]:
    """The faults of a round. Workers that are not there do not fail.

    Raises:
      InputError: a part that cannot be understood, a chance above 100 %, a factor below one.
    """
    parts = [_parse(part.strip()) for part in text.split(";") if part.strip()]

    return functools.partial(_of_round, parts, workers, seed)


def _of_round(parts: list[dict[str, Any]], workers: int, seed: int, now: int) -> Faults:
    faults = Faults(np.zeros(workers, bool), np.zeros(workers, bool), np.ones(workers))
    for number, part in enumerate(parts):
        if part["slow"]:
            if int(part["slow"]) < workers:
                faults.slowness[int(part["slow"])] = float(part["times"])
            continue
        hit = faults.dropped if part["kind"] == "drop" else faults.spoilt
        if part["chance"]:
            draw = np.random.default_rng((seed, _FAULTS, number, now))
            hit |= draw.random(workers) < float(part["chance"]) / 100
        elif int(part["worker"]) < workers:
            first = int(part["first"])
            last = int(part["last"] or np.iinfo(np.int64).max) if part["range"] else first
            hit[int(part["worker"])] |= first <= now <= last
    return faults


def _parse(part: str) -> dict[str, Any]:
    found = _PART.fullmatch(part)
    part = part[:40]
    if found is None:
        raise InputError(
            f"faults: what is {part!r}? Parts look like drop:2@5, drop:2@5-9, drop:25%, nan:0@7 or "
            "slow:3x4, separated by semicolons"
        )
    if float(found["chance"] or 0) > 100:
        raise InputError(f"faults: a chance is at most 100 %, found {part!r}")
    if float(found["times"] or 1) < 1:
        raise InputError(f"faults: slow takes a factor of 1 or more, found {part!r}")
    return found.groupdict()
