"""What updates are sent in: every code is a pair of pure functions over rows."""

from ist_jax.compress.codes import (
    BITS,
    Code,
    Part,
    largest,
    named,
    of_leaves,
    rounded,
    with_feedback,
)

__all__ = ["BITS", "Code", "Part", "largest", "named", "of_leaves", "rounded", "with_feedback"]
