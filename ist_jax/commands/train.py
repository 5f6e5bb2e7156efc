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

from absl import flags, logging

from ist_jax.commands import shared_flags, train_flags
from ist_jax.commands.shared_flags import CONFIG, mistake
from ist_jax.core.errors import InputError
from ist_jax.run import profiling

PROGRAM = "ist-jax train"
flags.adopt_module_key_flags(shared_flags)
flags.adopt_module_key_flags(train_flags)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)  # what fails raises; Orbax logs its tracebacks besides
    if wrong := shared_flags.unasked(argv, "quickstart"):
        return mistake(wrong)
    try:
        if not CONFIG.value.get("epochs"):  # else the data say how many rounds there are
            profiling.check(train_flags.PROFILE.value, CONFIG.value.get("rounds", 0))
    except InputError as error:
        return mistake(str(error))
    from ist_jax.commands import training  # with JAX, a second of CPU: flags are right by now

    return training.run(CONFIG.value)


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    shared_flags.start(main, __name__, program, doc)
