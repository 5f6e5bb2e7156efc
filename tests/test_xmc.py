"""Extreme classification: the text format, Debian's packages, the measures, a run."""

import contextlib
import gzip
import hashlib
import json
import os
import time

import jax
import numpy as np
import pytest
from conftest import same_bits, tiny

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import files
from ist_jax.data.sources import debian, sparse_text
from ist_jax.models import normalise
from ist_jax.models.xmc import XMC
from ist_jax.run import planning, training
from ist_jax.tasks import many_labels

GOOD = "3 6 4\n0,3 1:0.5 5:-2\n 0:1e-1\n2 \n"


def put(tmp_path, train=GOOD, test=GOOD):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text(train)
    (folder / "test.txt").write_text(test)
    return str(folder)


def load(tmp_path, train=GOOD, test=GOOD, **options):
    cache = str(tmp_path / "cache")
    return data.load("xmc", put(tmp_path, train, test), cache=cache, **options)


def test_the_text_is_read_with_the_largest_entries_first(tmp_path):
    found = load(tmp_path)
    assert (found.features, found.classes, found.skipped, len(found.sha256)) == (6, 4, 0, 64)
    assert load(tmp_path, train=GOOD.replace("0.5", "0.6")).sha256 != found.sha256
    x, y = found.train_x[:], found.train_y[:]
    assert x["ids"].tolist() == [[5, 1], [0, 6], [6, 6]]
    np.testing.assert_allclose(x["values"], [[-2, 0.5], [0.1, 0], [0, 0]])
    assert y.tolist() == [[0, 3], [4, 4], [2, 4]]
    assert isinstance(found.train_x._values, np.memmap)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,3 1:0.5 6:1", r"train.txt, line 3: feature 6 is out of range, expected 0 to 5"),
        ("4 1:0.5", r"train.txt, line 3: label 4 is out of range, expected 0 to 3"),
        ("0 1:abc", r"train.txt, line 3: '1:abc' is no feature and number"),
        ("0 1:nan", r"line 3: '1:nan' is no feature"),
        ("0 1:1e99", r"line 3: a value is too large"),
        ("0 1:1:2", r"line 3: '1:1:2' is no feature"),
        ("0 1", r"line 3: '1' is no feature"),
        ("a,1 1:2", r"line 3: 'a,1' are no labels"),
        ("0 1:2 1:3", r"line 3: a feature stands there twice"),
        ("1,1 1:2", r"line 3: a label stands there twice"),
        ("-1 1:2", r"line 3: '-1' are no labels"),
    ],
)
def test_a_bad_line_is_named_or_counted_and_left_out(tmp_path, capfd, line, message):
    text = f"3 6 4\n0 1:1\n{line}\n1 2:2\n"
    with pytest.raises(InputError, match=message):
        load(tmp_path, train=text)
    found = load(tmp_path, train=text, skip_bad=True)
    assert (len(found.train_x), found.skipped) == (2, 1)
    assert found.train_y[:].tolist() == [[0], [1]]
    assert "1 bad lines were left out" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected 'examples features labels', found ''"),
        ("3 6\n", "line 1: expected 'examples features labels'"),
        ("3 6 0\n", "cannot be numbers"),
        ("9 6 4\n0 1:1\n", "should hold 9 examples, found 1: it is cut short"),
        ("1 6 4\n0 1:1\n0 1:1\n", "should hold 1 examples, found more"),
        ("1 7 4\n0 1:1\n", "has 7 features, .*test.txt has 6"),
        ("0 6 4\n", "the training part holds no example"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, text, message, skip_bad):
    with pytest.raises(InputError, match=message):
        load(tmp_path, train=text, skip_bad=skip_bad)


def test_a_line_without_an_end_takes_no_more_memory_than_a_line_may(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1000)
    with pytest.raises(InputError, match="line 2 is longer than 1000 bytes"):
        load(tmp_path, train="1 6 4\n0 " + "1:1 " * 1000 + "\n")


LONG = {  # what a line may be full of, and what ends it
    "whole numbers": (b" 1:1111111111", b" x"),
    "one number": (b"1111111111", b"x"),
    "one fraction": (b"1.11111111", b"x"),
    "blanks": (b"          ", b"x"),
    "labels": (b"1,1,1,1,1,", b"x"),
    "words": (b" a b c d e", b""),
    "signs": (b" 1:-1e-1e-", b"x"),
    "features": (b" 1:1.5 2:.5", b""),
}


