"""How a figure is scaled: every point that was measured is in sight, and curves that differ differ.

Where the first rounds would flatten the rest, the part of the y axis that only they need is
squeezed into an eighth of the height; it is gray, and says so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ist_jax.run.looks import Axis

SQUEEZED = 0.13  # of the height


class Limits(NamedTuple):
    """Of a y axis: both ends, the least value, and the value below which it is squeezed.

    Where nothing is squeezed, ``knee`` is ``bottom``.
    """

    bottom: float
    least: float
    knee: float
    top: float


def limits(lows: Sequence[np.ndarray], highs: Sequence[np.ndarray]) -> Limits:
    """The y axis for curves, whose bands have these lower and upper edges.

    Of each curve at most the lowest tenth of its points, but at least one of several, is squeezed;
    and only where showing these on the same scale would take more than half of the height.
    """
    low, high = min(map(np.min, lows)), max(map(np.max, highs))
    rest = min(np.sort(edge)[min(max(1, len(edge) // 10), len(edge) - 1)] for edge in lows)
    squeeze = high - low > 2 * max(high - rest, 1.0)
    spread = max(high - (rest if squeeze else low), 1.0)
    knee, top = (rest if squeeze else low) - 0.06 * spread, high + 0.06 * spread
    bottom = low - 0.5 * (knee - low) if squeeze else knee
    return Limits(float(bottom), float(low), float(knee), float(top))


def wants_log(ends: Sequence[float]) -> bool:
    """Whether some curve would end within the first tenth of an axis from 0 on."""
    positive = [end for end in ends if end > 0]
    return bool(positive and max(positive) > 10 * min(positive))


def scale_x(panel: Any, axis: Axis, places: np.ndarray, logarithmic: bool, ticks: int) -> None:
    """The x axis: wide enough for these places, its label, at most about so many ticks."""
    from matplotlib import ticker

    low, high = (places.min(), places.max()) if len(places) else (1.0, 1.0)
    if logarithmic:
        panel.set_xscale("log")
        within = (1.0,) if high > 50 * low else (1.0, 3.0)  # of each power of ten
        panel.xaxis.set_major_locator(ticker.LogLocator(subs=within, numticks=ticks))
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        margin = max(high / low, 1.2) ** 0.05
        panel.set_xlim(low / margin, high * margin)
    else:
        margin = 0.05 * (high - low or abs(high) or 1.0)
        panel.xaxis.set_major_locator(ticker.MaxNLocator(ticks - 1))
        panel.set_xlim(low - margin, high + margin)
    panel.xaxis.set_major_formatter(ticker.EngFormatter(axis.unit))
    panel.set_xlabel(axis.label)


def scale_y(panel: Any, ends: Limits, ticks: int) -> None:
    """The y axis, squeezed where its limits say so."""
    from matplotlib import ticker

    bottom, least, knee, top = ends
    if bottom < knee:
        slope = SQUEEZED / (1 - SQUEEZED) * (top - knee) / (knee - bottom)
        squeeze = lambda y: np.where(y < knee, knee + (y - knee) * slope, y)
        stretch = lambda y: np.where(y < knee, knee + (y - knee) / slope, y)
        panel.set_yscale("function", functions=(squeeze, stretch))
        panel.axhspan(bottom, knee, color="0.9", zorder=0, linewidth=0)
        look = {"fontsize": 8, "color": "0.35", "ha": "right", "va": "center"}
        panel.text(0.99, SQUEEZED / 2, "not to scale", transform=panel.transAxes, **look)
    above = ticker.MaxNLocator(ticks).tick_values(knee, top)
    lowest = [round(least)] if bottom < knee else []
    marks = [*lowest, *(mark for mark in above if knee <= mark <= top)]
    panel.yaxis.set_major_locator(ticker.FixedLocator(marks))
    panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    panel.set_ylim(bottom, top)
