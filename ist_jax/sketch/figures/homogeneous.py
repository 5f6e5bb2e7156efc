"""One loss for all workers, preconditioned: every run goes the same way, (1 - gamma)^k to x_inf."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, moments, quadratics, sketches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(config: Any) -> dict:
    """Distances to x_inf, relative to the start's: the largest and smallest over the runs."""
    key, n = jax.random.key(config.seed), config.workers
    problem = quadratics.preconditioned(
        quadratics.random(fold(key, "problem"), n, n, condition=config.condition, heterogeneity=0.0)
    )
    sketch = sketches.perm(n, n, scale=np.sqrt(n).item())
    limit = moments.mean_limit(problem, sketch)
    x0 = np.zeros(n)
    curves = {}
    for step_size in config.step_sizes:
        found = iterate.run(
            *(problem, sketch, x0, fold(key, "runs")),
            steps=config.steps,
            step_size=step_size,
            runs=config.runs,
            every=1,
            measure=lambda x: jnp.linalg.norm(x - limit) / np.linalg.norm(limit),
        )
        curves[str(step_size)] = [found.measured.min(1).tolist(), found.measured.max(1).tolist()]
    away = np.linalg.norm(limit - problem.solution) / np.linalg.norm(problem.solution)
    return {"n": n, "steps": list(range(config.steps + 1)), "curves": curves, "bias": float(away)}


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(6, 4.2)
    panel, steps = figure.subplots(), np.array(data["steps"])
    for number, (step_size, (_, high)) in enumerate(data["curves"].items()):
        color, gamma = f"C{number}", float(step_size)
        exact = np.abs(1 - gamma) ** steps
        panel.plot(steps, exact, color=color, linewidth=1, label=rf"$|1-\gamma|^k$, {step_size}")
        panel.plot(steps[::4], high[::4], ".", color=color, markersize=6)
    panel.plot([], [], "k.", label="measured")
    panel.set(xlabel="step", ylabel=r"$|x^k-x_\infty|\;/\;|x^0-x_\infty|$", yscale="log")
    panel.set_ylim(1e-12, 2)
    panel.legend(frameon=False, fontsize=9)
    panel.set_title(
        f"homogeneous, preconditioned, n = d = {data['n']}: no scatter, but\n"
        rf"$|x_\infty-x^*|\,/\,|x^*|$ = {data['bias']:.2f}",
        fontsize=11,
    )


def summary(data: dict) -> str:
    steps = np.array(data["steps"])
    lines = [f"|x_inf - x*| / |x*|: {data['bias']:.4g}"]
    for step_size, (low, high) in data["curves"].items():
        exact = np.abs(1 - float(step_size)) ** steps
        seen = exact > 1e-6
        off = np.abs(np.array(high) / exact - 1)[seen].max()
        apart = (np.array(high) - np.array(low)).max()
        lines.append(
            f"step size {step_size}: off |1 - gamma|^k by {off:.1g} (relative), runs apart by "
            f"{apart:.1g}"
        )
    return "\n".join(lines)
