"""Checkpoints that are whole or not there: ``writing`` them, ``reading`` and checking them."""

from ist_jax.checkpoint.writing import Checkpoints, Keep, within

__all__ = ["Checkpoints", "Keep", "within"]
