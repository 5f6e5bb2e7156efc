"""One config a claim; an installed library has them as ``ist_jax.configs``."""
