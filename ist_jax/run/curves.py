"""The figure of run folders."""

import os
import pathlib

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.run.report import METRICS, read


def figure(folders: list[pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Accuracy against bytes sent by a worker, and against its steps; bands span the seeds."""
    if out.is_dir():
        raise InputError(f"cannot write the figure {out}: it is a folder; name a file in it")
    import matplotlib  # a slow import that tables do not need

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, (by_bytes, by_steps) = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    runs_of = [read(folder / METRICS) for folder in folders]
    names = list(dict.fromkeys(method for runs in runs_of for method, _ in runs))
    ends = []
    for number, (folder, runs) in enumerate(zip(folders, runs_of, strict=True)):
        for name in dict.fromkeys(method for method, _ in runs):
            lines = [rows for (method, _), rows in runs.items() if method == name]
            shortest = min(map(len, lines))
            value = {
                key: np.array([[row[key] for row in rows[:shortest]] for rows in lines])
                for key in ("accuracy/test", "comm/bytes_sent", "step")
            }
            accuracy = 100 * value["accuracy/test"]
            ends.append(accuracy.mean(0)[-1])
            color, mark = f"C{names.index(name) % 10}", "osv^DPX"[names.index(name) % 7]
            style = {
                "color": color,
                "marker": mark,
                "linestyle": ("-", "--", ":", "-.")[number % 4],
                "markersize": 3.5,
            }
            label = f"{folder.name}: {name}" if len(folders) > 1 else name
            for panel, key in ((by_bytes, "comm/bytes_sent"), (by_steps, "step")):
                x = value[key][0]
                shown = x > 0 if panel is by_bytes else np.full(x.shape, True)
                if not shown.any():
                    continue  # a method that sends nothing has no place on an axis of bytes
                low, high = accuracy.min(0)[shown], accuracy.max(0)[shown]
                panel.plot(x[shown], accuracy.mean(0)[shown], label=label, **style)
                panel.fill_between(x[shown], low, high, color=color, alpha=0.15, linewidth=0)
    spread = max(max(ends) - min(ends), 3)
    by_steps.set_ylim(max(0, min(ends) - spread), max(ends) + spread / 4)
    by_bytes.set(xscale="log", xlabel="bytes sent by a worker", ylabel="test accuracy (%)")
    by_steps.set(xlabel="gradient steps of a worker")
    by_steps.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in (by_bytes, by_steps):
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    canvas.tight_layout()
    fresh = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        canvas.savefig(fresh, dpi=150)
        fresh.replace(out)  # at once: another command may write the same figure
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the figure {out}: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)
        pyplot.close(canvas)
    return out
