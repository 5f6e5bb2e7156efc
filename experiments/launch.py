"""``python -m experiments.launch``, from a checkout: ``ist_jax.commands.launch``."""

from ist_jax.commands import launch

__doc__ = launch.__doc__

if __name__ == "__main__":
    launch.start()
