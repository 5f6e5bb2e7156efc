"""A trained net for others: its arrays for NumPy, PyTorch and JAX, or a program that computes it.

``docs/export.md`` says how each file is read without this library.
"""

from ist_jax.export.arrays import npz, read_about, read_npz, read_safetensors, safetensors
from ist_jax.export.programs import program
from ist_jax.export.saving import save

__all__ = [
    "npz",
    "program",
    "read_about",
    "read_npz",
    "read_safetensors",
    "safetensors",
    "save",
]
