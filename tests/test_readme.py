"""What the README and the docstrings say is so."""

import ast
import doctest
import functools
import importlib
import json
import pkgutil
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, same_bits

import ist_jax
from ist_jax import axes, data, decompose, partition
from ist_jax.models.mlp import MLP

README = (ROOT / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(ist_jax.__path__, "ist_jax.")]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_one_call_of_the_readme_trains_and_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(blocks("python")[0], names)
    assert names["run"].history["accuracy/test"][-1] > 0.9
    assert (tmp_path / "net.safetensors").stat().st_size > 4 * 64 * 256


def test_the_five_functions_do_what_the_first_screen_says():
    model = MLP({"hidden0": 64, "hidden1": 64}, classes=10)
    x, key = data.load("digits").train_x[:8], jax.random.key(0)
    before, _ = axes.of(jax.jit(functools.partial(model.init, train=True))(key, x))
    names = {"model": model, "x": x, "key": key}
    exec(blocks("python")[1], names)
    assert names["widths"] == {"hidden0": 64, "hidden1": 64}
    assert names["who"]["hidden0"].shape == (8, 8)
    assert names["nets"]["params"]["hidden1"]["kernel"].shape == (8, 8, 8)
    assert same_bits(names["params"], before)


def test_the_training_loop_of_the_readme_trains():
    names: dict = {}
    exec(blocks("python")[2], names)
    assert names["accuracy"] > 0.9


def test_the_analysis_of_the_readme_runs():
    names: dict = {}
    exec(blocks("python")[3], names)
    assert names["runs"].x.shape == (100, 12)
    near = np.linalg.norm(names["runs"].x.mean(0) - names["stops_at"])
    assert near < 0.2 * np.linalg.norm(names["stops_at"] - names["problem"].solution)


NAMING = ("README.md", "docs/guarantees.md", "docs/statements.md")
NAMED = re.compile(r"`(test_\w+\.py::test_\w+)`( \(slow\))?")
COLLECT = """
import json, sys
import pytest

class Tests:
    def pytest_collection_finish(self, session):
        self.cases = {}
        for item in session.items:
            name = f"{item.path.name}::{item.originalname}"
            marks = {mark.name for mark in item.iter_markers()}
            self.cases.setdefault(name, []).append(sorted(marks & {"slow", "skip", "xfail"}))

tests = Tests()
code = pytest.main(["--collect-only", "-qq", "-m", "", *sys.argv[2:]], plugins=[tests])
open(sys.argv[1], "w").write(json.dumps(tests.cases))
sys.exit(code)
"""


def table_of(page):
    table = (ROOT / page).read_text()
    return table.split("## Guarantees")[1].split("\n## ")[0] if page == "README.md" else table


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """What Pytest collects of the files that are named: of each test, the marks of its cases."""
    out = tmp_path_factory.mktemp("collected") / "tests.json"
    names = {name for page in NAMING for name, _ in NAMED.findall(table_of(page))}
    files = sorted({f"tests/{name.split('::')[0]}" for name in names})
    command = [sys.executable, "-c", COLLECT, str(out), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return json.loads(out.read_text())


@pytest.mark.parametrize("page", NAMING)
def test_every_guarantee_and_statement_names_tests_that_are_run(page, collected):
    """And says so of those that only ``pytest -m slow`` runs."""
    table = table_of(page)
    heads = ("| guarantee", "| statement", "| ---")
    lines = table.splitlines()
    rows = [row for row in lines if row.startswith("| ") and not row.startswith(heads)]
    assert len(rows) >= 10
    assert all(NAMED.search(row) for row in rows)
    assert len(NAMED.findall(table)) == table.count(".py::"), "each is named in the same way"
    wrong = []
    for name, slow in NAMED.findall(table):
        run = [marks for marks in collected.get(name, []) if not {"skip", "xfail"} & set(marks)]
        if not run:
            wrong.append(f"{name} is not run")
        elif all("slow" in marks for marks in run) != bool(slow):
            wrong.append(f"{name} is {'not ' * bool(slow)}slow")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_lead_to_files(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(
        r"(?<![\w/])(?:configs|benchmarks|docs|tests|ist_jax|experiments)/[\w/]+\.\w+", text
    ):
        assert (ROOT / target).exists(), target
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert module == "pytest" or importlib.util.find_spec(module), module


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_the_five_functions_have_examples():
    public = (axes.of, partition.permutation, decompose.gather)
    assert all(">>>" in function.__doc__ for function in public)


def test_flags_are_the_commands_and_nobody_imports_experiments():
    """``run`` knows configs, and no flags; what is below it knows neither."""
    for path in ROOT.glob("ist_jax/**/*.py"):
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        roots = {name.split(".")[0] for name in imported}
        folder = path.relative_to(ROOT / "ist_jax").parts[0]
        assert folder == "commands" or not any("ist_jax.commands" in name for name in imported), (
            path
        )
        allowed = {"commands": {"absl", "ml_collections"}, "run": {"ml_collections"}}
        assert not roots & (
            {"absl", "experiments", "configs", "ml_collections"} - allowed.get(folder, set())
        ), path
