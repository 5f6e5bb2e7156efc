"""One's own images and texts: a folder for each class, lines of text, bytes as tokens."""

import gzip
import json
import os

import numpy as np
import pytest
from conftest import tiny
from PIL import Image
from test_own_data import refused

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import Dataset
from ist_jax.data.sources import image_sets
from ist_jax.run import training

COLOURS = {"cat": (204, 0, 0), "dog": (0, 204, 0), "eel": (0, 0, 204)}


def image(path, colour, side=(20, 31)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", side, colour).save(path)


def images(folder, part="", count=4, classes=COLOURS):
    for name in classes:
        for number in range(count):
            kind = ("png", "jpg", "JPEG", "bmp")[number % 4]
            image(folder / part / name / f"{number}.{kind}", COLOURS[name])
    return folder


def test_a_folder_of_images_is_split_and_its_folders_are_the_classes(tmp_path):
    images(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "pets" / "cat" / "._0.png").write_text("what a Mac leaves")
    (tmp_path / "pets" / ".hidden").mkdir()
    found = data.load("image_folder", str(tmp_path / "pets"), size=8, test=0.25)
    assert (found.name, found.classes, len(found.sha256)) == ("pets", 3, 64)
    assert (found.train_x.shape, found.test_x.shape) == ((9, 8, 8, 3), (3, 8, 8, 3))
    for x, y in ((found.train_x, found.train_y), (found.test_x, found.test_y)):
        assert (x[:, 4, 4].argmax(-1) == y).all()
        np.testing.assert_allclose(x[:, 4, 4].max(-1), 0.8, atol=0.02)
    grey = data.load("image_folder", str(tmp_path / "pets"), size=8, test=0.25, grey=True)
    assert grey.train_x.shape == (9, 8, 8, 1)
    light = np.array([61, 120, 23])[grey.train_y] / 255  # of .299 R + .587 G + .114 B
    np.testing.assert_allclose(grey.train_x[:, 4, 4, 0], light, atol=0.02)


@pytest.mark.parametrize("held", ["test", "validation", "val"])
def test_parts_in_folders_of_their_own_are_not_drawn(tmp_path, held):
    images(images(tmp_path, "train"), held, count=2)
    found = data.load("image_folder", str(tmp_path), size=4)
    assert (len(found.train_x), len(found.test_x)) == (12, 6)
    assert found.test_y.tolist() == [0, 0, 1, 1, 2, 2]
    (tmp_path / held / "cat").rename(tmp_path / held / "cow")
    refused("image_folder", tmp_path, f"class 'cat' is in one of train and {held} alone")


def test_a_large_set_is_decoded_as_it_is_needed_to_the_same_images(tmp_path, monkeypatch):
    images(tmp_path / "pets")
    options = {"size": 8, "cache": str(tmp_path / "cache")}
    whole = data.load("image_folder", str(tmp_path / "pets"), **options)
    monkeypatch.setattr(image_sets, "IN_MEMORY", 0)
    lazy = data.load("image_folder", str(tmp_path / "pets"), **options)
    assert not isinstance(lazy.train_x, np.ndarray)
    np.testing.assert_array_equal(lazy.train_x[:], whole.train_x)
    np.testing.assert_array_equal(lazy.test_y, whole.test_y)
    other = data.load("image_folder", str(tmp_path / "pets"), seed=1, **options)
    assert len({lazy.sha256, other.sha256}) == 2, "another split is not taken for this one"


def test_a_broken_image_is_named_or_left_out(tmp_path):
    images(tmp_path)
    broken = tmp_path / "dog" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    refused("image_folder", tmp_path, r"dog/1\.jpg cannot be read .*skip_bad=True", size=4)
    found = data.load("image_folder", str(tmp_path), size=4, skip_bad=True)
    assert (found.skipped, len(found.train_x) + len(found.test_x)) == (1, 11)
    for bad in ("empty.png", "pipe.png", "loop.png"):
        broken.unlink()
        broken = tmp_path / "dog" / bad
        {
            "empty.png": broken.touch,
            "pipe.png": lambda: os.mkfifo(broken),  # noqa: B023
            "loop.png": lambda: broken.symlink_to("loop.png"),  # noqa: B023
        }[bad]()
        refused("image_folder", tmp_path, f"dog/{bad} cannot be read", size=4)
        assert data.load("image_folder", str(tmp_path), size=4, skip_bad=True).skipped == 1


def test_bad_folders_of_images(tmp_path):
    refused("image_folder", tmp_path, "folder for each of two or more classes, found none")
    images(tmp_path, classes=["cat"])
    refused("image_folder", tmp_path, "found only 'cat'")
    (tmp_path / "dog").mkdir()
    refused("image_folder", tmp_path, r"dog holds no image \(\.bmp, .*\.png")
    refused("image_folder", tmp_path / "cat" / "0.png", "is no folder; image_folder reads")
    refused("image_folder", tmp_path / "dgo", r"is not there.*did you mean 'dog'\?")
    refused("image_folder", tmp_path, "size must be a whole number from 1 to 4096", size=0)
    refused("image_folder", tmp_path, "grey must be True or False", grey="yes")
    for name in COLOURS:
        image(tmp_path / "all" / name / "0.png", (1, 2, 3))
        (tmp_path / "all" / name / "0.png").write_bytes(b"")
    refused("image_folder", tmp_path / "all", "no image can be used.*cannot be", skip_bad=True)


@pytest.mark.slow
def test_images_train_from_a_config(tmp_path):
    config = tiny(
        **{
            "data.name": "image_folder",
            "data.path": str(images(tmp_path / "pets")),
            "data.batch": 2,
        }
    )
    config.data.options = {"size": 4}
    training.run(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["data"]["classes"] == 3


TEXTS = [("good", "a fine day"), ("bad", "rain, rain"), ("good", "Fine sun"), ("bad", "no sun é")]


def texts(folder):
    """The same texts in every layout."""
    for number, (label, text) in enumerate(TEXTS):
        (folder / "folders" / label).mkdir(parents=True, exist_ok=True)
        (folder / "folders" / label / f"{number}.txt").write_text(text)
    lines = [f"{label}\t{text}" for label, text in TEXTS]
    (folder / "lines.tsv").write_text("\n".join(["label\ttext", *lines]))
    rows = [json.dumps({"text": text, "class": label, "id": 1}) for label, text in TEXTS]
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return folder


def test_texts_of_every_layout_are_the_same_hashed_words(tmp_path):
    from sklearn.feature_extraction.text import HashingVectorizer

    texts(tmp_path)
    expected = HashingVectorizer(n_features=64).transform([text for _, text in TEXTS]).toarray()
    for name in ("folders", "lines.tsv", "rows.jsonl.gz"):
        found = data.load("text", str(tmp_path / name), features=64, test=0.25)
        assert (found.classes, found.train_x.shape, found.test_x.shape) == (2, (3, 64), (1, 64))
        x, y = np.concatenate([found.train_x, found.test_x]), [*found.train_y, *found.test_y]
        for row, label in zip(x, y, strict=True):
            near = np.abs(expected - row).max(1)
            assert near.min() < 1e-6
            assert TEXTS[near.argmin()][0] == ("bad", "good")[label]


def test_bytes_are_tokens_and_the_next_byte_is_the_label(tmp_path):
    text = bytes(range(10)) * 5
    (tmp_path / "mine.txt").write_bytes(text)
    found = data.load("text", str(tmp_path / "mine.txt"), tokens=6, test=0.25)
    assert (found.classes, found.train_x.dtype, found.train_y.dtype) == (256, np.int32, np.int32)
    assert (found.train_x.shape, found.test_y.shape) == ((6, 6), (2, 6))
    assert bytes(np.concatenate([found.train_x, found.test_x]).ravel().tolist()) == text[:48]
    assert bytes(np.concatenate([found.train_y, found.test_y]).ravel().tolist()) == text[1:49]
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text(f"{part} " * 4)
    found = data.load("text", str(tmp_path), tokens=6)
    assert bytes(found.test_x[0].tolist()) == b"test t"
    (tmp_path / "test.txt").unlink()
    assert len(data.load("text", str(tmp_path), tokens=6).train_x) == 10, "both files, joined"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x", r"is neither \.tsv nor \.jsonl; text reads"),
        ("a.tsv", "", "it holds no text"),
        ("a.tsv", "text\tlabel\n", "it holds no text"),
        ("a.tsv", "words\tlabel\na\t1\n", "no column is known as the input .*'words', 'label'"),
        ("a.tsv", "text\tlabel\na\t1\nb\n", "line 3: 1 cells, expected 2"),
        ("a.tsv", "text\tlabel\na\t1\n\t1\n", "line 3: 'text' must be a text, found ''"),
        ("a.tsv", b"text\tlabel\n\xff\t1\n", "line 2 is not UTF-8"),
        ("a.tsv", "text\tlabel\na\t1\nb\t1\n", "all labels are of one class"),
        ("a.jsonl", "{\n", "line 1 is not JSON"),
        ("a.jsonl", "[" * 10**5, "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 must be a JSON object"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2: 'label' must be"),
        ("a.jsonl", '{"text": ["a"], "label": 1}\n', r"'text' must be a text, found \['a'\]"),
    ],
)
def test_bad_files_of_texts(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    refused("text", tmp_path / name, message)


def test_options_of_texts_are_checked(tmp_path):
    texts(tmp_path)
    refused("text", tmp_path / "lines.tsv", "no column 'txt' .*did you mean 'text'", input="txt")
    refused("text", tmp_path / "lines.tsv", "tokens must be a whole number", tokens=-1)
    refused("text", tmp_path / "lines.tsv", "features must be a whole number", features=1.5)
    refused("text", tmp_path / "lines.tsv", r"tokens are fewer than the 1001", tokens=1000)
    refused("text", tmp_path / "lines.tsv", "is one example of 40 tokens", tokens=40)
    refused("text", tmp_path / "folders", r"holds no \.txt file", tokens=4)


def test_a_registered_reader_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr(data, "SOURCES", dict(data.SOURCES))

    def load(path="", *, n=8):
        """Of a notebook."""
        x = np.eye(n, dtype=np.float32)
        return Dataset("mine", x, np.arange(n) % 2, x, np.arange(n) % 2, classes=2)

    data.register("mine", load)
    assert data.load("mine", n=6).train_x.shape == (6, 6)
    data.register("mine", load)  # the cell runs again
    for taken, reader in (("mine", lambda path: None), ("digits", load)):
        with pytest.raises(InputError, match=f"the name '{taken}' of a data set is taken"):
            data.register(taken, reader)
    with pytest.raises(InputError, match="registered under a name such as 'mine'"):
        data.register("my:load", load)
    with pytest.raises(InputError, match=r"there is no 'mien'; did you mean 'mine'"):
        data.load("mien")
