"""Diagonals of very different size: naive IST is stuck where preconditioned IST goes on."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, moments, quadratics, sketches, stability
from ist_jax.sketch.quadratics import Quadratics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(config: Any) -> dict:
    """f(x) - f* relative to the start's, of runs and its exact mean, for both sketches."""
    key, n = jax.random.key(config.seed), config.workers
    base = quadratics.random(fold(key, "problem"), n, n, condition=config.condition)
    unit = np.geomspace(1, config.spread**-0.5, n)
    panels: dict[str, dict] = {}
    for name, share in (("without a linear term", 0.0), ("with one", 1.0)):
        problem = Quadratics(base.L * unit[:, None] * unit, share * base.b * unit)
        x0 = 1 / unit
        start = float(problem.value(x0) - problem.minimum)

        def excess(x, problem=problem, start=start):
            value = (x @ problem.Lbar @ x) / 2 - x @ problem.bbar
            return jnp.maximum((value - problem.minimum) / start, 1e-16)

        panels[name] = {}
        naive, preconditioned = sketches.perm(n, n), sketches.preconditioned(problem)
        for sketch, step_size in (
            (naive, stability.largest_step(problem, naive) / 2),
            (preconditioned, config.step_size),
        ):
            found = iterate.run(
                *(problem, sketch, x0, fold(key, "runs")),
                steps=config.steps,
                step_size=step_size,
                runs=config.runs,
                every=config.every,
                measure=excess,
            )
            means, covariances = moments.trajectory(problem, sketch, x0, step_size, config.steps)
            scatter = np.einsum("ab,kab->k", problem.Lbar, covariances) / 2
            exact = (problem.value(means) + scatter - problem.minimum) / start
            panels[name][sketch.name] = {
                "excess": found.measured.tolist(),
                "exact": exact[:: config.every].tolist(),
                "step_size": step_size,
            }
    steps = list(range(0, config.steps + 1, config.every))
    return {"n": n, "spread": config.spread, "steps": steps, "panels": panels}


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(10, 4.2)
    for panel, (name, curves) in zip(figure.subplots(1, 2), data["panels"].items(), strict=True):
        for number, (label, curve) in enumerate(curves.items()):
            values, color = np.array(curve["excess"]), f"C{number}"
            panel.plot(data["steps"], np.median(values, 1), color=color, label=label)
            low, high = values.min(1), values.max(1)
            panel.fill_between(data["steps"], low, high, color=color, alpha=0.2, linewidth=0)
            exact = np.maximum(curve["exact"], 1e-16)
            panel.plot(data["steps"], exact, "--", color=color, label="its exact mean")
        lowest = min(min(curve["exact"]) for curve in curves.values())
        panel.set(xlabel="step", yscale="log", title=name, ylim=(max(lowest / 3, 1e-13), 2))
    figure.axes[0].set_ylabel(r"$(f(x^k)-f^*)\;/\;(f(x^0)-f^*)$")
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"n = d = {data['n']}, diagonals from 1 to {data['spread']:g}; naive Perm-1 with half of "
        "its largest stable step",
        fontsize=11,
    )


def summary(data: dict) -> str:
    lines = []
    for name, curves in data["panels"].items():
        for label, curve in curves.items():
            last = np.median(curve["excess"][-1])
            lines.append(
                f"{name}, {label}, step size {curve['step_size']:.3g}: {last:.3g} of the excess is "
                f"left (exact mean {curve['exact'][-1]:.3g})"
            )
    return "\n".join(lines)
