"""The house stays one that a reader finds their way in: sizes, arrows, names."""

import ast
import builtins
import importlib
import inspect
import pathlib
import pkgutil

import pytest
from conftest import ROOT

import ist_jax

PACKAGE = ROOT / "ist_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A part may import what stands before it, and itself; parts of one line may not import each other.
FLOORS = (
    "core",
    "axes",
    "partition compress",
    "depth decompose local",
    "method optimizer_state models validate loss_check pruning theory",
    "named",
    "sharded data",
    "cost checkpoint tasks sketch export",
    "plan",
    "one_round",
    "trainer",
    "__init__",
    "run",
    "one_call",
    "commands",
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts.split()}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of_code(function):
    """Without what is said of it: a public function says its arguments, shapes and errors."""
    said = function.body[0] if ast.get_docstring(function) else None
    return function.end_lineno - function.lineno - (said.end_lineno - said.lineno if said else 0)


def nested(function):
    return [found for found in functions(function) if found is not function]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_one_idea_and_a_function_fits_on_a_screen(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 250
    for function in functions(ast.parse(source)):
        assert lines_of_code(function) < 60, function.name
        assert len(nested(function)) <= 3, function.name


def test_the_root_tells_the_method():
    assert len(list(PACKAGE.glob("*.py"))) <= 16


def part_of(name):
    return [*name.split("."), "__init__"][1]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ist_jax":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if _is_module(full) else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "ist_jax")


def _is_module(name):
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").exists()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return  # exports
    for name in imported(path):
        other = part_of(name)
        assert FLOOR[other] < FLOOR[own] or other == own, f"{name} stands above {own}"


def test_no_circle_within_a_part():
    """Modules as nodes, imports as arrows, also those inside of functions."""
    arrows = {}
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        arrows[name] = {found for found in imported(path) if found != name}
    done = set()
    while arrows:
        free = {name for name, to in arrows.items() if not (to & arrows.keys())}
        assert free, f"a circle: {sorted(arrows)}"
        done |= free
        arrows = {name: to for name, to in arrows.items() if name not in free}


def test_no_module_shadows_a_builtin_and_no_public_name_a_submodule():
    for path in MODULES:
        assert path.stem == "__init__" or not hasattr(builtins, path.stem), path
    packages = [
        found.name
        for found in pkgutil.walk_packages(ist_jax.__path__, "ist_jax.")
        if found.ispkg and found.name != "ist_jax.configs"
    ]
    for name in ["ist_jax", *packages]:
        package = importlib.import_module(name)
        folder = pathlib.Path(package.__file__).parent
        for public in (n for n in dir(package) if not n.startswith("_")):
            if not (folder / public).is_dir() and not (folder / f"{public}.py").exists():
                continue
            assert inspect.ismodule(getattr(package, public)), f"{name}.{public}"
