"""Paths that users name: home folders, links to nothing, names that cannot be; and strict JSON."""

import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, tiny

from ist_jax import data
from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.run import compare, config_files, curves, metrics, report, saving, sketching, training


def test_home_folders_are_put_in_place_of_the_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs/a", "--workdir") == tmp_path / "runs" / "a"
    assert str(expanded("./~", "--workdir")) == "~"  # a folder of that name
    with pytest.raises(InputError, match=r"--workdir='~no_such_user/a': ~ stands for a home"):
        expanded("~no_such_user/a", "--workdir")


def test_no_home_and_no_user_is_told_at_once(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it then does
    with pytest.raises(
        InputError, match=r"data\.cache='~/\.cache/ist_jax'.*Write the path in full"
    ):
        expanded("~/.cache/ist_jax", "data.cache")


@pytest.mark.parametrize("name", ["a\0b", "x" * 256, "a/" * 3000, "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(name):
    with pytest.raises(InputError, match="no file can have that name"):
        expanded(name, "--out")


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "link", tmp_path / "link" / "run"):
        with pytest.raises(InputError, match=r"link is a link to .*gone, which is not there"):
            expanded(path, "--workdir")


@pytest.mark.parametrize(
    "name", ["fashion_mnist", "imagenet", "speech_commands", "xmc", "wordnet", "ogb", "planetoid",
             "debian_packages", "debian_graph", "reddit"],
)  # fmt: skip
def test_every_reader_takes_the_tilde(name):
    with pytest.raises(InputError, match=r"data\.path='~no_such_user/a'"):
        data.load(name, "~no_such_user/a")


def test_checkpoints_elsewhere_take_it_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = lambda folder: saving.folder(tiny(**{"checkpoint.folder": folder}), tmp_path / "run")
    assert place("~/kept") == f"{tmp_path}/kept"
    assert place("gs://bucket/~/kept") == "gs://bucket/~/kept"
    assert place("") == f"{tmp_path}/run/checkpoints"


def test_the_commands_take_it_in_every_flag(tmp_path):
    (tmp_path / "c.py").write_text((ROOT / "configs" / "sketch_homogeneous.py").read_text())
    call = lambda *words: subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    done = call("experiments.sketch", "--config=~/c.py:tiny", "--workdir=~/runs/a")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "a" / "data.json").exists()
    line = dict.fromkeys((*metrics.NUMBERS, "accuracy/test"), 1) | {"method": "ist"}
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    done = call("experiments.report", "~/runs/a", "--out=~/figure.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure.png").exists()
    assert not (ROOT / "~").exists()


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def test_a_number_that_is_none_is_named_where_it_is():
    assert strict_json.dumps({"a": [1, 0.5]}, "x") == '{"a": [1, 0.5]}'
    with pytest.raises(InputError, match=r"data\.json\['a'\]\[1\]\['b'\] is nan"):
        strict_json.dumps({"a": [1, {"b": math.nan}]}, "data.json")
    with pytest.raises(InputError, match=r"config\['b'\] is inf"):
        compare.as_json(tiny().__class__({"b": math.inf}))


def test_a_measure_that_does_not_exist_is_absent_and_why_is_said(monkeypatch, tmp_path):
    build = training.assemble.build

    def without_propensity(*arguments):
        job = build(*arguments)
        measured = lambda state: {**job.evaluate(state), "propensity_1/test": math.nan}
        return job._replace(evaluate=measured)

    monkeypatch.setattr(training.assemble, "build", without_propensity)
    training.run(tiny(), tmp_path / "run")
    texts = [path.read_text() for path in (tmp_path / "run").glob("*.json*")]
    for text in texts:
        for part in text.splitlines() if text.startswith('{"') else [text]:
            json.loads(part, parse_constant=refuse)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "propensity_1/test" not in line
    assert line["absent"]["propensity_1/test"].startswith("it came to nan: ")


def test_old_metrics_with_nan_are_still_read(tmp_path):
    line = dict.fromkeys((*metrics.NUMBERS, "accuracy/test"), 1) | {
        "method": "ist",
        "propensity_1/test": math.nan,
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert "NaN" in (tmp_path / "metrics.jsonl").read_text()
    assert "ist" in report.table([tmp_path])
    assert curves.figure([tmp_path], tmp_path / "figure.png").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "figure.png"}


def test_a_figure_whose_runs_diverged_leaves_what_was_there(tmp_path, monkeypatch):
    config = config_files.load("sketch_homogeneous", "tiny")
    sketching.run(config, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    module = sketching.figure(config)
    monkeypatch.setattr(module, "measure", lambda config: {"curves": np.full(3, np.inf).tolist()})
    with pytest.raises(InputError, match=r"data\.json\['curves'\]\[0\] is inf"):
        sketching.run(config, tmp_path / "run", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_folder_that_may_not_be_entered_is_told(monkeypatch, tmp_path):
    def stat(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "stat", stat)
    with pytest.raises(InputError, match=r"--workdir='.*' cannot be looked at: Permission denied"):
        expanded(tmp_path / "locked" / "run", "--workdir")
