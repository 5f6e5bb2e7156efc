"""The figure of run folders: accuracy, or bits for a byte, against steps, bytes, seconds, FLOPs."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.run import looks, scales
from ist_jax.run.report import METRICS, read
from ist_jax.run.seed_means import Curve, Runs, of

WIDTH, DPI = 8.0, 200  # inches; 1,600 pixels, which a page shows as 800
MOST_IN_A_PANEL = len(looks.LINES)  # folders; of more, each has a panel of its own


def draw(panel: Any, runs: Runs, x: str = "steps") -> None:
    """The curves of one folder in a panel; ``panel.legend()`` names them.

    Args:
      panel: axes of matplotlib.
      runs: lines of metrics by (method, seed).
      x: a name of ``looks.AXES``.

    Raises:
      InputError: there is no such axis.
    """
    looks.checked([x])
    curves = of(runs)
    paint(panel, curves, x)
    frame([panel], curves, x, y_limits(curves, [x]))
    panel.set_ylabel(_title(curves, "test"))


def paint(
    panel: Any,
    curves: Sequence[Curve],
    x: str,
    logarithmic: bool | None = None,
    line: str = "-",
    markers: int = 10,
) -> None:
    """Means as lines, and the range of the seeds as a band.

    Args:
      logarithmic: whether the axis is; by default, if these curves ask for it.
      line: the style of the lines.
      markers: how many a line has, about; few where styles tell lines apart.
    """
    if logarithmic is None:
        logarithmic = wants_log(curves, x)
    for curve in curves:
        color, marker = looks.look(curve.method)
        shown = curve.shown(x, logarithmic)
        at, low, mean, high = (v[shown] for v in (curve.x[x], curve.low, curve.mean, curve.high))
        if not len(at):
            continue
        every = max(1, len(at) // markers)
        panel.plot(
            at,
            mean,
            label=curve.method,
            color=color,
            linestyle=line,
            linewidth=1.5,
            marker=marker,
            markersize=4,
            markevery=((len(at) - 1) % every, every),  # so that the last point has one
        )
        panel.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        if len(at) == 1:
            panel.vlines(at, low, high, color=color, alpha=0.3, linewidth=4)


def wants_log(curves: Sequence[Curve], x: str) -> bool:
    """Whether these curves ask for a logarithmic axis."""
    return scales.wants_log([curve.x[x][-1] for curve in curves])


def y_limits(curves: Sequence[Curve], x: Sequence[str]) -> scales.Limits:
    """Limits for what these curves show on any of some axes."""
    shown = [
        (curve, np.any([curve.shown(name, wants_log(curves, name)) for name in x], axis=0))
        for curve in curves
    ]
    bands = [(curve.low[where], curve.high[where]) for curve, where in shown if where.any()]
    if not bands:
        bands = [(curve.low, curve.high) for curve in curves]
    return scales.limits([low for low, _ in bands], [high for _, high in bands])


def frame(
    panels: Sequence[Any], curves: Sequence[Curve], x: str, y: scales.Limits, ticks: int = 6
) -> None:
    """The same limits, ticks and labels for panels in which some of these curves are."""
    logarithmic = wants_log(curves, x)
    shown = [curve.x[x][curve.shown(x, logarithmic)] for curve in curves]
    places = np.concatenate(shown)
    for panel in panels:
        scales.scale_x(panel, looks.AXES[x], places, logarithmic, ticks)
        scales.scale_y(panel, y, ticks)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if not len(places):
            panel.set_xticks([])
            panel.text(0.5, 0.5, "nothing was sent", ha="center", transform=panel.transAxes)


def figure(
    folders: Sequence[pathlib.Path], out: pathlib.Path, x: Sequence[str] = ("steps", "bytes")
) -> pathlib.Path:
    """Writes the figure of run folders: a panel for each name in ``x``; bands span the seeds.

    Of more than four folders each has panels of its own, with axes in common.

    Raises:
      InputError: a folder without a run, a name that is no axis, a file that cannot be written.
    """
    names = looks.checked(x)
    if out.is_dir():
        raise InputError(f"cannot write the figure {out}: it is a folder; name a file in it")
    titles = _titles(folders)
    runs = {title: read(path / METRICS) for title, path in zip(titles, folders, strict=True)}
    drawn = canvas(runs, names)
    fresh = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        drawn.savefig(fresh, dpi=DPI)
        fresh.replace(out)  # at once: another command may write the same figure
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the figure {out}: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)
    return out


def _titles(folders: Sequence[pathlib.Path]) -> list[str]:
    """As much of their paths as tells folders apart."""
    parts = [path.absolute().parts for path in folders]
    for length in range(1, max(map(len, parts)) + 1):
        titles = ["/".join(path[-length:]) for path in parts]
        if len(set(titles)) == len(titles):
            return titles
    return [f"{number}: {path.name}" for number, path in enumerate(folders, start=1)]


def canvas(folders: Mapping[str, Runs], x: Sequence[str] = ("steps", "bytes")) -> Any:
    """The figure of matplotlib, for the runs of each folder by its title."""
    from matplotlib.figure import Figure  # a slow import that tables do not need

    found = {title: of(runs, title) for title, runs in folders.items()}
    if not any(found.values()):
        raise InputError("there is nothing to draw: test data gave neither accuracy nor bits")
    drawn = Figure(layout="constrained")
    if len(folders) > MOST_IN_A_PANEL:
        _apart(drawn, found, x)
    else:
        _together(drawn, found, x)
    _legend(drawn, found, x)
    return drawn


def _together(drawn: Any, found: Mapping[str, list[Curve]], x: Sequence[str]) -> None:
    """A panel for each axis, lines of a style for each folder."""
    columns = min(len(x), 2)
    rows = math.ceil(len(x) / columns)
    drawn.set_size_inches(WIDTH, 1 + 3 * rows)
    panels = drawn.subplots(rows, columns, squeeze=False)
    curves = [curve for some in found.values() for curve in some]
    for panel, name in zip(panels.flat, x, strict=False):
        for some, line in zip(found.values(), looks.LINES, strict=False):
            paint(panel, some, name, wants_log(curves, name), line, 10 if len(found) == 1 else 3)
        frame([panel], curves, name, y_limits(curves, x))
    for panel in panels.flat[len(x) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel(_title(curves, "test"))


def _apart(drawn: Any, found: Mapping[str, list[Curve]], x: Sequence[str]) -> None:
    """For each axis a panel for each folder; all have the same limits."""
    columns = 3 if len(found) <= 9 else 4
    rows = math.ceil(len(found) / columns)
    drawn.set_size_inches(WIDTH, 1 + 2 * rows * len(x))
    panels = drawn.subplots(rows * len(x), columns, squeeze=False)
    curves = [curve for some in found.values() for curve in some]
    for number, name in enumerate(x):
        block = list(panels[number * rows : (number + 1) * rows].flat)
        for panel, (title, some) in zip(block, found.items(), strict=False):
            paint(panel, some, name, wants_log(curves, name))
            panel.set_title(title, fontsize=9 if columns == 3 else 7.5, loc="left")
            panel.xaxis.label.set_fontsize(8)
        frame(block[: len(found)], curves, name, y_limits(curves, [name]), ticks=4)
        for panel in block[len(found) :]:
            panel.set_visible(False)
        for panel, below in zip(block, block[columns:], strict=False):
            panel.xaxis.label.set_visible(not below.get_visible())
    for panel in panels[:, 0]:
        panel.set_ylabel(_title(curves))


def _title(curves: Sequence[Curve], part: str = "") -> str:
    """Of the axis of what was measured."""
    return " / ".join(dict.fromkeys(curve.measure.title(part) for curve in curves))


def _legend(drawn: Any, found: Mapping[str, list[Curve]], x: Sequence[str]) -> None:
    """Colors are methods; lines are folders, if several are in a panel."""
    from matplotlib.lines import Line2D

    curves = [curve for some in found.values() for curve in some]
    entries: list[Any] = []
    for method in dict.fromkeys(curve.method for curve in curves):
        mine = [curve for curve in curves if curve.method == method]
        notes = ["sends nothing"] * ("bytes" in x and not any(c.x["bytes"].any() for c in mine))
        if any(curve.seeds < curve.started for curve in mine) and len(found) == 1:
            notes.append(f"{mine[0].seeds} of {mine[0].started} seeds")
        color, marker = looks.look(method)
        label = method + (f" ({', '.join(notes)})" if notes else "")
        entries.append(Line2D([], [], color=color, marker=marker, label=label, markersize=5))
    if 1 < len(found) <= MOST_IN_A_PANEL:
        styles: Sequence[Any] = looks.LINES
        for title, line in zip(found, styles, strict=False):
            entries.append(Line2D([], [], color="0.4", linestyle=line, label=title))
    longest = max(len(entry.get_label()) for entry in entries)
    rows = math.ceil(len(entries) / max(1, min(4, int(WIDTH / (0.6 + 0.085 * longest)))))
    columns = math.ceil(len(entries) / rows)
    drawn.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False)
