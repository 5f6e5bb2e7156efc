"""The packages of the wheel: ``ist_jax`` and, as ``ist_jax.configs``, the folder ``configs``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ist_jax*"]), "ist_jax.configs"],
    package_dir={"ist_jax.configs": "configs"},
)
