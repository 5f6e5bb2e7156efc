"""What is installed: the core, and extras for what not everybody needs."""

import sys
import tomllib

import pytest
from conftest import ROOT

from ist_jax import data
from ist_jax.core.errors import InputError


def test_a_checkouts_requirements_are_the_core_and_two_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    expected = {*project["dependencies"], *extras["commands"], *extras["datasets"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == expected


def test_what_a_missing_library_is_in_is_said(monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"sklearn.*: pip install 'ist_jax\[commands\]'"):
        data.load("digits")
