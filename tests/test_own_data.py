"""One's own numbers: files of NumPy, tables, and a reader that is registered."""

import gzip
import json
import os

import numpy as np
import pytest
from conftest import tiny

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import files
from ist_jax.run import checks, training

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype(np.float32)
Y = np.arange(20) % 4
PIXELS = DRAW.integers(0, 256, size=(20, 5, 6), dtype=np.uint8)


def saved(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return str(folder / "mine.npz")


def refused(name, path, message, **options):
    with pytest.raises(InputError, match=message) as error:
        data.load(name, str(path), **options)
    assert "\n" not in str(error.value)


def rows(x, y):
    return sorted((*row.ravel().tolist(), int(label)) for row, label in zip(x, y, strict=True))


def test_x_and_y_are_split_without_loss_and_alike_each_time(tmp_path):
    path = saved(tmp_path, x=X, y=Y)
    found = data.load("npz", path, test=0.3)
    assert (found.name, found.classes, found.origin) == ("mine", 4, "real")
    assert (len(found.train_x), len(found.test_x)) == (14, 6)
    both = rows(found.train_x, found.train_y) + rows(found.test_x, found.test_y)
    assert sorted(both) == rows(X, Y)
    assert data.load("npz", path, test=0.3).sha256 == found.sha256
    assert data.load("npz", path, test=0.3, seed=1).sha256 != found.sha256


@pytest.mark.parametrize(
    "names",
    [
        ("train_x", "train_y", "test_x", "test_y"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
    ids=lambda names: names[0],
)
def test_parts_of_usual_names_are_taken_and_pixels_scaled(tmp_path, names):
    arrays = (PIXELS[:15], Y[:15, None], PIXELS[15:], Y[15:, None])
    found = data.load("npz", saved(tmp_path, **dict(zip(names, arrays, strict=True))))
    assert (found.train_x.shape, found.train_x.dtype) == ((15, 5, 6, 1), np.float32)
    np.testing.assert_array_equal(found.test_x[..., 0] * 255, PIXELS[15:].astype(np.float32))
    assert found.train_y.tolist() == Y[:15].tolist()


def test_tokens_targets_and_names_of_classes(tmp_path):
    tokens = DRAW.integers(0, 50, size=(20, 7))
    found = data.load("npz", saved(tmp_path, x=tokens, y=np.roll(tokens, 1)))
    assert (found.train_x.dtype, found.train_y.dtype) == (np.int32, np.int32)
    assert found.train_y.shape == (16, 7)
    found = data.load("npz", saved(tmp_path, x=X, y=X[:, :2].astype(np.float64)))
    assert (found.classes, found.train_y.dtype, found.test_y.shape) == (0, np.float32, (4, 2))
    found = data.load("npz", saved(tmp_path, x=X, y=np.array(["10", "9"] * 10)))
    assert (found.classes, found.train_y.max()) == (2, 1)
    rank = {row[:3]: row[3] for row in rows(found.train_x, found.train_y)}
    assert rank.get(tuple(X[0].tolist()), 1) == 1, "9 comes before 10"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"no y in it, but 'x'; npz reads"),
        ({"a": X, "b": Y}, "no x and no y in it, but 'a', 'b'"),
        ({"train_x": X, "train_y": Y}, "no test_x and no test_y"),
        ({"x": X, "y": Y[:7]}, r"all x is \[20, 3\] and y \[7\]"),
        ({"x": X, "y": Y, "labels": Y}, "'y' and 'labels' are for the same"),
        ({"x": np.array([{}, 1], object), "y": Y[:2]}, "Python objects .* never unpickled"),
        ({"x": np.array(["a"] * 20), "y": Y}, "x must hold numbers, found <U1"),
        ({"x": X, "y": Y + 1j}, "labels must be integers, texts, or"),
        ({"x": X, "y": Y * 0}, "all labels are of one class"),
        ({"x": X, "y": Y * 10**9}, "3000000000 is no label"),
        ({"x": X, "y": Y - 1}, "has label -1, expected 0 to 2"),
        ({"x": X * np.nan, "y": Y}, "holds a value that is not finite"),
        ({"x": X.astype(np.float64) * 1e300, "y": Y}, "holds a value that is not finite"),
        ({"x": X[:1], "y": Y[:1]}, "holds 1 examples; at least one"),
        ({"x": np.float32(1), "y": Y}, r"all x is \[\] and y"),
    ],
)
def test_bad_files_of_numpy(tmp_path, arrays, message):
    refused("npz", saved(tmp_path, **arrays), message)


