"""The command line: train, report, launch, lottery, sketch. Flags over ``ist_jax.run``."""
