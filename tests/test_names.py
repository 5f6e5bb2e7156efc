"""Names: no module has that of a builtin, or of what its package exports; and the extras."""

import ast
import builtins
import tomllib

import pytest
from conftest import ROOT

FOLDERS = sorted({path.parent for path in (ROOT / "ist_jax").rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_module_is_named_as_a_builtin_or_as_what_its_package_exports(folder):
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    modules |= {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    assert not modules & {*dir(builtins)}
    exported = set()
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            exported.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(folder.relative_to(ROOT).parts)
            own = node.module == package  # what is imported from there is a module
            exported |= set() if own else {name.asname or name.name for name in node.names}
    assert not exported & modules


def test_a_checkouts_requirements_are_the_core_and_two_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    expected = {*project["dependencies"], *extras["commands"], *extras["datasets"]}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == expected
