"""Configs by name: files that come with the library, or lie beside the one that asks.

A config file is a Python program with ``get_config(variant) -> ConfigDict``. One derives from
another by name::

    config = config_files.load("quickstart", variant, beside=__file__)

The files are ``ist_jax/configs`` of an installed library, and ``configs`` of a checkout.
"""

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

import ist_jax
from ist_jax.core.errors import InputError


def folder() -> Path:
    """Where the configs lie that come with the library."""
    library = Path(ist_jax.__file__).parent
    inside = library / "configs"
    return inside if inside.is_dir() else library.parent / "configs"


def names() -> list[str]:
    """Their names, in order."""
    return sorted(path.stem for path in folder().glob("[a-z]*.py"))


def find(name: str, beside: str | os.PathLike[str] | None = None) -> Path:
    """The file of a config.

    Args:
      beside: a config file, whose folder is looked into first; a file never finds itself.

    Raises:
      InputError: there is none of that name.
    """
    asking = None if beside is None else Path(beside).resolve()
    folders = [folder()] if asking is None else [asking.parent, folder()]
    for path in (place / f"{name}.py" for place in folders):
        if path.is_file() and path.resolve() != asking:
            return path
    raise InputError(f"there is no config {name!r}; there are {', '.join(names())}")


def module(name: str, beside: str | os.PathLike[str] | None = None) -> ModuleType:
    """The module of a config file, run anew.

    Raises:
      InputError: there is none of that name.
    """
    path = find(name, beside)
    spec = importlib.util.spec_from_file_location(f"config_{name}", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def load(
    name: str, variant: str = "", beside: str | os.PathLike[str] | None = None, **more: Any
) -> ConfigDict:
    """A variant of the config of that name.

    Args:
      beside: the config file that derives from it, ``__file__``; its folder is looked into first.
      more: what else that file's ``get_config`` takes.

    Raises:
      InputError: there is none of that name.
      ValueError: it has no such variant.
    """
    return module(name, beside).get_config(variant, **more)
