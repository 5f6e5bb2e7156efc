"""What a finished run came to: summary.json, a table and a figure."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import strict_json
from ist_jax.data import held_out, subwords
from ist_jax.run import assemble, curves, environment, report
from ist_jax.run.job import Job


def write(
    config: ConfigDict,
    data: Any,
    jobs: Mapping[str, Job],
    workdir: pathlib.Path,
    command: str = "",
    hosts: Sequence[str] = (),
    diverged: Mapping[str, str] | None = None,
) -> None:
    """Writes the file.

    Args:
      command: the words that started the run; empty if no command did.
      hosts: names of the machines, one for each process.
      diverged: why a method with a seed did not get to its end.
    """
    summary = {
        "config": config.to_dict(),
        "plans": {name: job.costs._asdict() for name, job in jobs.items()},
        "rounds": assemble.rounds(config, data),
        "results": report.results(workdir / report.METRICS),
        "diverged": dict(diverged or {}),
        "command": command,
        "data": {
            "name": data.name,
            "origin": data.origin,
            "train": data.examples,
            "validation": held_out.count(data),
            "test": len(data.test_x),
            "classes": data.classes,
            **_example(data.train_x),
            "skipped": data.skipped,
            "sha256": data.sha256,
            **_tokenizer(data, workdir),
        },
        "environment": environment.described(hosts),
    }
    text = strict_json.dumps(summary, report.SUMMARY, indent=2, default=str)
    (workdir / report.SUMMARY).write_text(text + "\n")


def show(workdir: pathlib.Path) -> None:
    """Prints the table, and makes the figure."""
    print(report.table([workdir]))
    print(f"\nfigure: {curves.figure([workdir], workdir / report.FIGURES[0])}")


def _tokenizer(data: Any, workdir: pathlib.Path) -> dict[str, str]:
    """The digest of the tokenizer of a text, which is written beside; empty where tokens are bytes.

    Nothing is said where it is not known what they stand for, or there are none.
    """
    text = getattr(data, "tokenizer", None)
    if not text:
        return {} if text is None else {"tokenizer": ""}
    (workdir / subwords.NAME).write_text(text)
    return {"tokenizer": hashlib.sha256(text.encode()).hexdigest()}


def _example(x: Any) -> dict[str, Any]:
    """Shape and dtype of an input, where it is an array."""
    if not hasattr(x, "shape"):
        return {}
    return {"shape": list(x.shape[1:]), "dtype": str(x.dtype)}
