"""``python -m experiments.main``, from a checkout: ``ist_jax.commands.train``."""

from experiments import PROGRAMS, here
from ist_jax.commands import train

__doc__ = here(train.__doc__)

if __name__ == "__main__":
    train.start(PROGRAMS["train"], __doc__)