def test_what_is_no_file_of_numpy_is_refused(tmp_path):
    good = saved(tmp_path, x=X, y=Y)
    refused("npz", "", "npz needs data.path: an .npz file")
    refused("npz", tmp_path, "is a folder; npz reads")
    refused("npz", tmp_path / "mane.npz", r"is not there; npz reads .*did you mean 'mine.npz'\?")
    refused("npz", good, r"no option 'tst'; did you mean 'test'", tst=0.1)
    for share in (0, 1, 1.5, "half", True):
        refused("npz", good, "test must be above 0 and below 1, found", test=share)
    refused("npz", good, "seed must be a whole number from 0", seed=-1)
    (tmp_path / "empty.npz").touch()
    refused("npz", tmp_path / "empty.npz", r"empty\.npz: File is not a zip file")
    os.mkfifo(tmp_path / "pipe.npz")
    refused("npz", tmp_path / "pipe.npz", "is no regular file")
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    refused("npz", tmp_path / "loop.npz", "is a link to loop.npz, which is not there")
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros((2**18, 9)), y=np.arange(2**18) % 2)
    refused("npz", tmp_path / "zeros.npz", "unpacks to more than")


def test_relative_paths_and_the_home_folder_are_understood(tmp_path, monkeypatch):
    expected = data.load("npz", saved(tmp_path, x=X, y=Y)).sha256
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("npz", "mine.npz").sha256 == expected
    assert data.load("npz", "~/mine.npz").sha256 == expected


IRIS = "length,width,kind,id\n" + "".join(
    f"{a:.3f},{b:.3f},{'fish' if a > b else 'bird'},n{i}\n" for i, (a, b, _) in enumerate(X)
)


def table(folder, text, name="mine.csv"):
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_a_table_is_standardised_by_its_training_part(tmp_path):
    options = {"label": "kind", "skip": ("id",)}
    found = data.load("csv", str(table(tmp_path, IRIS)), **options)
    assert (found.name, found.classes, found.train_x.shape) == ("mine", 2, (16, 2))
    np.testing.assert_allclose(found.train_x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.train_x.std(0), 1, rtol=1e-6)
    raw = data.load("csv", str(tmp_path / "mine.csv"), standardise=False, **options)
    assert ((raw.train_x[:, 0] > raw.train_x[:, 1]) == (raw.train_y == 1)).all(), "bird, fish"
    expected = (raw.test_x - raw.train_x.mean(0)) / raw.train_x.std(0)
    np.testing.assert_allclose(found.test_x, expected, rtol=1e-4, atol=1e-5)
    both = np.concatenate([raw.train_x, raw.test_x])
    np.testing.assert_allclose(np.sort(both, 0), np.sort(X[:, :2], 0), atol=1e-3)


def test_two_tables_are_two_parts_whatever_the_order_of_columns(tmp_path):
    table(tmp_path, '\ufeffa,"b, c",label\r\n1,2,1\r\n"3",4,10\r\n\r\n', "train.csv")
    packed = gzip.compress(b'label,a,"b, c"\n9,5,6\n1.0,7,8')
    table(tmp_path, packed, "test.csv.gz")
    found = data.load("csv", str(tmp_path), standardise=False)
    assert found.train_x.tolist() == [[1, 2], [3, 4]]
    assert found.test_x.tolist() == [[5, 6], [7, 8]]
    assert (found.train_y.tolist(), found.test_y.tolist()) == ([0, 2], [1, 0]), "1, 9, 10"


