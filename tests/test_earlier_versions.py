"""What version 0.1 left on disk: run folders are read, and training goes on to the same bits.

``saved/before_0.2.tar.gz`` holds the first three rounds of a run of two commits of 0.1 (checkpoints
of format 1 and 2), and what those commits themselves came to after six: digests of every leaf, and
the net. Digests are of the machine they were made on; on others the net is compared.
"""

import hashlib
import importlib
import json
import os
import pathlib
import re
import tarfile

import jax
import jaxlib
import numpy as np
import pytest
from conftest import ROOT

from ist_jax.checkpoint import Checkpoints, about
from ist_jax.run import report, training, upgrade

pytestmark = pytest.mark.optimized

FORMATS = ("format_1", "format_2")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ROOT / "tests/saved/before_0.2.tar.gz") as file:
        file.extractall(folder, filter="data")
    return folder


def this_machine():
    flags = re.search(r"^flags.*\n", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "cpu": hashlib.sha256(flags[0].encode()).hexdigest()[:16] if flags else "unknown",
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
    }


def config_of(folder, **changes):
    """The config of a run folder, with whatever keys have come since."""
    config = upgrade.config_of(json.loads((folder / "config.json").read_text()))
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_of_an_earlier_version_goes_on_to_the_same_bits(saved, tmp_path, name):
    expected = json.loads((saved / "expected.json").read_text())
    run = tmp_path / "run"
    (saved / name).rename(run)
    training.run(config_of(run, rounds=6), run, resume=True)
    kept = Checkpoints(run / "checkpoints/ist_0")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for key, value in expected["metrics"][name].items():
        assert last[key] == pytest.approx(value, rel=1e-5), key
    params, _ = kept.net(6)
    with np.load(run / "round_6.npz") as wanted:
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            key = jax.tree_util.keystr(path, simple=True, separator=".")
            # Another processor rounds otherwise, and 24 steps make 2e-5 of it.
            np.testing.assert_allclose(leaf, wanted[key], rtol=1e-3, atol=1e-4)
    found = {key: leaf["digest"] for key, leaf in about.read(kept.folder, 6)["leaves"].items()}
    assert found.keys() == expected["digests"][name].keys(), "on disk, leaves keep their names"
    if expected["machine"] == this_machine():
        assert found == expected["digests"][name]


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_folder_of_an_earlier_version_is_reported(tmp_path, name):
    with tarfile.open(ROOT / "tests/saved/before_0.2.tar.gz") as file:
        file.extractall(tmp_path, filter="data")
    said = report.table([tmp_path / name])
    assert re.search(r"ist +\| +26\.25", said), said
    runs = importlib.import_module("experiments.pages.runs")
    run = runs.read(tmp_path / name)
    assert run.config["optimizer_state"] == "keep"
    assert "--config.optimizer_state=keep" in runs.commands([run])
