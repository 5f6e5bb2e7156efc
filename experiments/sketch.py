"""``python -m experiments.sketch``, from a checkout: ``ist_jax.commands.sketch``."""

from ist_jax.commands import sketch

__doc__ = sketch.__doc__

if __name__ == "__main__":
    sketch.start()
