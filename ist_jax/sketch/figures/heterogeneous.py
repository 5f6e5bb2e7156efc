"""IST as practised on a heterogeneous quadratic: how near it comes to x*, and where it stops."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, moments, quadratics, sketches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(config: Any) -> dict:
    """Squared distances of every run to x* and to the predicted x_inf, relative to the start's."""
    key = jax.random.key(config.seed)
    problem = quadratics.random(
        fold(key, "problem"), config.workers, config.dimension, condition=config.condition
    )
    sketch = sketches.perm(problem.n, problem.d, scale=1.0)
    limit = moments.fixed_point(problem, q=problem.d // problem.n)
    x0 = np.zeros(problem.d)
    start = quadratics.norm2(problem.solution)

    def distances(x):
        to = lambda y: jnp.sum((x - y) ** 2) / start
        return {"solution": to(problem.solution), "limit": to(limit)}

    curves = {}
    for step_size in config.step_sizes:
        found = iterate.run(
            *(problem, sketch, x0, fold(key, "runs")),
            steps=config.steps,
            step_size=step_size,
            runs=config.runs,
            rule="copy",
            every=config.every,
            measure=distances,
        )
        curves[str(step_size)] = {name: v.tolist() for name, v in found.measured.items()}
    return {
        "n": problem.n,
        "d": problem.d,
        "condition": config.condition,
        "steps": list(range(0, config.steps + 1, config.every)),
        "predicted": float(quadratics.norm2(limit - problem.solution) / start),
        "curves": curves,
    }


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(11, 4.2)
    left, right = figure.subplots(1, 2)
    for number, (step_size, curve) in enumerate(data["curves"].items()):
        for panel, name in ((left, "solution"), (right, "limit")):
            values = np.array(curve[name])
            style = {"color": f"C{number}", "label": rf"$\gamma$ = {step_size}"}
            panel.plot(data["steps"], np.median(values, 1), **style)
            low, high = values.min(1), values.max(1)
            panel.fill_between(data["steps"], low, high, alpha=0.2, color=f"C{number}", linewidth=0)
    left.axhline(data["predicted"], color="k", linestyle="--", linewidth=1, label="predicted mean")
    left.set(ylabel=r"$|x^k-x^*|^2\;/\;|x^0-x^*|^2$")
    right.set(ylabel=r"$|x^k-x_\infty|^2\;/\;|x^0-x^*|^2$")
    for panel in (left, right):
        panel.set(xlabel="round", yscale="log")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(
        f"IST (Perm-{data['d'] // data['n']}, no rescaling) on quadratics, d = {data['d']}, "
        f"n = {data['n']}: it stops at a point that is not $x^*$",
        fontsize=11,
    )


def summary(data: dict) -> str:
    lines = [f"predicted |x_inf - x*|^2 / |x0 - x*|^2: {data['predicted']:.4g}"]
    for step_size, curve in data["curves"].items():
        last = {name: np.array(values)[-1] for name, values in curve.items()}
        lines.append(
            f"step size {step_size}: to x* {last['solution'].mean():.4g} "
            f"(sd {last['solution'].std():.1g}), to x_inf {last['limit'].mean():.3g}"
        )
    return "\n".join(lines)
