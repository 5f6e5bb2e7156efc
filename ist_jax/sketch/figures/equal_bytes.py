"""Every sketch beside gradient descent, at equal bytes: what a worker sends for what is reached."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, quadratics, sketches, stability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBER = 8  # bytes


def measure(config: Any) -> dict:
    """f(x) - f* relative to the start's over bytes sent, with and without a linear term.

    Each sketch steps with a share of its own largest stable step; a worker sends what it holds.
    """
    key, n, d = jax.random.key(config.seed), config.workers, config.dimension
    panels: dict[str, dict] = {}
    for name, interpolation in (("with a linear term", False), ("without (b = 0)", True)):
        problem = quadratics.random(
            fold(key, "problem"), n, d, condition=config.condition, interpolation=interpolation
        )
        x0 = np.ones(d)
        start = float(problem.value(x0) - problem.minimum)

        def excess(x, problem=problem, start=start):
            return ((x @ problem.Lbar @ x) / 2 - x @ problem.bbar - problem.minimum) / start

        panels[name] = {}
        for label, sketch, rule in family(problem)[: config.sketches]:
            largest = stability.largest_step(problem, sketch, rule=rule)
            held = d * sketch.support.alone(1)
            steps = int(config.numbers_sent / held)
            every = max(steps // config.points, 1)
            found = iterate.run(
                *(problem, sketch, x0, fold(key, "runs")),
                steps=steps // every * every,
                step_size=config.share_of_largest * largest,
                runs=config.runs,
                rule=rule,
                every=every,
                measure=lambda x: jnp.maximum(excess(x), 1e-16),
            )
            panels[name][label] = {
                "bytes": (NUMBER * held * found.steps).tolist(),
                "excess": found.measured.tolist(),
                "step_size": config.share_of_largest * largest,
            }
    return {
        "n": n,
        "d": d,
        "condition": config.condition,
        "share_of_largest": config.share_of_largest,
        "panels": panels,
    }


def family(problem: quadratics.Quadratics) -> list:
    """Labels, sketches and their rules."""
    n, d = problem.n, problem.d
    q = d // n
    return [
        ("gradient descent", sketches.identity(n, d), "step"),
        (f"Perm-{q}, unbiased", sketches.perm(n, d), "step"),
        (f"Perm-{q}, scale 1 (IST)", sketches.perm(n, d, scale=1.0), "copy"),
        (f"Rand-{q}, unbiased", sketches.rand(n, d, q), "step"),
        (f"Bernoulli {1 / n:g}", sketches.bernoulli(n, d, 1 / n), "step"),
        (f"preconditioned Perm-{q}", sketches.preconditioned(problem), "step"),
        (f"block preconditioned Perm-{q}", sketches.block_preconditioned(problem), "step"),
    ]


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(11, 4.4)
    for panel, (name, curves) in zip(figure.subplots(1, 2), data["panels"].items(), strict=True):
        for number, (label, curve) in enumerate(curves.items()):
            sent, values = np.array(curve["bytes"]), np.array(curve["excess"])
            style = {"color": f"C{number}", "label": label, "linewidth": 1.3}
            panel.plot(sent / 1e3, np.median(values, 1), **style)
            low, high = np.percentile(values, (25, 75), axis=1)
            panel.fill_between(sent / 1e3, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        panel.set(xlabel="sent by a worker (kB)", yscale="log", title=name)
    figure.axes[0].set_ylim(0.01, 3)
    figure.axes[1].set_ylim(1e-12, 3)
    figure.axes[0].set_ylabel(r"$(f(x^k)-f^*)\;/\;(f(x^0)-f^*)$")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(
        f"n = {data['n']}, d = {data['d']}, condition number {data['condition']:g}; each with "
        f"{data['share_of_largest']:g} of its largest stable step",
        fontsize=11,
    )


def summary(data: dict) -> str:
    lines = []
    for name, curves in data["panels"].items():
        lines.append(f"{name}: excess at the end (median), lowest on the way, step size")
        for label, curve in curves.items():
            medians = np.median(curve["excess"], axis=1)
            lines.append(
                f"  {label}: {medians[-1]:.3g}, {medians.min():.3g}, {curve['step_size']:.4g}"
            )
    return "\n".join(lines)
