"""Lottery tickets out of a finished run: filter distances, pruning, fine-tuning.

    ist-jax train --config=fashion_loft --workdir=runs/fashion_loft
    ist-jax lottery --config=fashion_loft --workdir=runs/fashion_loft

For each method and seed of the run in --workdir: how far the ranking of the filters is, in each of
its checkpoints, from the one before and from the last; then the last net is pruned to several sizes
(config.lottery.pruned), by the norms of its filters and at random, and each small net is trained on
as an ordinary one for config.lottery.epochs. At the end the sizes take turns at a gradient, timed.
All of it goes to lottery.jsonl in that folder; nets that are there already are not trained again.
Source: Dun et al., LoFT.
"""

from absl import flags, logging

from ist_jax.commands import shared_flags
from ist_jax.commands.shared_flags import CONFIG, mistake
from ist_jax.core.errors import InputError

PROGRAM = "ist-jax lottery"
flags.adopt_module_key_flags(shared_flags)


def main(argv: list[str]) -> int:
    logging.set_verbosity(logging.FATAL)
    if wrong := shared_flags.unasked(argv, "fashion_loft"):
        return mistake(wrong)
    from ist_jax.run import lock  # with JAX, a second of CPU: flags are right by now
    from ist_jax.run import lottery as tickets

    try:
        workdir = shared_flags.workdir("runs/fashion_loft")
        with lock.held(workdir):
            print(tickets.table(tickets.run(CONFIG.value, workdir)))
    except InputError as error:
        return mistake(str(error))
    return 0


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    shared_flags.start(main, __name__, program, doc)
