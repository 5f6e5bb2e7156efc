"""A profile of some rounds, as JAX writes it: every operation of every device, with its times.

XProf, TensorBoard's profile plugin and Perfetto read it. What the local steps take is there under
``local_steps``, the exchange under the names of its transfers.
"""

import contextlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ist_jax.core.errors import InputError

FOLDER = "profile"  # of a run folder


class Span(NamedTuple):
    """Rounds from ``first`` to ``last``, both included, counted from 0."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def span(text: str) -> Span:
    """The rounds that a flag names.

    Raises:
      ValueError: it names none.
    """
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text, re.ASCII)
    if found is None:
        raise ValueError(f"rounds look like 5-7, or 5, found {text!r}")
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    if last < first:
        raise ValueError(f"rounds look like 5-7, the first one first, found {text!r}")
    return Span(first, last)


def check(wanted: Span | None, rounds: int) -> None:
    """Rounds that there will not be.

    Raises:
      InputError: naming the last one that there is.
    """
    if wanted and wanted.last >= rounds:
        raise InputError(
            f"--profile={wanted}: of {rounds} rounds, counted from 0, the last is {rounds - 1}"
        )


Advance = Callable[..., Any]  # (job, state, number, ...) to what is to be waited for


@contextlib.contextmanager
def tracing(wanted: Span | None, folder: pathlib.Path) -> Iterator[Callable[[Advance], Advance]]:
    """Traces the wanted rounds of a run into the folder.

    Returns:
      what makes of a function that trains a round one that also begins and ends the trace.
    """
    if wanted is None:
        yield lambda advance: advance
        return
    import jax

    running = traced = False

    def of(advance: Advance) -> Advance:
        def annotated(job: Any, state: Any, number: int, *rest: Any) -> Any:
            nonlocal running, traced
            if wanted.first <= number <= wanted.last and not running:
                jax.block_until_ready(state)  # of rounds before
                jax.profiler.start_trace(folder)
                running = traced = True
            with jax.profiler.StepTraceAnnotation("round", step_num=number):
                result = advance(job, state, number, *rest)
            if number == wanted.last:
                jax.block_until_ready(result[0])
                running = False
                jax.profiler.stop_trace()
            return result

        return annotated

    try:
        yield of
    finally:
        if running:
            jax.profiler.stop_trace()
    if not traced:
        text = f"warning: nothing is profiled: this run went on after round {wanted.last}"
        print(text, file=sys.stderr)
