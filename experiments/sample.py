"""``python -m experiments.sample``, from a checkout: ``ist_jax.commands.sample``."""

from experiments import PROGRAMS, here
from ist_jax.commands import sample

__doc__ = here(sample.__doc__)

if __name__ == "__main__":
    sample.start(PROGRAMS["sample"], __doc__)
