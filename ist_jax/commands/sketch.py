"""Measure and draw one figure of the analysis of IST: quadratics and masked networks.

    ist-jax sketch --config=sketch_bias --workdir=runs/sketch_bias
    ist-jax sketch --config=sketch_bias:tiny --workdir=runs/tiny

One config is one figure (sketch_*; its docstring says what it shows). The folder gets
config.json, data.json (every number that is drawn) and figure.png. Every key of a config can be
set, as --config.condition=100. Exit codes: 0 done, 2 a mistake in what was asked for, 130
interrupted, anything else a failure.
"""

import sys
import warnings

from absl import flags, logging

from ist_jax.commands import shared_flags
from ist_jax.commands.shared_flags import CONFIG, OVERWRITE, mistake
from ist_jax.core.errors import InputError

PROGRAM = "ist-jax sketch"
flags.adopt_module_key_flags(shared_flags)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)  # what fails raises
    if wrong := shared_flags.unasked(argv, "sketch_bias"):
        return mistake(wrong)
    from ist_jax.run import sketching  # with JAX, a second of CPU: flags are right by now

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        workdir = shared_flags.workdir("runs/sketch")
        print(sketching.run(CONFIG.value, workdir, OVERWRITE.value))
    except InputError as error:
        return mistake(str(error))
    return 0


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    shared_flags.start(main, __name__, program, doc)
