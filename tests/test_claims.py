"""The figures of the README, run again: minutes each, by hand with ``pytest -m slow``."""

import json
import pathlib

import pytest

from ist_jax.data.sources.fashion_mnist import DEBIAN
from ist_jax.run import config_files, training

pytestmark = pytest.mark.slow


def accuracies(name, folder):
    config = config_files.load(name)
    training.run(config, folder)
    results = json.loads((folder / "summary.json").read_text())["results"]
    assert all(len(result["seeds"]) == 3 for result in results.values())
    return {method: 100 * result["accuracy_mean"] for method, result in results.items()}


def test_digits(tmp_path):
    """IST within a point of ordinary training; the ensemble visibly below IST."""
    reached = accuracies("quickstart", tmp_path / "run")
    assert reached["ist"] > reached["single"] - 1
    assert reached["ensemble"] < reached["ist"] - 1


@pytest.mark.skipif(
    not pathlib.Path(DEBIAN).is_dir(), reason="apt-get install dataset-fashion-mnist"
)
def test_fashion_mnist(tmp_path):
    """The order of the README's table, where it loses too."""
    reached = accuracies("fashion_mnist", tmp_path / "run")
    assert reached["ensemble"] < reached["ist"] < reached["dense_subnet"] < reached["local_sgd"]
    assert reached["local_sgd"] - reached["ist"] < 3.5
