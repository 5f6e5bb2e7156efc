"""``python -m experiments.lottery``, from a checkout: ``ist_jax.commands.lottery``."""

from ist_jax.commands import lottery

__doc__ = lottery.__doc__

if __name__ == "__main__":
    lottery.start()
