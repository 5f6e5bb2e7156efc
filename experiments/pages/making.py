"""A page of results by its name: its text, how it was made, and its figure."""

import importlib
import shlex
from pathlib import Path

from experiments.pages import runs

NAMES = ("vldb", "resist", "loft", "gist", "language")  # modules beside this one


def made(page: str, paths: list[Path], out: Path, draw: bool = False) -> str:
    """A page of results for that file; how it was made comes after its title.

    Args:
      draw: also make its figure, beside it, if it has one.
    """
    module = importlib.import_module(f"experiments.pages.{page}")
    found, rows = runs.gathered(paths)
    title, _, rest = module.page(found, rows).partition("\n\n")
    words = ["python", "-m", "experiments.report", f"--page={page}", f"--out={out}"]
    parts = [
        title,
        "Generated from run folders, whose commands stand at the end, by",
        f"    {shlex.join([*words, *map(str, paths)])}",
    ]
    if hasattr(module, "figure"):
        picture = out.with_suffix(".png")
        parts.append(f"![{title[2:]}]({picture.name})")
        if draw:
            module.figure(found, picture)
    return "\n\n".join([*parts, rest])
