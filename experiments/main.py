"""``python -m experiments.main``, from a checkout: ``ist_jax.commands.train``."""

from ist_jax.commands import train

__doc__ = train.__doc__

if __name__ == "__main__":
    train.start()
