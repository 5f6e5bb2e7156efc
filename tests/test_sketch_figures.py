"""``python -m experiments.sketch``: every config measures and draws; mistakes are one line."""

import json
import subprocess
import sys

import forked
import pytest
from conftest import ROOT

from ist_jax.core.errors import InputError
from ist_jax.run import config_files, sketching

CONFIGS = [name for name in config_files.names() if name.startswith("sketch_")]


def tiny(name, **changes):
    config = config_files.load(name, "tiny")
    config.update_from_flattened_dict(changes)
    return config


def test_every_figure_has_a_config():
    named = {config_files.load(name).figure for name in CONFIGS}
    assert named == set(sketching.NAMES)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_measures_writes_and_draws(name, tmp_path):
    told = sketching.run(tiny(name), tmp_path / "one")
    assert f"{tmp_path}/one/figure.png" in told
    assert (tmp_path / "one" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    data = json.loads((tmp_path / "one" / "data.json").read_text())
    assert config["figure"] == sketching.figure(tiny(name)).__name__.rsplit(".", 1)[1]
    module = sketching.figure(tiny(name))
    assert told.startswith(module.summary(data))  # what is written is all that is needed to say it
    sketching.draw(module, data, tmp_path / "again.png")
    docstring = config_files.module(name).__doc__
    assert f"python -m experiments.sketch --config=configs/{name}.py" in docstring


@pytest.mark.parametrize("name", ["sketch_homogeneous"])
def test_the_same_config_gives_the_same_data(name, tmp_path):
    for folder in ("one", "two"):
        sketching.run(tiny(name), tmp_path / folder)
    one, two = ((tmp_path / f / "data.json").read_bytes() for f in ("one", "two"))
    assert one == two


def test_a_figure_is_never_replaced_without_being_asked(tmp_path):
    config = tiny("sketch_homogeneous")
    sketching.run(config, tmp_path / "one")
    with pytest.raises(InputError, match="holds a figure"):
        sketching.run(config, tmp_path / "one")
    config.step_sizes = (0.5,)
    sketching.run(config, tmp_path / "one", overwrite=True)
    assert list(json.loads((tmp_path / "one" / "data.json").read_text())["curves"]) == ["0.5"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis.txt and no figure"):
        sketching.run(config, tmp_path / "other", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        sketching.run(config, tmp_path / "file" / "run")
    with pytest.raises(InputError, match="is a file"):
        sketching.run(config, tmp_path / "file")


def test_a_mistake_leaves_the_figure_that_was_there(tmp_path):
    sketching.run(tiny("sketch_homogeneous"), tmp_path / "one")
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    for wrong in ({"condition": 0.5}, {"step_sizes": ()}):
        with pytest.raises(InputError):
            sketching.run(tiny("sketch_homogeneous", **wrong), tmp_path / "one", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/sketch_bias.py:tiny"], "--workdir is missing"),
        (
            ["--config=configs/quickstart.py", "--workdir=TMP"],
            "for training is for the command train",
        ),
        (["--config=configs/sketch_bias.py:small", "--workdir=TMP"], "one variant, 'tiny'"),
        (["--config=configs/sketch_bias.py", "--config.stepsize=1", "--workdir=TMP"], "step_size"),
        (
            ["--config=configs/sketch_bias.py:tiny", "--config.step_size=-1.0", "--workdir=TMP"],
            "config.step_size must be positive, found -1.0",
        ),
        (["configs/sketch_bias.py", "--workdir=TMP"], "what is 'configs/sketch_bias.py'?"),
        (["--workdir=TMP"], "try --config=sketch_bias"),
    ],
)
def test_a_wrong_command_exits_with_2_and_one_line(arguments, message, tmp_path):
    where = [argument.replace("TMP", str(tmp_path / "run")) for argument in arguments]
    done = forked.call("experiments.sketch", *where)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_command_that_shares_its_imports_is_as_one_that_does_not(tmp_path):
    words = ["--config=configs/sketch_bias.py:tiny", "--config.step_size=-1.0"]
    words.append(f"--workdir={tmp_path / 'run'}")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sketch", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    alone = (done.returncode, done.stdout, done.stderr)
    assert forked.call("experiments.sketch", *words) == alone
    assert done.returncode == 2
