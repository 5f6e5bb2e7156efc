"""Models of five frameworks, as a user would write them, train with IST (tests/recipes)."""

import importlib
import re
import statistics

import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import ROOT
from recipes import fitting

from ist_jax import axes

FRAMEWORKS = ("linen", "nnx", "equinox", "haiku", "raw")
LIBRARIES = {"equinox": "equinox", "haiku": "haiku"}
WIDTHS = {"hidden0": 256, "hidden1": 256}
HEADS = {"heads": 8, "inner": 64}
OURS = 0.9722  # ist_jax.models.mlp.MLP of these widths, standardised: the mean of seeds 0, 1, 2


@pytest.fixture(params=FRAMEWORKS)
def recipe(request):
    if library := LIBRARIES.get(request.param):
        pytest.importorskip(library, reason=f"{library} is in the extra dev")
    return importlib.import_module(f"recipes.{request.param}")


def check_of(make):
    """What the model says of eight images."""
    x = fitting.digits().test_x[:8]
    return lambda params, widths: jax.tree.leaves(make(widths)[1](params, x))


@pytest.mark.parametrize(
    ("kind", "widths"), [("attention", HEADS), ("tied", {"hidden0": 12, "hidden1": 8})]
)
def test_names_are_found_and_no_group_has_an_order(recipe, kind, widths):
    make = getattr(recipe, kind)
    names = axes.infer(make, widths, check=check_of(make))
    assert axes.widths(jax.eval_shape(make(widths)[0], jax.random.key(0)), names) == widths


def test_a_plain_net_trains_with_ist_as_well_as_ours(recipe):
    assert fitting.run_of(recipe.mlp(), WIDTHS)(0) > OURS - 0.01


IMPORTS = """
import jax, jax.numpy as jnp
import flax.linen as nn, flax.nnx as nnx
"""
SECTIONS = {"Flax Linen": "", "Flax NNX": "", "Trees of arrays": ""}
SECTIONS |= {"Equinox": "import equinox as eqx", "Haiku": "import haiku as hk"}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_shows_models_whose_names_are_found(section):
    if library := LIBRARIES.get(section.lower()):
        pytest.importorskip(library, reason=f"{library} is in the extra dev")
    page = (ROOT / "docs" / "your_model.md").read_text()
    code = re.search(rf"\n## {section}\n+```python\n(.*?)```", page, re.DOTALL).group(1)
    names: dict = {}
    exec(IMPORTS + SECTIONS[section] + "\n" + code, names)
    make, x = names["make"], fitting.digits().test_x[:8]
    said = lambda params, widths: make(widths)[1](params, x.reshape(8, 64))
    check = lambda params, widths: jax.tree.leaves(said(params, widths))[0]  # no statistics
    found = axes.infer(make, {"hidden0": 12, "hidden1": 8}, check=check)
    shapes = jax.eval_shape(make({"hidden0": 12, "hidden1": 8})[0], jax.random.key(0))
    assert axes.widths(shapes, found) == {"hidden0": 12, "hidden1": 8}


def mean_of(make, widths, optimizer=None):
    run = fitting.run_of(make, widths, optimizer)
    return statistics.mean(run(seed) for seed in range(3))


VARIANTS = [
    {"norm": "batch"},
    {"norm": "layer"},
    {"norm": "layer, plain"},
    {"norm": "rms"},
    {"dropout": 0.2},
    {"dtype": jnp.bfloat16},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_what_is_normalised_trains_as_well_as_ours(recipe, options):
    assert mean_of(recipe.mlp(**options), WIDTHS) > OURS - 0.01


@pytest.mark.slow
def test_what_is_not_normalised_falls_behind(recipe):
    assert mean_of(recipe.mlp("none"), WIDTHS) < OURS - 0.04


@pytest.mark.slow
def test_tied_weights_train(recipe):
    assert mean_of(recipe.tied, WIDTHS) > OURS - 0.02


@pytest.mark.slow
def test_attention_trains_by_heads(recipe):
    assert mean_of(recipe.attention, HEADS, optax.adam(0.01)) > 0.85
