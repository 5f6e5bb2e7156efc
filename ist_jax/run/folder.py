"""A run folder: what it holds, and whether a run may be begun or gone on with in it."""

import pathlib
import shutil

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import compare, lock, profiling, report, saving, trackers
from ist_jax.run.metrics import UNWRITTEN, Metrics

CONFIG, METRICS, SUMMARY = "config.json", report.METRICS, report.SUMMARY
LOTTERY = "lottery.jsonl"  # of the command lottery, about the run
FIGURE = report.FIGURES[0]
FOLDERS = (saving.FOLDER, profiling.FOLDER, *trackers.TRACKERS)
FILES = (CONFIG, METRICS, UNWRITTEN, SUMMARY, LOTTERY, *report.FIGURES)  # of a run folder


def claim(workdir: pathlib.Path, config: ConfigDict, overwrite: bool, resume: bool) -> None:
    """Takes the run folder; a run that is in it already goes on, or is replaced, if asked.

    Raises:
      InputError: the folder holds a run, or another one than is to go on, or something else; or it
        cannot be written.
    """
    metrics = workdir / METRICS
    try:
        _look(workdir, overwrite, resume)
        if resume and (workdir / CONFIG).exists():
            compare.same(config, (workdir / CONFIG).read_text(errors="replace"), str(workdir))
            _check_not_past(config, workdir)
        for old in (SUMMARY, FIGURE):
            (workdir / old).unlink(missing_ok=True)
        if not resume:
            for folder in FOLDERS:
                shutil.rmtree(workdir / folder, ignore_errors=True)
            (workdir / LOTTERY).unlink(missing_ok=True)
            metrics.write_text("")
        metrics.touch()
        (workdir / CONFIG).write_text(compare.as_json(config, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error}") from None


def _check_not_past(config: ConfigDict, workdir: pathlib.Path) -> None:
    """A run that was trained for longer is left as it is."""
    if config.epochs or not (workdir / SUMMARY).exists():
        return
    for (name, seed), last in Metrics(workdir / METRICS, keep=True).last_rounds().items():
        if last > config.rounds:
            raise InputError(
                f"{name}, seed {seed} is past config.rounds={config.rounds}: {workdir} holds round "
                f"{last}"
            )


def _look(workdir: pathlib.Path, overwrite: bool, resume: bool) -> None:
    """Complains about what a folder holds."""
    ours = {*FILES, *FOLDERS}
    names = {path.name for path in workdir.iterdir()} - {lock.NAME}
    strangers = sorted(names if CONFIG not in names else names - ours)
    if METRICS not in names and strangers:
        raise InputError(f"{workdir} holds {strangers[0]} and no run. Choose a new --workdir.")
    for name in sorted(names & ours):
        if (workdir / name).is_dir() != (name in FOLDERS):
            raise InputError(
                f"{workdir / name} must be a {'folder' if name in FOLDERS else 'file'}"
            )
    measured = METRICS in names and (workdir / METRICS).stat().st_size > 0
    saved = saving.FOLDER in names and any((workdir / saving.FOLDER).iterdir())
    if resume and saved and not measured:
        raise InputError(
            f"{workdir} holds checkpoints, but {METRICS} is empty or missing: a run cannot go on "
            f"without its measurements. Put {METRICS} back, or start again (--overwrite)."
        )
    if (measured or saved or SUMMARY in names) and not (overwrite or resume):
        kind = "a finished" if SUMMARY in names else "an interrupted"
        raise InputError(
            f"{workdir} holds {kind} run. Choose another --workdir, go on with it (--resume), "
            "or replace it (--overwrite)."
        )