@pytest.mark.parametrize("what", LONG)
def test_a_line_twice_as_long_takes_twice_as_long(what):
    part, end = LONG[what]

    def seconds(times):
        line = b"0 1:" + part * times + end + b"\n"
        found = []
        for _ in range(3):
            start = time.process_time()
            with contextlib.suppress(ValueError):
                sparse_text.parse(line, 9, 9)
            found.append(time.process_time() - start)
        return min(found)

    assert seconds(80_000) < 0.05 + 8 * seconds(20_000)


@pytest.mark.parametrize("blanks", ["\n", "\n\n", "  \n", " \r\n\n", " "])
def test_blank_lines_at_the_end_are_no_examples(tmp_path, blanks):
    assert len(load(tmp_path, train=GOOD + blanks).train_x) == 3
    for skip_bad in (False, True):
        with pytest.raises(InputError, match="should hold 4 examples, found 3: it is cut short"):
            load(tmp_path, train=GOOD.replace("3 6 4", "4 6 4") + blanks, skip_bad=skip_bad)


def test_a_blank_line_between_examples_is_a_bad_one(tmp_path):
    text = GOOD.replace("3 6 4", "4 6 4").replace("2 \n", "\n2 \n")
    with pytest.raises(InputError, match="line 4: the line is blank; an example has labels or"):
        load(tmp_path, train=text)
    assert load(tmp_path, train=text, skip_bad=True).skipped == 1


def test_a_text_with_a_byte_order_mark_is_read(tmp_path):
    expected = load(tmp_path).train_x[:]
    found = load(tmp_path, train="\ufeff" + GOOD.replace("\n", "\r\n")).train_x[:]
    np.testing.assert_array_equal(found["ids"], expected["ids"])


def test_several_files_of_a_part_are_named_and_one_is_not_both_parts(tmp_path, capfd):
    folder = tmp_path / "set"
    put(tmp_path)
    (folder / "more_train.txt").write_text(GOOD)
    with pytest.raises(InputError, match=r"found more_train\.txt, train\.txt$"):
        data.load("xmc", str(folder))
    (folder / "train.txt").unlink()
    (folder / "test.txt").unlink()
    (folder / "more_train.txt").rename(folder / "latest_train.txt")
    with pytest.raises(InputError, match=r"latest_train\.txt is both \*train\*\.txt and \*test"):
        data.load("xmc", str(folder))
    (folder / "latest_train.txt").unlink()
    load(tmp_path)
    assert "hold the same lines" in capfd.readouterr().err


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    folder = put(tmp_path)
    (tmp_path / "set/train.txt").unlink()
    os.mkfifo(tmp_path / "set/train.txt")
    with pytest.raises(InputError, match=r"train\.txt cannot be read: it is no regular file"):
        data.load("xmc", folder, cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Depends: libc6", "Depends libc6"), "Packages, line 3 is no field"),
        (("Suggests: two", "Depends: two"), "Packages, line 4 is a field that is there twice"),
        (("Package: one", " Package: one"), "Packages, line 1 is no field"),
    ],
)
def test_a_list_of_packages_that_is_damaged_is_refused(tmp_path, change, message):
    folder = lists(tmp_path)
    path = folder / "mirror_dists_bookworm_main_binary-amd64_Packages"
    path.write_text(PACKAGES.replace(*change))
    with pytest.raises(InputError, match=message):
        debian.read(folder)


def test_a_long_description_takes_no_longer_a_line_than_a_short_one(tmp_path):
    def seconds(lines):
        text = b"Package: a\n" + b" some more words\n" * lines
        start = time.process_time()
        list(debian._stanzas(text, tmp_path))
        return time.process_time() - start

    assert seconds(200_000) < 0.1 + 8 * min(seconds(50_000) for _ in range(3))


def test_packages_that_are_left_out_are_counted_and_an_empty_source_is_the_package(tmp_path, capfd):
    folder = lists(tmp_path)
    path = folder / "mirror_dists_bookworm_main_binary-amd64_Packages"
    path.write_text(PACKAGES.replace("src (1.2)", ""))
    assert debian.read(folder).sources == ["one", "two"]
    assert "1 packages without a description" in capfd.readouterr().err


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"data\.path is missing: a folder"):
        data.load("xmc")
    with pytest.raises(InputError, match=r"should have one file \*train\*\.txt"):
        data.load("xmc", str(tmp_path))
    with pytest.raises(InputError, match=r"(?s)no file .*Packages.*apt-get update"):
        data.load("debian_packages", str(tmp_path))


def test_many_features_are_cut_to_the_largest_and_told(tmp_path, capfd):
    found = load(tmp_path, most_features=1)
    assert found.train_x[:]["ids"].tolist() == [[5], [0], [6]]
    assert "1 of 3 examples have more than 1 features" in capfd.readouterr().err


