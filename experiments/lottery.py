"""``python -m experiments.lottery``, from a checkout: ``ist_jax.commands.lottery``."""

from experiments import PROGRAMS, here
from ist_jax.commands import lottery

__doc__ = here(lottery.__doc__)

if __name__ == "__main__":
    lottery.start(PROGRAMS["lottery"], __doc__)
