"""``python -m experiments.report``, from a checkout: ``ist_jax.commands.report``."""

from ist_jax.commands import report

__doc__ = report.__doc__

if __name__ == "__main__":
    report.start()
