"""One figure of the analysis of IST, from a config: measured, written, drawn."""

import importlib
import pathlib
import pkgutil
import time
from types import ModuleType

from ml_collections import ConfigDict

from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.run import bounds, compare, config_files, lock, values
from ist_jax.sketch import figures

CONFIG_FILE, DATA, FIGURE = "config.json", "data.json", "figure.png"
NAMES = sorted(module.name for module in pkgutil.iter_modules(figures.__path__))


def run(config: ConfigDict, workdir: pathlib.Path, overwrite: bool = False) -> str:
    """Measures, writes and draws; what there is to say about it, in lines.

    Raises:
      InputError: no such figure, a folder that holds something or cannot be written, or numbers
        that the figure's own functions refuse.
    """
    module = checked(config)
    with lock.held(workdir, make=True):
        claim(workdir, overwrite)
        print(f"{config.figure}: measuring", flush=True)
        started = time.perf_counter()
        data = module.measure(config)
        seconds = time.perf_counter() - started
        text = strict_json.dumps(
            data, DATA
        )  # a run that diverged ends here, and leaves what was there
        (workdir / CONFIG_FILE).write_text(compare.as_json(config, indent=2) + "\n")
        (workdir / DATA).write_text(text + "\n")
        draw(module, data, workdir / FIGURE)
        return f"{module.summary(data)}\n\n{workdir / FIGURE} ({seconds:.0f} s)"


def checked(config: ConfigDict) -> ModuleType:
    """The figure's module, if every key of the config has a value that it can have."""
    module = figure(config)
    known = config_files.load(f"sketch_{config.figure}")
    values.check(known, config, bounds.FIGURES, bounds.POSITIVE)
    return module


def figure(config: ConfigDict) -> ModuleType:
    """The module of ``ist_jax.sketch.figures`` that a config names."""
    name = config.get("figure")
    if name not in NAMES:
        raise InputError(
            f"config.figure must be one of {', '.join(NAMES)}; found {values.shown(name)} (a "
            "config for training is for the command train)"
        )
    return importlib.import_module(f"ist_jax.sketch.figures.{name}")


def claim(workdir: pathlib.Path, overwrite: bool) -> None:
    """Takes the folder, unless it holds something that was not to be replaced."""
    ours = {CONFIG_FILE, DATA, FIGURE}
    try:
        found = sorted(path.name for path in workdir.iterdir() if path.name != lock.NAME)
        if strangers := [name for name in found if name not in ours]:
            raise InputError(
                f"{workdir} holds {strangers[0]} and no figure. Choose a new --workdir."
            )
        if found and not overwrite:
            raise InputError(
                f"{workdir} holds a figure. Choose another --workdir, or replace it (--overwrite)."
            )
        attempt = workdir / f"{DATA}.new"  # refused before anything is measured
        attempt.touch()
        attempt.unlink()
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error}") from None


def draw(module: ModuleType, data: dict, path: pathlib.Path) -> None:
    """The figure of what was measured (also of a data.json of before)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas = pyplot.figure(layout="constrained")
    try:
        module.draw(data, canvas)
        for panel in canvas.axes:
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
        canvas.savefig(path, dpi=150)
    finally:
        pyplot.close(canvas)