def test_another_text_is_read_anew(tmp_path):
    load(tmp_path)
    assert len(load(tmp_path, train="1 6 4\n0 1:1\n").train_x) == 1


PACKAGES = """Package: one
Source: src (1.2)
Depends: libc6 (>= 2), two | three, four:any
Suggests: two
Description-md5: aa

Package: two
Description-md5: bb
Recommends: libc6

Package: lonely
Description-md5: cc

Package: unknown
Depends: one
Description-md5: dd
"""
DESCRIPTIONS = """Package: one
Description-md5: aa
Description-en: words about words
 that go on
 .
 and on

Package: two
Description-md5: bb
Description-en: words that are short

Package: lonely
Description-md5: cc
Description-en: nothing needed
"""


def lists(tmp_path):
    start = "mirror_dists_bookworm_main_"
    (tmp_path / f"{start}binary-amd64_Packages").write_text(PACKAGES)
    (tmp_path / f"{start}i18n_Translation-en.gz").write_bytes(gzip.compress(DESCRIPTIONS.encode()))
    return tmp_path


def test_packages_become_documents_with_the_packages_they_need(tmp_path):
    found = debian.read(lists(tmp_path))
    assert found.texts == [
        "one words about words\nthat go on\n.\nand on",
        "two words that are short",
    ]
    assert found.labels == [["libc6", "two", "four"], ["libc6"]]
    assert found.sources == ["src", "two"]
    name = "mirror_dists_bookworm_main_i18n_Translation-en.gz"
    assert found.digests[name] == hashlib.sha256(DESCRIPTIONS.encode()).hexdigest()


def test_documents_are_split_by_source_and_written_as_text(tmp_path):
    many = [f"source{n}" for n in range(40) for _ in range(3)]
    texts = [f"common word{n % 7} other{n % 5}" for n in range(120)]
    labels = [[f"l{n % 9}"] for n in range(120)]
    documents = debian.Documents(texts, labels, many, {"a": "b"}, many, many)
    debian.write(documents, tmp_path)
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["lists"] == {"a": "b"}
    for part in ("train", "test"):
        text = (tmp_path / f"{part}.txt").read_bytes()
        assert about["sha256"][f"{part}.txt"] == hashlib.sha256(text).hexdigest()
    found = data.load("xmc", str(tmp_path), cache=str(tmp_path / "cache"))
    held_out = [int(hashlib.sha1(s.encode()).hexdigest(), 16) % 5 == 0 for s in many]
    assert len(found.test_x) == sum(held_out)
    values = found.train_x[:]["values"]
    np.testing.assert_allclose((values**2).sum(1), 1, rtol=1e-4)  # six digits are written


