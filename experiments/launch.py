"""``python -m experiments.launch``, from a checkout: ``ist_jax.commands.launch``."""

from experiments import PROGRAMS, here
from ist_jax.commands import launch

__doc__ = here(launch.__doc__)

if __name__ == "__main__":
    launch.start(PROGRAMS["launch"], __doc__, ("experiments.main",))
