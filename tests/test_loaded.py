"""A run in a folder: what ``fit`` leaves there, and what ``load`` gives of it."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from conftest import ROOT, tiny

import ist_jax
from ist_jax import data, export
from ist_jax.core.errors import InputError
from ist_jax.models.mlp import MLP
from ist_jax.run import lock, report, training

QUICK = {"rounds": 4, "local_steps": 2, "batch": 8, "eval_every": 2, "progress": False}
METHODS = ("ist", "local_sgd", "ensemble", "dense_subnet")


def net():
    return MLP({"hidden0": 16, "hidden1": 8}, classes=10)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def fitted(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted") / "run"
    return folder, ist_jax.fit(net(), digits, workdir=folder, **QUICK)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    training.run(tiny(methods=METHODS, seeds=(0, 1)), folder)
    return folder


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def timeless(lines):
    return [{k: v for k, v in x.items() if not k.startswith(("time/", "memory/"))} for x in lines]


def test_a_run_in_a_folder_is_the_run_in_memory(digits, fitted):
    folder, run = fitted
    other = ist_jax.fit(net(), digits, **QUICK)
    assert same(run.params, other.params)
    assert timeless(run.lines) == timeless(other.lines)
    assert report.read(folder / "metrics.jsonl")["ist", 0] == run.lines
    assert "| ist " in report.table([folder])


def test_it_is_not_overwritten_unasked_and_goes_on_if_asked(digits, fitted):
    folder, run = fitted
    with pytest.raises(InputError, match=r"holds a finished run.*\(resume\), or .*\(overwrite\)"):
        ist_jax.fit(net(), digits, workdir=folder, **QUICK)
    again = ist_jax.fit(net(), digits, workdir=folder, resume=True, **QUICK)
    assert same(run.params, again.params)
    longer = {**QUICK, "rounds": 6}
    on = ist_jax.fit(net(), digits, workdir=folder, resume=True, **longer)
    assert same(on.params, ist_jax.fit(net(), digits, **longer).params)
    with pytest.raises(InputError, match=r"local_steps was 2, now it is 3"):
        ist_jax.fit(net(), digits, workdir=folder, resume=True, **{**longer, "local_steps": 3})
    for more in ({"optimizer": optax.adam(0.1)}, {"loss": lambda out, y: (out**2).sum(-1)}):
        with pytest.raises(InputError, match="loss_and_optimizer was"):
            ist_jax.fit(net(), digits, workdir=folder, resume=True, **longer, **more)
    with pytest.raises(InputError, match=r"ist, seed 0 is past rounds=4: .* holds round 6"):
        ist_jax.fit(net(), digits, workdir=folder, resume=True, **QUICK)
    other = (digits.train_x[:500], digits.train_y[:500])
    with pytest.raises(InputError, match="trained on other data"):
        ist_jax.fit(net(), other, workdir=folder, resume=True, **longer)


STOPPED = """
import os, signal, sys
import ist_jax
from ist_jax.models.mlp import MLP
stop = lambda line: line["round"] == 2 and os.kill(os.getpid(), signal.SIGTERM)
try:
    ist_jax.fit(MLP({"hidden0": 16, "hidden1": 8}, classes=10), ist_jax.data.load("digits"),
                workdir=sys.argv[1], callbacks=[stop], rounds=4, local_steps=2, batch=8,
                eval_every=2, progress=False)
except Exception as error:
    print(type(error).__name__)
