"""A method, a model, a data set, an optimizer of one's own: a file each, a word in a config."""

import json

import numpy as np
import pytest
from conftest import ROOT, tiny

import ist_jax
from ist_jax import data, named, partition
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.run import checks, optimizers, planning, training


@pytest.fixture(autouse=True)
def their_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "theirs"))


@pytest.fixture
def digits(tmp_path):
    found = data.load("digits")
    np.savez(tmp_path / "digits.npz", x=found.train_x, y=found.train_y)
    return str(tmp_path / "digits.npz")


def last(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def test_a_method_a_model_and_a_data_set_of_ones_own_train_together(tmp_path, digits):
    config = tiny(
        **{
            "methods": ("ist", "rolling:method", "local_sgd"),
            "data.name": "npz:load",
            "data.path": digits,
            "method_options.rolling:method.step": 2,
            "model.name": "attention:Attention",
            "model.widths": {"heads": 8},
            "normalise": "none",
            "optimizer.name": "adam",
            "optimizer.lr": 0.01,
            "rounds": 12,
            "eval_every": 12,
        }
    )
    config.data.options = {"part": 0.5}
    config.model.options = {"size": 4}
    training.run(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {name: plan["sub_widths"] for name, plan in summary["plans"].items()} == {
        "ist": {"heads": 2},
        "rolling:method": {"heads": 4},
        "local_sgd": {"heads": 8},
    }
    assert summary["data"]["train"] == len(data.load("digits").train_x) // 2
    assert last(tmp_path / "run")["accuracy/test"] > 0.3


def test_windows_roll(key):
    draw = named.find("rolling:method").draw
    first, second = (draw(key, partition.Context({"h": 8}, 4, n))["h"] for n in (0, 1))
    assert first[0].tolist() == [0, 1, 2, 3]
    assert second[3].tolist() == [0, 1, 2, 7]
    draw = named.find("rolling:method", step=3).draw
    assert draw(key, partition.Context({"h": 8}, 4, 1))["h"][0].tolist() == [3, 4, 5, 6]


def test_an_optimizer_of_optax_or_of_ones_own():
    assert {"sgd", "adam", "adamw", "lion", "rmsprop"} <= set(optimizers.known())
    assert "lbfgs" not in optimizers.known()
    assert optimizers.named("optax:adafactor")


def plan(config):
    checks.check(config)
    named.find(config.methods[0])
    planning.load(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "mpl"}, "no 'mpl'; did you mean 'mlp'. .or 'module:function'"),
        ({"model.name": "attention:Atention"}, "module 'attention' has no function 'Atention'"),
        ({"model.name": "nowhere:Net"}, "module 'nowhere' cannot be imported .ModuleNotFound"),
        ({"optimizer.name": "sdg"}, "no 'sdg'; did you mean 'sgd'"),
        ({"methods": ("rolling:windows",)}, "needs a value for key, context"),
        ({"methods": ("by_name_of_nothing:x",)}, "cannot be imported"),
        ({"data.name": "npz:lod"}, "module 'npz' has no function 'lod'"),
        (
            {"data.name": "npz:load", "data.options": {"prat": 1}},
            "no option .prat.; did you mean .part.",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_told(tmp_path, changes, said):
    options = changes.pop("data.options", {})
    config = tiny(**changes)
    config.data.options = options
    with pytest.raises(InputError, match=said):
        plan(config)


def test_what_a_module_raises_as_it_is_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        InputError, match=r"'broken_module' cannot be imported \(RuntimeError: no\)"
    ):
        by_name.found("broken_module:x", {}, "config.data.name")


@pytest.mark.parametrize("name", ["make", "Plain", "Module", "returns_linen"])
def test_a_model_of_any_form_trains_and_is_loaded(tmp_path, name):
    config = tiny(
        **{
            "methods": ("ist", "single"),
            "model.name": f"functions:{name}",
            "model.widths": {"hidden": 64},
            "normalise": "none",
            "rounds": 20,
            "eval_every": 20,
        }
    )
    training.run(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["plans"]["ist"]["sub_widths"] == {"hidden": 16}
    digits = data.load("digits")
    for method_ in ("ist", "single"):
        run = ist_jax.load(tmp_path / "run", method_, allow_code=True)
        right = (run.predict(digits.test_x).argmax(-1) == digits.test_y).mean()
        assert run.history["accuracy/test"][-1] == pytest.approx(right, abs=1e-6)
        assert right > 0.6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ordered", "permuting the neurons of group 'hidden' .* changes what is computed"),
        ("nothing", "returns .init, apply., or a module of Linen; it returned NoneType"),
        ("jax:jit", "does not fit model 'jax:jit': .* unexpected keyword argument 'widths'"),
    ],
)
def test_what_is_no_model_to_cut_is_told(name, said):
    named = name if ":" in name else f"functions:{name}"
    config = tiny(**{"model.name": named, "model.widths": {"hidden": 64}, "normalise": "none"})
    with pytest.raises(InputError, match=said):
        planning.dry_run(config)
