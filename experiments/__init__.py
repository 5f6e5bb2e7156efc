"""The commands from a checkout: ``python -m experiments.main`` is ``ist-jax train``, and so on."""

import re

PROGRAMS = {
    "train": "python -m experiments.main",
    "launch": "python -m experiments.launch",
    "lottery": "python -m experiments.lottery",
    "report": "python -m experiments.report",
    "sample": "python -m experiments.sample",
    "sketch": "python -m experiments.sketch",
}


def here(doc: str | None) -> str:
    """What a command says of itself, in the words of a checkout: its module, and configs' files."""
    doc = re.sub(r"ist-jax (\w+)", lambda command: PROGRAMS[command[1]], doc or "")
    return re.sub(r"--config=(\w+)\b", r"--config=configs/\1.py", doc)
