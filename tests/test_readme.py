"""What the README and the docstrings say is so."""

import ast
import doctest
import functools
import importlib
import pkgutil
import re

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


def test_the_five_functions_do_what_the_first_screen_says():
    model = MLP({"hidden0": 64, "hidden1": 64}, classes=10)
    x, key = data.load("digits").train_x[:8], jax.random.key(0)
    before, _ = axes.of(jax.jit(functools.partial(model.init, train=True))(key, x))
    names = {"model": model, "x": x, "key": key}
    exec(blocks("python")[0], names)
    assert names["widths"] == {"hidden0": 64, "hidden1": 64}
    assert names["who"]["hidden0"].shape == (8, 8)
    assert names["nets"]["params"]["hidden1"]["kernel"].shape == (8, 8, 8)
    assert same_bits(names["params"], before)


def test_the_training_loop_of_the_readme_trains():
    names: dict = {}
    exec(blocks("python")[1], names)
    assert names["accuracy"] > 0.9


def test_the_analysis_of_the_readme_runs():
    names: dict = {}
    exec(blocks("python")[2], names)
    assert names["runs"].x.shape == (100, 12)
    near = np.linalg.norm(names["runs"].x.mean(0) - names["stops_at"])
    assert near < 0.2 * np.linalg.norm(names["stops_at"] - names["problem"].solution)


@pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md", "docs/statements.md"])
def test_every_guarantee_and_statement_names_a_test_that_exists(page):
    table = (ROOT / page).read_text()
    if page == "README.md":
        table = table.split("## Guarantees")[1].split("\n## ")[0]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", table)
    heads = ("| guarantee", "| statement", "| ---")
    lines = table.splitlines()
    rows = [row for row in lines if row.startswith("| ") and not row.startswith(heads)]
    assert len(rows) >= 10
    assert all("::" in row for row in rows)
    for file, test in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, test


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


def test_the_library_imports_neither_flags_nor_experiments():
    for path in ROOT.glob("ist_jax/**/*.py"):
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        roots = {name.split(".")[0] for name in imported}
        assert not roots & {"absl", "experiments", "configs", "ml_collections"}, path
