"""Configs by name: files that come with the library, or are beside the one that asks.

A config file is a Python program with ``get_config(variant) -> ConfigDict``, or lists in YAML what
differs from the usual values (``yaml_files``). One derives from another by name::

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
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.run import schema, yaml_files

SUFFIXES = (".py", ".yaml", ".yml")


def folder() -> Path:
    """Where the configs are that come with the library."""
    library = Path(ist_jax.__file__).parent
    inside = library / "configs"
    return inside if inside.is_dir() else library.parent / "configs"


def names() -> list[str]:
    """Their names, in order."""
    return sorted(path.stem for path in folder().glob("[a-z]*") if path.suffix in SUFFIXES)


def find(name: str, beside: str | os.PathLike[str] | None = None) -> Path:
    """The file of a config.

    Args:
      beside: a config file, whose folder is looked into first; a file never finds itself.

    Raises:
      InputError: there is none of that name.
    """
    asking = None if beside is None else Path(beside).resolve()
    folders = [folder()] if asking is None else [asking.parent, folder()]
    for path in (place / f"{name}{suffix}" for place in folders for suffix in SUFFIXES):
        if path.is_file() and path.resolve() != asking:
            return path
    raise InputError(f"there is no config {name!r}{by_name.hint(name, names(), 'there are')}")


def module(name: str, beside: str | os.PathLike[str] | None = None) -> ModuleType:
    """The module of a config file in Python, run anew.

    Raises:
      InputError: there is none of that name.
    """
    return _run(find(name, beside))


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
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
      InputError: there is none of that name, or its YAML is wrong.
      ValueError: it has no such variant.
    """
    path = find(name, beside)
    if path.suffix == ".py":
        return _run(path).get_config(variant, **more)
    if variant:
        raise ValueError(f"{path} is YAML, which has no variants; found {variant!r}")
    return of_yaml(path)


def of_yaml(path: str | os.PathLike[str], below: tuple[Path, ...] = ()) -> ConfigDict:
    """The config that a YAML file describes.

    Args:
      below: the files that derive from it.

    Raises:
      InputError: what is wrong with it, by file, line and key; a file that derives from itself.
    """
    document = yaml_files.read(path)
    if not document.base:
        return yaml_files.lay(schema.default(), document)
    name, _, variant = document.base.partition(":")
    here = document.place("base")
    try:
        found = find(name, beside=path)
        if found.suffix == ".py":
            base = load(name, variant, beside=path)
        elif found.resolve() in below or variant:
            why = "has no variants" if variant else "derives from this one"
            raise InputError(f"base {document.base!r}: {found} {why}")
        else:
            base = of_yaml(found, (*below, Path(path).resolve()))
    except ValueError as error:  # an InputError too
        raise InputError(f"{here}{error}") from None
    return yaml_files.lay(base, document)


def get_config(path: str) -> ConfigDict:
    """What the flag ``--config=FILE.yaml`` calls: to ml_collections this module is its file."""
    return of_yaml(path)
