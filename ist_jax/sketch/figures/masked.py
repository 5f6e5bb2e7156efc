"""Masked shallow networks: measured errors beside the printed bounds, and how far kernels stray.

One number is swept at a time, under both kinds of masks (xi under Bernoulli masks only: categorical
ones have 1/p). A bound is rate^K |y - u_0|^2 + region with every hidden constant set to 1 and the
median error at the start; theorem 4 is shown at the kappa of the runs, and against the width also
at the kappa that it sets.
"""

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.theory import additive, kernels, masked, rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ZERO = 1e-6  # errors below it are drawn at the bottom, as marks that point down

AXES = {
    "xi": r"mean of a mask, $\xi$",
    "workers": r"workers, $p$",
    "local_steps": r"local steps in a round, $\tau$",
    "width": r"width, $m$ (neurons)",
    "kappa": r"standard deviation of the start, $\kappa$",
}
MASKS = {
    "bernoulli": ("Bernoulli masks", "corollary 3", "C0", "o"),
    "categorical": ("categorical masks", r"theorem 4 at the $\kappa$ of the runs", "C1", "s"),
}


def measure(config: Any) -> dict:
    """The sweeps and the kernel curves, as lists and numbers.

    Returns:
      ``sweeps[name]`` holds the ``values`` and, for each kind of masks, ``error`` of every value
      and seed, and ``bound`` (and ``stated``, at theorem 4's kappa) of every value.
      ``kernels[width]["worker" | "mean"]`` holds lower quartile, median and upper quartile of the
      distance over rounds 0 to K. ``setting`` and ``spectrum`` say of what.
    """
    key = jax.random.key(config.seed)
    x, y = masked.sample(fold(key, "data"), config.examples, config.dimension)
    ends = kernels.spectrum(kernels.infinite(x))
    names = ("workers", "local_steps", "width", "kappa", "rounds", "step", "seeds")
    default = {name: config[name] for name in names}

    point = functools.partial(_point, config, key, x, y, ends)
    sweeps: dict[str, dict] = {}
    for name in AXES:
        values = list(config.sweep[name])
        sweeps[name] = {"values": values}
        for kind in MASKS if name != "xi" else ("bernoulli",):
            points = [point(kind, {**default, name: value}) for value in values]
            sweeps[name][kind] = {column: [p[column] for p in points] for column in points[0]}

    distances = {}
    for width in config.kernel_widths:
        far = kernels.distances(key, x, y, **{**default, "width": width})
        quartiles = [np.percentile(curves, (25, 50, 75), axis=0).tolist() for curves in far]
        distances[str(width)] = dict(zip(("worker", "mean"), quartiles, strict=True))
    setting = {**default, "xi": config.xi, "n": config.examples, "d": config.dimension}
    return {
        "setting": setting,
        "spectrum": ends._asdict(),
        "sweeps": sweeps,
        "kernels": distances,
    }


def _point(
    config: Any, key: Any, x: Any, y: Any, ends: Any, kind: str, given: dict[str, Any]
) -> dict[str, Any]:
    """One value of a sweep: the error of every seed, and the bounds."""
    xi = given.pop("xi", config.xi)
    mean = xi if kind == "bernoulli" else None
    curves = masked.train(key, x, y, draw=getattr(additive, kind), xi=mean, **given)
    sizes = ("workers", "rounds", "step", "width", "local_steps")
    s = rates.Setting(examples=config.examples, **{size: given[size] for size in sizes})
    if kind == "bernoulli":
        bounds = {"bound": rates.corollary_3(s, lambda_0=ends.lambda_0, xi=xi)}
    else:
        bounds = {
            "bound": rates.theorem_4(s, **ends._asdict(), kappa=given["kappa"]),
            "stated": rates.theorem_4(s, **ends._asdict()),
        }
    start = float(np.median(curves[:, 0]))
    after = {name: bound.after(s.rounds, start) for name, bound in bounds.items()}
    return {"error": curves[:, -1].tolist(), **after}