def test_a_column_of_equal_numbers_becomes_zeros_and_targets_stay(tmp_path):
    text = "a,b,y\n" + "".join(f"0.1,{i},{i / 3}\n" for i in range(10))
    found = data.load("csv", str(table(tmp_path, text)), targets=True)
    assert np.abs(found.train_x[:, 0]).max() < 1e-9
    assert (found.classes, found.train_y.dtype) == (0, np.float32)
    refused("csv", tmp_path / "mine.csv", r"0\.333.* is no class\. Set data\.options\.targets")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("a,label\n", "has a header, but there is no row below it"),
        ("1,2\n3,4\n", "line 1 must name the columns, found numbers: '1', '2'"),
        ("a,b\n1,2\n", r"no column is known as the label .*: it has 'a', 'b'"),
        ("class,y,a\n1,2,3\n", "columns 'class', 'y' could all be it"),
        ("a,a,label\n1,2,3\n", "two columns are called 'a'"),
        ("label\n1\n", "no column is left beside the label 'label'"),
        ("a,label\n1,0\n2,1,3\n", "line 3: 3 cells, expected 2 as in the header"),
        ("a,label\n1,0\n\n2\n", "line 4: 1 cells, expected 2"),
        ("a,town,label\n1,Oslo,0\n", r"line 2, column 'town': .*'Oslo'.*skip=\('town',\)"),
        ("a,label\n1,0\nnan,1\n", "line 3, column 'a': expected a number, found 'nan'"),
        ("a,label\n1,0\n-inf,1\n", "line 3, column 'a': expected a number, found '-inf'"),
        ("a,b,label\n1,,0\n", "line 2, column 'b': expected a number, the cell is empty"),
        ("a,label\n1,0\n2,\n", "line 3, column 'label': the label is missing"),
        ("a,label\n1,x\n2,x\n", "column 'label': all labels are of one class"),
        ('a,label\n1,"x\n2,y\n', "line 3: unexpected end of data"),
        (b"a,label\n1,\xff\n", "line 2 is not UTF-8"),
        ("a,label\n1e200,0\n2,1\n", "not finite"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    refused("csv", table(tmp_path, text), message, standardise=False)


def test_bad_rows_are_left_out_where_that_is_asked_for(tmp_path):
    text = "a,label\n1,0\nx,1\n3,1\n4\n5,0\n"
    found = data.load("csv", str(table(tmp_path, text)), skip_bad=True, standardise=False)
    assert (found.skipped, len(found.train_x) + len(found.test_x)) == (2, 3)
    refused("csv", table(tmp_path, "a,label\nx,1\n"), "can be used: .*line 2, col", skip_bad=True)


def test_options_of_tables_are_checked(tmp_path):
    path = table(tmp_path, IRIS)
    refused("csv", path, r"no column 'knd' .*did you mean 'kind'\?", label="knd")
    refused("csv", path, "no column 'ids'", label="kind", skip=("ids",))
    refused("csv", path, "skip must be names of columns, as", skip="id")
    refused("csv", path, "standardise must be True or False", standardise=1)
    refused("csv", tmp_path, r"has no train\.csv; csv reads")
    table(tmp_path, IRIS, "train.csv"), table(tmp_path, "length,kind\n1,fish\n", "test.csv")
    options = {"label": "kind", "skip": ("id",)}
    refused("csv", tmp_path, r"test\.csv, line 1: its columns are not .*'width' is in", **options)
    table(tmp_path, "kind,width,length\nfish,1,2\n", "test.csv")  # without what is left out
    assert data.load("csv", str(tmp_path), **options).test_x.shape == (1, 2)


def test_a_table_that_unpacks_to_gigabytes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LEAST", 2**16)
    packed = gzip.compress(b"a,label\n" + b"1,0\n" * 2**17)
    refused("csv", table(tmp_path, packed, "mine.csv.gz"), "more than 128 times its own size")


def test_a_table_trains_from_a_config(tmp_path):
    config = tiny(**{"data.name": "csv", "data.path": str(table(tmp_path, IRIS)), "data.batch": 2})
    config.data.options = {"label": "kind", "skip": ["id"]}
    training.run(config, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]
    assert (about["name"], about["train"], about["classes"]) == ("mine", 16, 2)
    assert len(about["sha256"]) == 64
    for wrong, message in (
        ({"test": "half"}, "data.options.test must be a number"),
        ({"seed": -1}, "data.options.seed must be from 0"),
        ({"skip": "id"}, r"data.options.skip must be a tuple, as \('id',\)"),
        ({"label": 3}, "data.options.label must be text"),
    ):
        config.data.options = wrong
        with pytest.raises(InputError, match=message):
            checks.check(config)