def test_precision_and_its_propensity_scored_form_by_hand():
    found = np.array([[2, 0, 1, 4, 3], [1, 3, 2, 0, 4]])
    labels = np.array([[2, 4, 5], [0, 5, 5]])  # 5 pads
    noticed = np.array([0.5, 1.0, 0.25, 1.0, 0.2])
    got = many_labels.measures(found, labels, noticed)
    assert got["precision_1"] == 1 / 2
    assert got["precision_3"] == pytest.approx((1 / 3 + 0) / 2)
    assert got["precision_5"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert got["propensity_1"] == pytest.approx(4 / (5 + 2))
    assert got["propensity_3"] == pytest.approx(4 / (4 + 5 + 2))
    assert got["propensity_5"] == pytest.approx((4 + 5 + 2) / (4 + 5 + 2))


def test_propensities_are_the_papers():
    n = 1000
    c = (np.log(n) - 1) * 2.5**0.55
    expected = [1 / (1 + c / (count + 1.5) ** 0.55) for count in (0, 10)]
    np.testing.assert_allclose(many_labels.propensities(np.array([0, 10]), n), expected)


def test_a_run_of_ist_learns_and_sends_only_what_it_touches(tmp_path):
    """60 labels told by words: IST with touched rows, with sampled labels, and data parallel."""
    draw = np.random.default_rng(0)
    for part, n in (("train", 400), ("test", 100)):
        rows = []
        for _ in range(n):
            label = draw.integers(60)
            words = {label, *draw.integers(60, 90, 2)}
            rows.append(f"{label}" + "".join(f" {w}:0.5" for w in sorted(words)))
        (tmp_path / f"{part}.txt").write_text(f"{n} 90 60\n" + "\n".join(rows) + "\n")
    config = tiny(
        rounds=40, workers=2, local_steps=2, normalise="none", eval_every=40,
        **{
            "methods": ("ist", "data_parallel"),
            "data.name": "xmc",
            "data.path": str(tmp_path),
            "data.cache": str(tmp_path / "cache"),
            "data.batch": 10,
            "model.name": "xmc",
            "model.widths": {"hidden0": 128},
            "optimizer.name": "adam",
            "optimizer.lr": 0.03,
            "optimizer_state": "keep",
            "task.options.loss": "softmax",
        },
    )  # fmt: skip
    sent = {}
    for sampled in (0, 10):
        config.task.options.sampled = sampled
        workdir = tmp_path / f"run{sampled}"
        training.run(config, workdir)
        summary = json.loads((workdir / "summary.json").read_text())
        for name, result in summary["results"].items():
            assert result["last"][0]["precision_1/test"] > 0.9, name
            assert result["last"][0]["accuracy/test"] == result["last"][0]["precision_1/test"]
        sent[sampled] = summary["results"]["ist"]["last"][0]["comm/bytes_sent"]
        plan = summary["plans"]["ist"]
        assert sent[sampled] <= 40 * plan["bytes_sent"]
    assert sent[10] < 0.8 * sent[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "mlp"}, "'xmc' is for sparse examples"),
        ({"data.name": "digits", "data.path": ""}, "'xmc' is for sparse examples"),
        (
            {"task.options.loss": "hinge"},
            r"task\.options\.loss must be 'softmax' or 'logistic'",
        ),
        (
            {"task.options.propensity": (0.6, -9.0)},
            "propensity must be above 0 and at most 100, found -9",
        ),
        (
            {"model.options": {"drop_inputs": 1.5}},
            "must be from 0 and below 1, found 1.5",
        ),
        ({"model.options": {"bse": 1}}, "xmc has no option 'bse'"),
        ({"task.options.block": 0}, r"config\.task\.options\.block must be at least 1"),
        ({"data.skew": 0.1}, "one label for each example"),
        ({"model.widths": {"hidden1": 8}}, "an XMC net's widths are of"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    base = {
        "data.name": "xmc",
        "data.path": put(tmp_path, GOOD * 1),
        "data.cache": str(tmp_path / "cache"),
        "model.name": "xmc",
        "model.widths": {"hidden0": 8},
        "normalise": "none",
        "workers": 2,
        "data.batch": 2,
    }
    config = tiny(**(base | changes))
    with pytest.raises(InputError, match=message):
        planning.dry_run(config)


def test_two_sets_in_one_cache_do_not_meet(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (put(tmp_path / name, f"1 6 4\n{n} 1:1\n") for n, name in enumerate("ab"))
    cache = str(tmp_path / "cache")
    one, other, again = (data.load("xmc", place, cache=cache) for place in (first, second, first))
    assert [found.train_y[:].tolist() for found in (one, other, again)] == [[[0]], [[1]], [[0]]]
    assert len(list((tmp_path / "cache").glob("xmc_*"))) == 2


def test_fewer_labels_than_are_asked_for(tmp_path):
    """Places that no label takes count as wrong, never as right."""
    found = np.array([[2, 1, 0, 3, 3]])
    got = many_labels.measures(found, np.array([[0, 3, 3]]), np.ones(3))
    assert got["precision_5"] == pytest.approx(1 / 5)
    assert got["propensity_5"] == 1.0


def test_an_unknown_option_is_told(tmp_path):
    with pytest.raises(InputError, match=r"'xmc' has no option 'most'; it has .*most_features"):
        load(tmp_path, most=3)
    with pytest.raises(InputError, match="'digits' has no option 'skip_bad'; it has none"):
        data.load("digits", skip_bad=True)
    assert len(data.load("digits", skip_bad=False, cache="").train_x) == 898


def test_statistics_are_of_whole_examples_though_training_leaves_some_out():
    widths = {"features": 9, "hidden0": 4, "labels": 5}
    x = {"ids": np.arange(24).reshape(6, 4) % 9, "values": np.ones((6, 4), np.float32)}
    nets = [XMC(widths, normalise="standardise", drop_inputs=rate) for rate in (0.0, 0.5)]
    params = nets[0].init(jax.random.key(0), x, train=True)
    found = [normalise.statistics(net, params, x) for net in nets]
    assert same_bits(*found)
    key = {"dropout": jax.random.key(1)}
    of = {"train": True, "rngs": key, "mutable": ["statistics"]}
    trained = [net.apply(params, x, **of)[0][0] for net in nets]
    assert (np.asarray(trained[0]) != np.asarray(trained[1])).any()
