"""A config of any version as one of today: the library's own, those of run folders, words, errors.

``saved/configs_version_1.json`` holds what every config that came with the library was, variant by
variant, before there were versions: all keys once, and then what differs.
"""

import json
import re

import pytest
from conftest import ROOT, tiny

from ist_jax import named
from ist_jax.core.errors import InputError
from ist_jax.run import checks, compare, config_files, schema, upgrade

SAVED = json.loads((ROOT / "tests/saved/configs_version_1.json").read_text())
RUNS = sorted((ROOT / "docs/results/runs").glob("**/summary.json"))


def keys(config):
    return compare.flat(json.loads(compare.as_json(config)))


@pytest.mark.parametrize("name", SAVED["differ"])
def test_a_config_means_what_it_meant_before_there_were_versions(name):
    file, _, variant = name.partition(":")
    before = upgrade.config_of(SAVED["default"] | SAVED["differ"][name])
    assert keys(before) == keys(config_files.load(file, variant))


LATER = {"gcide", "gcide_study"}  # of version 2 from the start


def test_every_config_of_the_library_is_among_those_compared():
    ours = {name for name in config_files.names() if not name.startswith("sketch_")}
    assert {name.partition(":")[0] for name in SAVED["differ"]} == ours - LATER
    assert keys(upgrade.config_of(SAVED["default"])) == keys(schema.default())


def test_the_config_of_every_run_that_is_evidence_is_read_and_is_right():
    assert len(RUNS) > 50
    for path in RUNS:
        stored = json.loads(path.read_text())["config"]
        config = upgrade.config_of(stored)
        checks.check(config)
        assert keys(upgrade.config_of(compare.flat(stored))) == keys(config), path
        again = json.loads(compare.as_json(config))
        assert keys(upgrade.config_of(again)) == keys(config), "of today, nothing is left to do"
        assert again["version"] == schema.VERSION


OLD = {"assignment": "balanced", "shares": [1, 2], "min_depth": 3, "optimiser_state": "keep"}


@pytest.mark.parametrize(
    ("methods", "found"),
    [
        (["ist"], {"ist": {"assignment": "balanced", "shares": (1, 2)}}),
        (["dense_subnet"], {"ist": {"assignment": "balanced", "shares": (1, 2)}}),
        (["ensemble", "loft"], {"ensemble": {"assignment": "balanced", "shares": (1, 2)}}),
        (["shallow_ensemble"], {"resist": {"min_depth": 3}}),
        (["local_sgd"], {}),
    ],
)
def test_keys_of_drawing_became_options_of_those_that_look_at_them(methods, found):
    new = upgrade.upgrade({"methods": methods, **OLD})
    assert new.get("method_options", {}) == found
    assert new["optimizer_state"] == "keep"
    assert not new.keys() & OLD.keys()


def test_who_looks_at_whose_options_is_what_the_methods_are_meant_for():
    """Of the methods of version 1; those that came later have nothing to be moved."""
    later = {"dense_local_sgd", "dense_diloco", "dense_ensemble"}
    meant = {name: named.find(name).meant.narrow for name in named.METHODS.keys() - later}
    assert {name: narrow for name, narrow in meant.items() if narrow} == upgrade.LOOKS_AT


def test_options_of_many_labels_go_where_that_is_the_task():
    xmc = {"loss": "softmax", "sampled": 0, "block": 8192, "propensity": [0.6, 2.6]}
    new = upgrade.upgrade({"model": {"name": "xmc"}, "xmc": xmc})
    assert new["task"] == {"options": {"loss": "softmax", "propensity": (0.6, 2.6)}}
    assert upgrade.upgrade({"model.name": "mlp", "xmc.loss": "softmax"}) == {
        "model": {"name": "mlp"}
    }


@pytest.mark.parametrize(
    ("word", "methods", "words"),
    [
        ("--config.optimiser_state=keep", (), ["--config.optimizer_state=keep"]),
        ("--config.xmc.sampled=9", ("ist",), ["--config.task.options.sampled=9"]),
        ("--config.min_depth=6", ("local_sgd",), ["--config.method_options.resist.min_depth=6"]),
        (
            "--config.shares=(1, 2)",
            ("ist", "ensemble"),
            [f"--config.method_options.{name}.shares=(1, 2)" for name in ("ist", "ensemble")],
        ),
        ("--config.assignment=x", ("ensemble",), ["--config.method_options.ensemble.assignment=x"]),
        ("--config.workers=4", ("ist",), ["--config.workers=4"]),
        ("--workdir=assignment", ("ist",), ["--workdir=assignment"]),
        ("assignment=x", ("ist",), ["assignment=x"]),
    ],
)
def test_a_word_of_a_recorded_command_has_the_keys_of_today(word, methods, words):
    assert upgrade.of_today(word, methods) == words
    for new in words:
        assert upgrade.of_today(new, methods) == [new], "a key of today stays"


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"version": 3}, r"config\.version is 3, and ist_jax \S+ knows versions up to 2"),
        ({"version": "2"}, r"config\.version must be a whole number from 1, found '2'"),
        ({"version": True}, "found True"),
        ({"version": 0}, "found 0"),
        ({"version": 2, "min_depth": 2}, r"unknown key config\.min_depth"),
        ({"wrokers": 2}, r"unknown key config\.wrokers; did you mean 'workers'"),
        ({"optimizer": {"clib": 2}}, r"key config\.optimizer\.clib; did you mean 'clip'"),
        ({"optimizer": 2}, r"config\.optimizer must be a group of keys, found 2"),
        ({"workers": {"a": 1}}, r"config\.workers must be a value, found"),
    ],
)
def test_a_config_that_no_version_had_is_refused(stored, said):
    with pytest.raises(InputError, match=said):
        upgrade.config_of(stored)
    with pytest.raises(InputError, match=rf"^runs/a: .*{said}"):
        compare.same(tiny(), json.dumps(stored), "runs/a")


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "[" * 100_000, '{"a": ' * 5000])
def test_what_is_no_config_cannot_be_read(text):
    with pytest.raises(InputError, match=r"^here: .*(cannot be read|nested more than)"):
        compare.same(tiny(), text, "here")


def test_options_of_a_method_that_only_one_of_two_trains_are_not_compared():
    old = json.loads(compare.as_json(tiny(methods=("ist",))))
    new = tiny(**{"methods": ("ist", "resist"), "method_options.resist.min_depth": 2})
    compare.same(new, json.dumps(old), "here")
    new = tiny(**{"methods": ("ist", "resist"), "method_options.ist.assignment": "balanced"})
    said = r"config\.method_options\.ist\.assignment was 'not there', now it is 'balanced'"
    with pytest.raises(InputError, match=re.compile(said)):
        compare.same(new, json.dumps(old), "here")
    old["methods"] = ["dense_subnet"]  # its net is as wide as a subnet of ist
    with pytest.raises(InputError, match=re.compile(said)):
        compare.same(new, json.dumps(old), "here")
