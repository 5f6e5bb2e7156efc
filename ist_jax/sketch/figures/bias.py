"""The bias of IST against the share of coordinates a worker holds, and against the mask's scale."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, moments, quadratics, sketches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(config: Any) -> dict:
    """|x_inf - x*| / |x*| over problems in closed form, and of the mean of runs for one of them."""
    key, d = jax.random.key(config.seed), config.dimension
    workers = [n for n in range(2, d + 1) if d % n == 0]

    def problem(n, seed, heterogeneity):
        return quadratics.random(
            fold(key, "problem", seed),
            n,
            d,
            condition=config.condition,
            heterogeneity=heterogeneity,
        )

    def bias(given, scale):
        limit = moments.fixed_point(given, q=d // given.n, scale=scale)
        return float(np.linalg.norm(limit - given.solution) / np.linalg.norm(given.solution))

    by_share = {
        str(h): [[bias(problem(n, s, h), 1.0) for s in range(config.problems)] for n in workers]
        for h in config.heterogeneities
    }
    scales = np.geomspace(config.scales[0], config.scales[1], 41).tolist()
    by_scale = {
        str(d // n): [
            [bias(problem(n, s, 1.0), scale) for s in range(config.problems)] for scale in scales
        ]
        for n in config.workers
    }
    measured = []
    for n in workers:
        given = problem(n, 0, 1.0)
        found = iterate.run(
            *(given, sketches.perm(n, d, scale=1.0), np.zeros(d), fold(key, "runs", n)),
            steps=config.steps,
            step_size=config.step_size,
            runs=config.runs,
            rule="copy",
            every=config.every,
        )
        settled = found.measured[len(found.steps) // 2 :].mean((0, 1))
        off = np.linalg.norm(settled - given.solution)
        measured.append(float(off / np.linalg.norm(given.solution)))
    return {
        "d": d,
        "share": [1 / n for n in workers],
        "by_share": by_share,
        "measured": measured,
        "predicted": [bias(problem(n, 0, 1.0), 1.0) for n in workers],
        "scales": scales,
        "by_scale": by_scale,
        "condition": config.condition,
        "problems": config.problems,
        "runs": config.runs,
    }


def draw(data: dict, figure: "Figure") -> None:
    figure.set_size_inches(10, 4.2)
    left, right = figure.subplots(1, 2)
    for number, (heterogeneity, values) in enumerate(data["by_share"].items()):
        label = f"heterogeneity {heterogeneity}"
        _band(left, data["share"], values, f"C{number}", label)
    style = {"color": "k", "linestyle": "", "markersize": 4}
    left.plot(data["share"], data["predicted"], marker="_", label="one problem, predicted", **style)
    label = "the same, mean of runs"
    left.plot(data["share"], data["measured"], marker="x", label=label, **style)
    left.set(xlabel="share of the coordinates a worker holds, q/d", xscale="log")
    left.set(ylim=(0, 1), ylabel=r"$|x_\infty-x^*|\;/\;|x^*|$", title="scale 1, as practised")
    left.set_xticks(data["share"][::2], [f"1/{round(1 / share)}" for share in data["share"][::2]])
    for number, (q, values) in enumerate(data["by_scale"].items()):
        _band(
            right, data["scales"], values, f"C{number + 3}", f"q = {q}, n = {data['d'] // int(q)}"
        )
    right.set(xlabel="scale s of the mask", xscale="log", title="heterogeneity 1")
    right.set(ylim=(0, 2), ylabel=r"$|x_\infty-x^*|\;/\;|x^*|$")
    right.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["1/4", "1/2", "1", "2", "4", "8"])
    for panel in (left, right):
        panel.minorticks_off()
        panel.legend(frameon=False, fontsize=9, loc="upper right")
    figure.suptitle(
        f"The bias of IST on quadratics: d = {data['d']}, condition number "
        f"{data['condition']:g}; median and quartiles of {data['problems']} problems",
        fontsize=11,
    )


def _band(panel, x, values, color, label):
    low, middle, high = np.percentile(values, (25, 50, 75), axis=1)
    panel.plot(x, middle, color=color, label=label)
    panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def summary(data: dict) -> str:
    lines = ["share   bias (median) by heterogeneity " + ", ".join(data["by_share"])]
    for number, share in enumerate(data["share"]):
        medians = [np.median(values[number]) for values in data["by_share"].values()]
        off = abs(data["measured"][number] - data["predicted"][number])
        row = "  ".join(f"{m:.3f}" for m in medians)
        lines.append(f"{share:.4f}  {row}  (one problem: runs off the prediction by {off:.1g})")
    for q, values in data["by_scale"].items():
        medians = np.median(values, axis=1)
        best = data["scales"][int(medians.argmin())]
        lines.append(f"q = {q}: least bias {medians.min():.3f}, at scale {best:.2f}")
    return "\n".join(lines)
