"""Train the methods of a config and compare them.

    ist-jax train --config=quickstart --workdir=runs/quickstart
    ist-jax train --config=quickstart --dry_run
    ist-jax train --config=quickstart --config.workers=8 --dry_run
    ist-jax train --config=quickstart --workdir=runs/four --distributed
    ist-jax train --config=quickstart --workdir=runs/quickstart --resume

Every key of the config can be set, as --config.optimizer.lr=0.2; tuples as --config.seeds='(0, 1)'.
Exit codes: 0 done, 2 a mistake in what was asked for, 75 saved and stopped by SIGTERM or SIGINT
(run it again with --resume), 130 interrupted at once, anything else a failure.
"""

import os
import sys
import traceback
from typing import NoReturn

import jax
from absl import flags, logging

from ist_jax.commands import shared_flags
from ist_jax.commands.shared_flags import CONFIG, OVERWRITE, mistake
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.run import checks, joining, team, training
from ist_jax.run.saving import NotBegun
from ist_jax.run.signals import SAVED, Stopped

PROGRAM = "ist-jax train"
flags.adopt_module_key_flags(shared_flags)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained, and train nothing.")
RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in --workdir, if there is one.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes. Slurm, Open MPI and Kubernetes say which; elsewhere give "
    "--coordinator, --processes and --process.",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port where process 0 can be reached.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
PATIENCE = flags.DEFINE_integer(
    "patience", 60, "Seconds to wait for the other processes.", 1, 7 * 24 * 3600
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "The same bits for every config.mesh.workers and every number of processes and CPUs: means "
    "over workers in a fixed order, and on CPU as many threads as workers in every process.",
)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)  # what fails raises; Orbax logs its tracebacks besides
    if wrong := shared_flags.unasked(argv, "quickstart"):
        return mistake(wrong)
    config = CONFIG.value
    try:
        joined = _join()
        with joined.together("check"):
            checks.check(config)
            if DETERMINISTIC.value:
                # XLA on CPU splits sums by its pool's size: this, but at least that of its devices.
                os.environ["NPROC"] = str(config.workers * config.mesh.data)
                config.mesh.exact = True
            checks.devices(config, joined.size)
        given = {flag.name: flag.value for flag in (DRY_RUN, DETERMINISTIC, OVERWRITE, RESUME)}
        team.agree(joined, config, given)
        if DRY_RUN.value:
            plan = training.dry_run(config)  # by all: one alone would wait for the others' devices
            if joined.first:
                print(plan)
            return 0
        with joined.together("workdir"):
            workdir = shared_flags.workdir("runs/quickstart")
            if OVERWRITE.value and RESUME.value:
                raise InputError("--overwrite and --resume: which of them?")
        command = shared_flags.command()
        training.run(config, workdir, OVERWRITE.value, RESUME.value, joined, command)
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
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr, flush=True)
        _exit(130)
    except Exception:
        if not DISTRIBUTED.value:
            raise
        traceback.print_exc()
        _exit(1)
    return 0


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


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    shared_flags.start(main, __name__, program, doc)
