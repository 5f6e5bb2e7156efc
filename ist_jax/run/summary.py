"""What a finished run came to: summary.json, a table and a figure."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core import strict_json
from ist_jax.run import curves, environment, report
from ist_jax.run.assemble import Job


def write(
    config: ConfigDict,
    data: Any,
    jobs: Mapping[str, Job],
    workdir: pathlib.Path,
    command: str,
    hosts: list[str],
) -> None:
    """Writes and prints it.

    Args:
      command: the words that started the run; empty if no command did.
      hosts: names of the machines, one for each process.
    """
    summary = {
        "config": config.to_dict(),
        "plans": {name: job.costs._asdict() for name, job in jobs.items()},
        "results": report.results(workdir / report.METRICS),
        "command": command,
        "data": {
            "name": data.name,
            "origin": data.origin,
            "train": data.examples,
            "test": len(data.test_x),
            "classes": data.classes,
            "skipped": data.skipped,
            "sha256": data.sha256,
        },
        "environment": environment.described(hosts),
    }
    text = strict_json.dumps(summary, report.SUMMARY, indent=2, default=str)
    (workdir / report.SUMMARY).write_text(text + "\n")
    print(report.table([workdir]))
    print(f"\nfigure: {curves.figure([workdir], workdir / report.FIGURES[0])}")
