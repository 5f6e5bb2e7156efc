"""``python -m experiments.sketch``, from a checkout: ``ist_jax.commands.sketch``."""

from experiments import PROGRAMS, here
from ist_jax.commands import sketch

__doc__ = here(sketch.__doc__)

if __name__ == "__main__":
    sketch.start(PROGRAMS["sketch"], __doc__)
