"""Train the methods of a config and compare them.

    ist-jax train --config=quickstart --workdir=runs/quickstart
    ist-jax train --config=quickstart --dry_run
    ist-jax train --config=quickstart --config.workers=8 --dry_run
    ist-jax train --config=quickstart --workdir=runs/four --distributed
    ist-jax train --config=quickstart --workdir=runs/quickstart --resume
    ist-jax train --config=quickstart --workdir=runs/sweep --config.data.validation=0.1 \\
        --sweep optimizer.lr=0.03,0.1,0.3 --sweep workers=2,4

Every key of the config can be set, as --config.optimizer.lr=0.2; tuples as --config.seeds='(0, 1)',
options as --config.optimizer.options.b1=0.9. A config may be a YAML file of what differs.
Exit codes: 0 done, 2 a mistake in what was asked for, 75 saved and stopped by SIGTERM or SIGINT
(run it again with --resume), 130 interrupted at once, anything else a failure.
"""

from typing import Any

from absl import flags, logging

from ist_jax.commands import shared_flags, train_flags
from ist_jax.commands.shared_flags import CONFIG, mistake
from ist_jax.commands.train_flags import (
    DETERMINISTIC,
    DISTRIBUTED,
    PROFILE,
    SWEEP,
    SWEEP_RETRAIN,
)
from ist_jax.core.errors import InputError
from ist_jax.run import profiling, sweep

PROGRAM = "ist-jax train"
flags.adopt_module_key_flags(shared_flags)
flags.adopt_module_key_flags(train_flags)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)  # what fails raises; Orbax logs its tracebacks besides
    if wrong := shared_flags.unasked(argv, "quickstart"):
        return mistake(wrong)
    try:
        given = _swept()
        if not CONFIG.value.get("epochs"):  # else the data say how many rounds there are
            profiling.check(PROFILE.value, CONFIG.value.get("rounds", 0))
    except InputError as error:
        return mistake(str(error))
    from ist_jax.commands import training  # with JAX, a second of CPU: flags are right by now

    return training.run(CONFIG.value, given)


def _swept() -> dict[str, tuple[Any, ...]]:
    """The values of a sweep, by key; empty if none is asked for.

    Raises:
      InputError: what is wrong with it.
    """
    if not SWEEP.value:
        if SWEEP_RETRAIN.value:
            raise InputError("--sweep_retrain is for a sweep: add --sweep KEY=VALUE,VALUE")
        return {}
    if "figure" in CONFIG.value:
        raise InputError("a config with a figure is one of the analysis, for the command sketch")
    given = sweep.parse(SWEEP.value, CONFIG.value)
    if PROFILE.value:
        raise InputError("--profile is of one run: leave --sweep out")
    if DISTRIBUTED.value:
        raise InputError("--sweep is for one process: leave --distributed out")
    if DETERMINISTIC.value and "workers" in given:
        raise InputError(
            "--deterministic sets as many threads as there are workers, once for a process: sweep "
            "config.workers without it"
        )
    return given


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    shared_flags.start(main, __name__, program, doc)
