"""How near preconditioned Perm-1 comes: the neighbourhood against the step size, in closed form."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, perm_1, quadratics, sketches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(config: Any) -> dict:
    """E|grad f|^2 in the norm of Lbar^-1 after many steps: its mean over runs, and its error."""
    key, n = jax.random.key(config.seed), config.workers
    problem = quadratics.random(fold(key, "problem"), n, n, condition=config.condition)
    sketch, inverse = sketches.preconditioned(problem), np.linalg.inv(problem.Lbar)

    def size(x):
        g = problem.Lbar @ x - problem.bbar
        return g @ jnp.asarray(inverse) @ g

    sizes, means, errors = [], [], []
    for step_size in config.step_sizes:
        found = iterate.run(
            *(problem, sketch, np.zeros(n), fold(key, "runs")),
            steps=config.steps,
            step_size=step_size,
            runs=config.runs,
            measure=size,
        )
        last = found.measured[-1]
        sizes.append(step_size)
        means.append(float(last.mean()))
        errors.append(float(last.std() / np.sqrt(config.runs)))
    return {
        "n": n,
        "runs": config.runs,
        "step_sizes": sizes,
        "measured": means,
        "error": errors,
        "closed": [perm_1.neighbourhood(problem, g) for g in sizes],
        "bias": float(quadratics.norm2(perm_1.bias(problem), problem.Lbar)),
        "sigma2": perm_1.sigma2(problem),
    }


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(6, 4.2)
    panel, gamma = figure.subplots(), np.linspace(0.001, max(data["step_sizes"]), 400)
    curve = data["bias"] + gamma / (2 - gamma) * data["sigma2"]
    label = r"$|h|^2_{\bar L}+\frac{\gamma}{2-\gamma}\,\sigma^2$"
    panel.plot(gamma, curve, color="C0", label=label)
    panel.axhline(data["bias"], color="k", linestyle="--", linewidth=1, label=r"$|h|^2_{\bar L}$")
    bars = 4 * np.array(data["error"])
    label = f"measured, {data['runs']} runs, 4 standard errors"
    panel.errorbar(data["step_sizes"], data["measured"], bars, fmt="C1o", capsize=2.5, label=label)
    panel.set(xlabel=r"step size $\gamma$", ylim=(0, None))
    panel.set_ylabel(r"$\lim\;E\,|\nabla f(x^k)|^2_{\bar L^{-1}}$")
    panel.legend(frameon=False, fontsize=9)
    panel.set_title(f"preconditioned Perm-1, n = d = {data['n']}", fontsize=11)


def summary(data: dict) -> str:
    lines = [f"|h|^2 {data['bias']:.4g}, sigma^2 {data['sigma2']:.4g}"]
    rows = zip(data["step_sizes"], data["closed"], data["measured"], data["error"], strict=True)
    for step_size, closed, measured, error in rows:
        off = (measured - closed) / error if error else 0.0
        lines.append(
            f"step size {step_size}: closed form {closed:.4g}, measured {measured:.4g} "
            f"({off:+.1f} standard errors)"
        )
    return "\n".join(lines)
