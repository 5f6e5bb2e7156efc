"""Every config that comes with the library: passes its own check, can be built, and trains."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import graph
from ist_jax.data.clusters import clustered
from ist_jax.run import assemble, checks, config_files, lottery, planning, training

CONFIGS = [name for name in config_files.names() if not name.startswith("sketch_")]
SPARSE = ("amazon670k", "debian_packages")  # test_xmc.py trains such a net
RESIST = (
    pytest.param("cifar10_resist", marks=pytest.mark.slow),  # as the next
    "cifar100_resist",
    pytest.param("imagenet_resist", marks=pytest.mark.slow),
)


def some_data(config):
    """The digits, or nothing but the shape of what is not here."""
    if config.data.name == "digits":
        return data.load("digits")
    if config.model.name == "graph":
        edges = np.arange(600).reshape(2, 300)
        part, features = np.arange(600) % 3, np.ones((600, 256), np.float32)
        made = graph.build("toy", features, edges, np.arange(600) % 45, part)
        return clustered(lambda *_, **__: made)()
    name = config.data.name.replace("synthetic", "commands")
    return data.outline(name, **config.data.options)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", ["", "tiny"])
def test_every_config_passes_its_own_check(name, variant):
    checks.check(config_files.load(name, variant))
    with pytest.raises(ValueError, match="found 'other'"):
        config_files.load(name, "other")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        *((name, "tiny") for name in CONFIGS if name not in SPARSE),
        *((name, "") for name in ("fashion_resist", "fashion_loft", "speech_3layer")),
    ],
)
def test_every_method_of_a_config_can_be_built(name, variant):
    config = config_files.load(name, variant)
    if config.model.name == "graph":
        config.data.batch = 1  # the whole graph
    jobs = assemble.jobs(config, some_data(config))
    assert list(jobs) == list(config.methods)
    for job in jobs.values():
        assert 0 < job.costs.parameters <= job.costs.net_parameters


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in SPARSE])
def test_every_config_has_a_plan(name, monkeypatch):
    config = config_files.load(name, "tiny")
    if config.model.name == "graph":
        config.data.batch = 1
    monkeypatch.setattr(planning, "load", some_data)
    said = planning.dry_run(config)
    for method in config.methods:
        assert any(line.startswith(f"{method}: ") for line in said.splitlines())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": {"features": 255}}, r"widths\.features=255, but toy has 256"),
        ({"widths": {"labels": 46}}, r"widths\.labels=46, but toy has 45"),
        ({"widths": {"hidden3": 4}}, r"groups are hidden0, hidden1, \.\.\.; found"),
        ({"faults": "nan:0@1"}, "nan spoils a number of a worker's batches; those of a graph"),
        ({"methods": ("ensemble",)}, 'Let those be a group: "labels":45 in config.model.widths'),
        ({"methods": ("resist",)}, "resist is for nets cut by depth"),
        ({"methods": ("shallow_ensemble",)}, "shallow_ensemble is for nets cut by depth"),
    ],
)
def test_what_does_not_fit_a_graph(changes, message):
    config = config_files.load("wordnet_sage", "tiny")
    config.data.batch = 1
    config.model.widths.update(changes.pop("widths", {}))
    config.update(changes)
    with pytest.raises(InputError, match=message):
        assemble.jobs(config, some_data(config))


@pytest.mark.parametrize(
    "methods",
    [
        ("ensemble",),
        pytest.param(("ist", "local_sgd", "data_parallel", "dense_subnet"), marks=pytest.mark.slow),
    ],
    ids="/".join,
)
def test_every_other_method_trains_a_graph_whose_ends_are_groups(tmp_path, monkeypatch, methods):
    config = config_files.load("wordnet_sage", "tiny")
    config.methods = methods
    config.data.batch, config.normalise, config.seeds = 1, "scale", (0,)
    config.model.widths = ConfigDict({"features": 256, "hidden0": 9, "hidden1": 16, "labels": 45})
    monkeypatch.setattr(planning, "load", some_data)
    training.run(config, tmp_path / "run")
    with pytest.raises(InputError, match="prunes hidden neurons; 'features' are a group"):
        lottery.run(config.copy_and_resolve_references(), tmp_path / "run")


@pytest.mark.slow
def test_the_plain_resist_config_trains(tmp_path):
    """All its methods: ResIST, local SGD and nets as deep as a subnet."""
    config = config_files.load("fashion_resist", "tiny")
    config.data.name = "digits"
    training.run(config, tmp_path / "run")


@pytest.mark.parametrize("name", RESIST)
def test_those_with_other_data_train_on_mock_data_of_its_builder(name, tmp_path):
    config = config_files.load(name, "tiny")
    config.data.path = str(tmp_path)
    if name == "imagenet_resist":
        config.data.cache = str(tmp_path / "cache")
    with tfds.testing.mock_data(num_examples=300):
        training.run(config, tmp_path / "run")