"""


def test_a_run_that_a_signal_stops_is_saved_and_goes_on_to_the_same_bits(digits, tmp_path):
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "Stopped\n"
    with pytest.raises(InputError, match="is not finished"):
        ist_jax.load(tmp_path / "run")
    run = ist_jax.fit(net(), digits, workdir=tmp_path / "run", resume=True, **QUICK)
    assert [line["round"] for line in run.lines] == [0, 2, 4]
    assert same(run.params, ist_jax.fit(net(), digits, **QUICK).params)


@pytest.mark.parametrize("name", METHODS)
def test_what_the_command_line_has_trained_answers_as_it_was_measured(trained, digits, name):
    run = ist_jax.load(trained, method=name, seed=1)
    right = (run.predict(digits.test_x).argmax(-1) == digits.test_y).mean()
    assert run.history["accuracy/test"][-1] == pytest.approx(right)
    assert (run.method, run.seed) == (name, 1)
    one = run.predict(digits.test_x[:1])
    np.testing.assert_allclose(one, run.predict(digits.test_x)[:1], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"\['n', 8, 8, 1\], found \[3, 7\]"):
        run.predict(np.ones((3, 7)))


@pytest.mark.slow
def test_nets_of_blocks_answer_with_their_gains(tmp_path):
    config = tiny(methods=("resist", "shallow_ensemble"), workers=2, rounds=2)
    config.model.name, config.model.options = "resnet", {"blocks": (3, 1, 1, 1), "base": 4}
    config.model.widths = {"stage1": 3}
    config.task.options = {}
    training.run(config, tmp_path / "run")
    digits = data.load("digits")
    for name in config.methods:
        run = ist_jax.load(tmp_path / "run", method=name)
        right = (run.predict(digits.test_x).argmax(-1) == digits.test_y).mean()
        assert run.history["accuracy/test"][-1] == pytest.approx(right), name


def test_a_net_is_saved_and_read_as_it_answers(fitted, digits, tmp_path):
    _, run = fitted
    x = digits.test_x[:5]
    for name, read in (("a.npz", export.read_npz), ("a.safetensors", export.read_safetensors)):
        run.save(tmp_path / name)
        found = read(tmp_path / name)
        logits = run.model.apply(found, x, train=False)
        np.testing.assert_allclose(logits, run.predict(x), rtol=1e-5, atol=1e-6)
    run.save(tmp_path / "a.stablehlo")
    program = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    for n in (1, 5):
        np.testing.assert_allclose(program.call(x[:n]), run.predict(x[:n]), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"must end with one of \.npz, \.safetensors"):
        run.save(tmp_path / "a.onnx")


def test_a_model_that_counts_its_inputs_is_saved_one_by_one(digits, tmp_path):
    def make(widths):
        init = lambda key: {
            "in": jax.random.normal(key, (64, widths["h"])) / 8,
            "out": jax.random.normal(key, (widths["h"], 10)) / widths["h"] ** 0.5,
        }
        return (
            init,
            lambda params, x: jax.nn.relu(x.reshape(len(x), 64) @ params["in"]) @ (params["out"]),
        )

    run = ist_jax.fit(make, digits, widths={"h": 16}, **QUICK)
    run.save(tmp_path / "a.stablehlo")
    program = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    x = digits.test_x[:3]
    np.testing.assert_allclose(program.call(x), run.predict(x), rtol=1e-5, atol=1e-6)


def test_a_figure_is_drawn_and_shown(fitted):
    _, run = fitted
    figure = run.plot("bytes")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "bytes" in figure.axes[0].get_xlabel() or "sent" in figure.axes[0].get_xlabel()
    with pytest.raises(InputError, match="steps, bytes, seconds, flops, one or several"):
        run.plot("minutes")


def changed(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def damaged_config(folder):
    (folder / "config.json").write_text("{")


def another_version(folder):
    changed(folder, version=99)


def no_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def unfinished(folder):
    (folder / "summary.json").unlink()


def others_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["name"] = "os:getcwd"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damaged_config, "config.json cannot be read"),
        (another_version, r"version is 99, and ist_jax [\d.]+ knows versions up to 2"),
        (no_checkpoints, "holds no checkpoint"),
        (unfinished, "is not finished: go on with it"),
        (others_code, "'os:getcwd'. It is run only with allow_code=True"),
    ],
)
def test_a_folder_that_cannot_be_loaded_says_why(trained, tmp_path, harm, said):
    shutil.copytree(trained, tmp_path / "run")
    harm(tmp_path / "run")
    with pytest.raises(InputError, match=said):
        ist_jax.load(tmp_path / "run", method="ist", seed=0)


def test_which_run_is_meant_must_be_said(trained, fitted, tmp_path):
    for more, said in (
        ({}, "more than one method: method= one of"),
        ({"method": "ist"}, "more than one seed: seed= one of"),
        ({"method": "isst"}, "no method 'isst'"),
        ({"method": "ist", "seed": 7}, "no seed 7"),
    ):
        with pytest.raises(InputError, match=said):
            ist_jax.load(trained, **more)
    with pytest.raises(InputError, match=r"holds no config\.json"):
        ist_jax.load(tmp_path)
    with pytest.raises(InputError, match="call fit as then"):
        ist_jax.load(fitted[0])
    with (
        lock.held(trained),
        pytest.raises(InputError, match=rf"still going \(process {os.getpid()}"),
    ):
        ist_jax.load(trained, method="ist", seed=0)
