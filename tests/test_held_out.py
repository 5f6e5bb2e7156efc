"""A part of the training data held out for validation: which one, and that nothing learns of it."""

import collections
import json
import math

import numpy as np
import pytest
from conftest import tiny

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import Dataset, held_out
from ist_jax.data.clusters import Clusters, Labels, Nodes
from ist_jax.data.sparse import Rows
from ist_jax.run import assemble, checks, compare, planning, training


def numbered(labels, test=4):
    """Examples that are their own numbers."""
    n = len(labels)
    x = np.arange(n, dtype=np.float32)[:, None]
    other = np.zeros((test, 1), np.float32), np.zeros(test, np.int32)
    return Dataset("numbers", x, np.asarray(labels, np.int32), *other, 1 + max(labels)).checked()


def hamilton(counts, share_of_1000):
    """The quota of each label, in whole numbers of thousandths."""
    exact = [count * share_of_1000 for count in counts]
    quotas = [part // 1000 for part in exact]
    left = (2 * sum(exact) + 1000) // 2000 - sum(quotas)
    order = sorted(range(len(counts)), key=lambda i: (-(exact[i] % 1000), i))
    for i in [i for i in order if quotas[i] < counts[i] - 1][:left]:
        quotas[i] += 1
    return quotas


@pytest.mark.parametrize("share", [1, 100, 290, 333, 500, 999])
def test_every_label_gives_its_share_and_keeps_an_example(share):
    draw = np.random.default_rng(share)
    for _ in range(20):
        counts = draw.integers(1, 60, size=draw.integers(1, 12))
        labels = draw.permutation(np.repeat(np.arange(len(counts)), counts))
        stay, held = held_out.split(len(labels), labels, share / 1000, 3)
        assert sorted([*stay, *held]) == list(range(len(labels)))
        assert list(stay) == sorted(stay)
        assert list(held) == sorted(held)
        found = np.bincount(labels[held], minlength=len(counts))
        assert found.tolist() == hamilton(counts.tolist(), share)
        assert set(labels[stay]) == set(labels)


def test_within_a_label_every_example_may_be_held_out():
    times = collections.Counter()
    for seed in range(300):
        times.update(held_out.split(20, np.repeat([0, 1], 10), 0.2, seed)[1].tolist())
    assert sorted(times) == list(range(20))
    expected, deviation = 300 * 0.2, math.sqrt(300 * 0.2 * 0.8)
    assert max(abs(n - expected) for n in times.values()) < 4.5 * deviation


def test_the_part_depends_on_the_seed_alone_and_the_digest_says_which():
    whole = numbered([0, 1] * 50)
    one, again, other = (held_out.hold_out(whole, 0.1, seed) for seed in (0, 0, 1))
    more = held_out.hold_out(whole, 0.2, 0)
    assert one.sha256 == again.sha256
    assert len({whole.sha256, one.sha256, other.sha256, more.sha256}) == 4
    np.testing.assert_array_equal(one.validation_x[:], again.validation_x[:])
    assert held_out.hold_out(whole, 0.0, 0) is whole
    unknown = held_out.hold_out(whole._replace(sha256=""), 0.1, 0)
    assert not unknown.sha256


class Lazy:
    """Indexed like an array, and notes what was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, chosen):
        self.read.append(np.size(chosen))
        return self.array[chosen]


def test_mapped_files_and_things_indexed_like_arrays_are_not_read(tmp_path):
    whole = numbered([0, 1, 2] * 40)
    np.save(tmp_path / "x.npy", whole.train_x)
    lazy, mapped = Lazy(whole.train_x), np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = held_out.hold_out(whole, 0.25)
    for x in (lazy, mapped):
        found = held_out.hold_out(whole._replace(train_x=x), 0.25)
        assert found.train_x.shape == (90, 1)
        assert found.train_x.dtype == np.float32
        assert lazy.read == []
        chosen = np.array([[0, 5], [89, 2]])
        for part, same in ((found.train_x, expected.train_x), (found.validation_x, None)):
            assert part[:3].shape == (3, 1)
            assert part[np.array([[0, 5], [29, 2]])].shape == (2, 2, 1)
            if same is not None:
                np.testing.assert_array_equal(part[chosen], same[chosen])
        lazy.read.clear()


def test_the_published_outline_takes_no_memory():
    found = held_out.hold_out(data.outline("imagenet"), 0.1)
    assert found.train_x.shape == (1_281_167 - 128_117, 224, 224, 3)
    assert held_out.count(found) == 128_117


@pytest.mark.parametrize(
    "changes",
    [{}, {"data.split": "all"}, {"data.skew": 1.0}, {"workers": 2, "data.batch": 7}],
    ids=str,
)
def test_what_is_held_out_is_in_no_batch_and_in_no_statistics(monkeypatch, changes):
    """Examples carry their number in a pixel; every worker, seed and epoch is looked at."""
    real = data.load("digits")
    marked = real.train_x.copy()
    marked.reshape(len(marked), -1)[:, 0] = np.arange(len(marked))
    monkeypatch.setattr(
        planning.datasets, "load", lambda *_, **__: real._replace(train_x=marked, sha256="")
    )
    config = tiny(seeds=(0, 1), **{"data.validation": 0.3, "data.validation_seed": 5}, **changes)
    found = planning.load(config)
    number = lambda x: set(np.asarray(x).reshape(-1, marked[0].size)[:, 0].astype(int).tolist())
    held = number(found.validation_x[:])
    assert len(held) == held_out.count(found) == round(0.3 * len(marked))
    seen = collections.Counter()
    job = assemble.build(config, found, "ist", {})
    for seed in config.seeds:
        batches = job.batches(seed)
        for step in range(1 + 2 * len(marked) // (config.local_steps * config.data.batch)):
            for worker in batches(step)["x"]:
                seen.update(number(worker))
    assert not held & seen.keys()
    assert len(seen) == len(marked) - len(held), "and all the others are learnt"
    assert not held & number(found.train_x[: config.statistics_examples])


def test_a_run_measures_both_parts_and_its_statistics_are_of_the_rest(monkeypatch, tmp_path):
    """With every held-out input infinite, a single one in training or statistics would show."""
    real = data.load("digits")
    config = tiny(rounds=2, top=2, **{"data.validation": 0.2, "checkpoint.every": 1})
    _, held = held_out.split(len(real.train_y), real.train_y, 0.2, 0)
    spoilt = real.train_x.copy()
    spoilt[held] = np.inf
    monkeypatch.setattr(planning.datasets, "load", lambda *_, **__: real._replace(train_x=spoilt))
    training.run(config, tmp_path / "spoilt")
    monkeypatch.undo()
    training.run(config, tmp_path / "run")
    read = lambda name: [
        json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    ]
    for line, other in zip(read("run"), read("spoilt"), strict=True):
        assert {"accuracy/test", "accuracy_top2/test"} <= line.keys()
        assert {"accuracy/validation", "accuracy_top2/validation"} <= line.keys()
        assert line["accuracy/test"] == other["accuracy/test"]
        assert line.get("loss/train") == other.get("loss/train")
    assert line["accuracy/validation"] > 0.3
    about = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]
    assert (about["train"], about["validation"]) == (len(real.train_y) - len(held), len(held))
    config.data.validation_seed = 1
    with pytest.raises(InputError, match=r"config\.data\.validation_seed was 0, now it is 1"):
        training.run(config, tmp_path / "run", resume=True)


def test_sparse_rows_of_a_part_are_the_rows_of_the_whole():
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 5, size=30)
    starts = np.concatenate([[0], np.cumsum(counts)])
    ids = draw.integers(0, 9, size=starts[-1]).astype(np.int32)
    whole = Rows(starts, ids, draw.normal(size=len(ids)).astype(np.float32), 9)
    some = np.sort(draw.permutation(30)[:11])
    part = whole.only(some)
    assert len(part) == 11
    assert part.most == whole.most
    for name in ("ids", "values"):
        np.testing.assert_array_equal(part[:][name], whole[some][name])
        np.testing.assert_array_equal(
            part[np.array([[3], [0]])][name], whole[some[[[3], [0]]]][name]
        )
    entries = np.concatenate([ids[starts[i] : starts[i + 1]] for i in some])
    np.testing.assert_array_equal(part.counts(), np.bincount(entries, minlength=9))
    np.testing.assert_array_equal(whole.counts(), np.bincount(ids, minlength=9))
    assert part.a_row == len(entries) / 11
    assert whole.a_row == len(ids) / 30


def sparse_set(folder, n=60):
    """Examples with two labels; the only feature of one is its own number."""
    rows = "".join(f"{i % 5},5 {i}:1\n" for i in range(n))
    (folder / "train.txt").write_text(f"{n} {n} 6\n{rows}")
    (folder / "test.txt").write_text(f"1 {n} 6\n0 0:1\n")


def test_a_sparse_set_with_several_labels_holds_a_plain_random_part_out(tmp_path):
    sparse_set(tmp_path)
    changes = {"data.path": str(tmp_path), "data.cache": str(tmp_path / "cache")}
    config = tiny(rounds=3, workers=2, normalise="none", eval_every=3, **changes)
    config.data.name, config.model.name, config.data.batch = "xmc", "xmc", 5
    config.model.widths, config.data.validation = {"hidden0": 8}, 0.25
    found = planning.load(config)
    held = set(found.validation_x[:]["ids"][:, 0].tolist())
    assert len(held) == len(found.validation_y) == 15
    labels = [i % 5 for i in range(60) if i not in held] + [5] * 45
    assert found.train_y.counts().tolist() == np.bincount(labels).tolist(), "as propensities take"
    job = assemble.build(config, found, "data_parallel", {})
    batches = job.batches(0)
    seen = {i for step in range(10) for i in batches(step)["x"]["ids"].ravel().tolist()}
    assert seen == set(range(60)) - held
    training.run(config, tmp_path / "run")
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"accuracy/validation", "precision_5/validation", "propensity_1/test"} <= line.keys()


def test_a_graph_has_validation_nodes_of_its_own():
    from test_nodes import GRAPH, OF

    examples = Clusters(GRAPH, OF)
    toy = Nodes("toy", GRAPH, examples, Labels(examples, GRAPH), OF, 3, "real", "")
    with pytest.raises(InputError, match=r"validation=0\.1: the graph toy has validation nodes of"):
        held_out.hold_out(toy, 0.1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, r"config\.data\.validation must be from 0 and below 1, found 1\.0"),
        (-0.1, "from 0 and below 1, found -0.1"),
        ("a tenth", "must be a number, found 'a tenth'"),
        (1e-5, r"validation=1e-05 of the 898 training examples of digits is less than one"),
    ],
)
def test_a_share_that_cannot_be_held_out_is_refused(value, message):
    config = tiny()
    with config.ignore_type():
        config.data.validation = value
    with pytest.raises(InputError, match=message):
        planning.load(config) if value == 1e-5 else checks.check(config)


def test_a_config_that_is_older_than_the_keys_is_the_same():
    config = tiny()
    stored = json.loads(compare.as_json(config))
    del stored["data"]["validation"], stored["data"]["validation_seed"]
    compare.same(config, json.dumps(stored), "run")
    config.data.validation = 0.1
    with pytest.raises(InputError, match=r"config\.data\.validation was 0\.0, now it is 0\.1"):
        compare.same(config, json.dumps(stored), "run")
