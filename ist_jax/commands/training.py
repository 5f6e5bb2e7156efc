"""What ``train`` does once its flags are known to be right; an exit code for each end."""

import os
import pathlib
import sys
import traceback
from typing import NoReturn

import jax
from ml_collections import ConfigDict

from ist_jax.commands import shared_flags
from ist_jax.commands.shared_flags import OVERWRITE, mistake
from ist_jax.commands.train_flags import (
    COORDINATOR,
    DETERMINISTIC,
    DISTRIBUTED,
    DRY_RUN,
    PATIENCE,
    PROCESS,
    PROCESSES,
    PROFILE,
    RESUME,
    SWEEP_RETRAIN,
)
from ist_jax.core.errors import CheckpointError, InputError, NotBegun
from ist_jax.run import allocator, checks, devices, joining, planning, sweep, sweep_plan, team
from ist_jax.run.signals import SAVED, Stopped


def run(config: ConfigDict, given: sweep.Values) -> int:
    """Trains, or says what would be trained; the exit code.

    Args:
      given: values of the keys of a sweep; empty if there is none.
    """
    allocator.keep_memory()
    try:
        joined = _join()
        with joined.together("check"):
            checks.check(config)
            if DETERMINISTIC.value:
                # XLA on CPU splits sums by its pool's size: this, but at least that of its devices.
                os.environ["NPROC"] = str(config.workers * config.mesh.data)
                config.mesh.exact = True
            devices.provide(config, joined.size)
        asked = {flag.name: flag.value for flag in (DRY_RUN, DETERMINISTIC, OVERWRITE, RESUME)}
        team.agree(joined, config, asked)
        if DRY_RUN.value:
            # by all: one alone would wait for the others' devices
            plan = sweep_plan.dry_run(config, given) if given else planning.dry_run(config)
            if joined.first:
                print(plan)
            return 0
        with joined.together("workdir"):
            workdir = shared_flags.workdir("runs/quickstart")
            if OVERWRITE.value and RESUME.value:
                raise InputError("--overwrite and --resume: which of them?")
        _train(config, given, workdir, joined)
    except InputError as error:
        return mistake(str(error))
    except Stopped as stopped:
        print(f"stopped: {stopped}; go on with --resume", file=sys.stderr)
        return SAVED
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        if not isinstance(error, NotBegun):
            _exit(1)
        return 1
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            traceback.print_exc()
            _exit(1)
        told = str(error).partition("\n")[0]
        mistake(
            "not enough memory for that many config.workers, config.local_steps, config.data.batch "
            f"or config.model.widths: {told}"
        )
        _exit(2)
    except OSError as error:  # a disk that fails, or a file of ours that somebody took away
        print(f"error: {error}", file=sys.stderr)
        _exit(1)
    except Exception:
        if not DISTRIBUTED.value:
            raise
        traceback.print_exc()
        _exit(1)
    return 0


def _train(
    config: ConfigDict, given: sweep.Values, workdir: pathlib.Path, joined: team.Team
) -> None:
    """A run, or those of a sweep; what writes checkpoints is slow to import, and imported here."""
    from ist_jax.run import sweeping, training

    how = workdir, OVERWRITE.value, RESUME.value
    if given:
        sweeping.run(config, given, *how, SWEEP_RETRAIN.value, shared_flags.command())
    else:
        training.run(config, *how, joined, shared_flags.command(), profile=PROFILE.value)


def _exit(code: int) -> NoReturn:
    """At once: XLA may crash if taken down under running programs, and a checkpoint's threads
    would wait for a process that is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _join() -> team.Team:
    """Alone, or one of the processes that the flags tell of."""
    if DISTRIBUTED.value:
        return joining.join(COORDINATOR.value, PROCESSES.value, PROCESS.value, PATIENCE.value)
    for flag in (COORDINATOR, PROCESSES, PROCESS):
        if flag.value is not None:
            raise InputError(f"--{flag.name} is for several processes: add --distributed")
    return team.Team()