def draw(data: dict, figure: "Figure") -> None:
    """Six panels and one legend below them, which belongs to the first five."""
    setting, panels = data["setting"], figure.subplots(2, 3)
    figure.set_size_inches(12.5, 8)
    figure.set_layout_engine("constrained")
    shown: dict[str, Any] = {}
    for panel, (name, sweep) in zip(panels.flat, data["sweeps"].items(), strict=False):
        shown |= _draw_sweep(panel, name, sweep)
    (shown["zero (below $10^{-6}$)"],) = panels[0, 0].plot([], [], "v", color="gray", markersize=8)
    for panel in panels.flat[:5:3]:
        panel.set_ylabel(r"error of the whole network, $|y-u_K|^2$")
    _draw_kernels(panels.flat[-1], data["kernels"])
    figure.suptitle(
        f"Error after {setting['rounds']} rounds, one number swept at a time: "
        f"$n$ = {setting['n']}, $d$ = {setting['d']}, $m$ = {setting['width']}, "
        f"$p$ = {setting['workers']}, $\\xi$ = {setting['xi']:g} (Bernoulli), "
        f"$\\tau$ = {setting['local_steps']}, $\\eta$ = {setting['step']:g}, "
        f"$\\kappa$ = {setting['kappa']:g}; median and quartiles of {setting['seeds']} seeds.\n"
        "Bounds with every hidden constant set to 1: shapes to compare, not proved at these widths "
        f"($\\lambda_0$ = {data['spectrum']['lambda_0']:.3f}, "
        f"$\\lambda_{{\\max}}$ = {data['spectrum']['lambda_max']:.2f}).",
        fontsize=10,
    )
    place: Any = {"loc": "outside lower center", "ncols": 3, "frameon": False, "fontsize": 9.5}
    figure.legend(shown.values(), shown.keys(), **place)


def _draw_sweep(panel: Any, name: str, sweep: dict) -> dict[str, Any]:
    """Errors and bounds; what the legend has to explain."""
    shown: dict[str, Any] = {}
    values = np.array(sweep["values"])
    for kind, (label, theorem, color, marker) in MASKS.items():
        if kind not in sweep:
            continue
        low, middle, high = np.percentile(sweep[kind]["error"], (25, 50, 75), axis=1)
        seen = middle > ZERO
        spread = [(middle - low)[seen], (high - middle)[seen]]
        style = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.2}
        line = panel.errorbar(values[seen], middle[seen], spread, capsize=2.5, **style)
        shown[f"{label}, measured"] = line
        arrow = {"color": color, "marker": "v", "markersize": 8, "linestyle": ""}
        panel.plot(values[~seen], np.full((~seen).sum(), 2 * ZERO), **arrow)
        (shown[f"{label}, {theorem}"],) = panel.plot(
            values, sweep[kind]["bound"], "--", color=color, linewidth=1.4
        )
        if name == "width" and kind == "categorical":
            (shown[r"categorical masks, theorem 4 at its own $\kappa$"],) = panel.plot(
                values, sweep[kind]["stated"], ":", color=color, linewidth=1.8
            )
    panel.set(xlabel=AXES[name], yscale="log", ylim=(ZERO, 1e6))
    if name != "xi":
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:g}" for value in values], minor=False)
    return shown


def _draw_kernels(panel: Any, kernels_of: dict) -> None:
    for color, (width, curves) in zip(("C2", "C3", "C4", "C5"), kernels_of.items(), strict=False):
        for line, (which, text) in zip(
            ("-", "--"), (("mean", "mean of workers"), ("worker", "one worker")), strict=True
        ):
            low, middle, high = map(np.array, curves[which])
            rounds = np.arange(len(middle))
            panel.plot(rounds, middle, line, color=color, label=f"$m$ = {width}, {text}")
            panel.fill_between(rounds, low, high, color=color, alpha=0.18, linewidth=0)
    panel.set(xlabel="round", ylabel=r"$|H/\xi - H^\infty|_F\;/\;|H^\infty|_F$", ylim=(0, None))
    panel.set_title("masked tangent kernels, categorical masks", fontsize=10)
    panel.legend(frameon=False, fontsize=8.5, loc="upper left")
    panel.set_ylim(0, 1.5 * panel.get_ylim()[1])


def summary(data: dict) -> str:
    """The medians, and the bounds beside them, a line each value."""
    lines = [f"{'':24}{'error (median)':>16}{'bound':>12}"]
    for name, sweep in data["sweeps"].items():
        for kind in MASKS:
            if kind in sweep:
                middle = np.median(sweep[kind]["error"], axis=1)
                rows = zip(sweep["values"], middle, sweep[kind]["bound"], strict=True)
                for value, error, bound in rows:
                    label = f"{kind}, {name} {value:g}"
                    lines.append(f"{label:28}{error:12.2g}{bound:12.2g}")
    return "\n".join(lines)
