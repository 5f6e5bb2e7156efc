"""Sets that others' libraries have prepared: TensorFlow Datasets, Hugging Face, Parquet."""

import io
import json
import os
import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_own_data import X, Y, refused, rows

from ist_jax import data
from ist_jax.core.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # of tensorflow_datasets without TensorFlow


def png(value, side=(9, 9), mode="L"):
    file = io.BytesIO()
    Image.new(mode, side, value).save(file, "PNG")
    return file.getvalue()


class Grey(tfds.core.GeneratorBasedBuilder):
    """Squares of 9 pixels, 40 times as light as their label."""

    VERSION = tfds.core.Version("1.2.0")
    FEATURES = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(9, 9, 1)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {"train": self._generate_examples(9), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"image": png(40 * (number % 3)), "label": number % 3}


class Numbers(Grey):
    """A row of numbers each; no test part."""

    FEATURES = {  # noqa: RUF012
        "features": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=4),
        "name": tfds.features.Text(),
    }

    def _split_generators(self, _):
        return {"train": self._generate_examples(len(X))}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"features": X[number], "label": Y[number], "name": f"n{number}"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("prepared")
    for builder in (Grey, Numbers):
        builder(data_dir=str(place), file_format="array_record").download_and_prepare()
    return place


def test_any_prepared_set_of_images_is_read_at_its_own_size_or_another(prepared):
    found = data.load("tfds", str(prepared / "grey"))
    assert (found.name, found.classes, found.train_x.shape) == ("grey", 3, (9, 9, 9, 1))
    np.testing.assert_allclose(found.train_x[:, 4, 4, 0] * 255, 40 * found.train_y, atol=1e-4)
    assert sorted(found.test_y) == [0, 1, 2]
    again = data.load("tfds", str(prepared / "grey" / "1.2.0"), size=5)
    assert again.train_x.shape == (9, 5, 5, 1)


def test_a_prepared_set_of_numbers_without_a_test_part_is_split(prepared):
    found = data.load("tfds", str(prepared / "numbers"), test=0.3)
    assert (len(found.train_x), len(found.test_x), found.classes) == (14, 6, 4)
    both = rows(found.train_x, found.train_y) + rows(found.test_x, found.test_y)
    assert sorted(both) == rows(X, Y)


def test_folders_that_hold_no_prepared_set_or_several(prepared, tmp_path):
    refused("tfds", prepared, "holds 2 prepared sets; set data.path to one of '.*grey/1.2.0', ")
    refused("tfds", tmp_path, "holds no prepared set; tfds reads a folder prepared by TensorFlow")
    refused("tfds", tmp_path / "nowhere", "is not there; tfds reads")
    refused("tfds", prepared / "numbers", "no column 'nme' .*did you mean 'name'", input="nme")
    refused("tfds", prepared / "numbers", "'name' holds no numbers of one shape", input="name")
    refused("tfds", prepared / "grey", "size must be a whole number", size=-3)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset_info.json").write_text("{")
    refused("tfds", tmp_path, "TensorFlow Datasets could not read the set from .*/set: ")
    os.mkfifo(tmp_path / "set" / "features.json")
    refused("tfds", tmp_path, r"features\.json is no regular file")


def saved(folder, columns, features=None, **settings):
    """As ``datasets`` 5.2 writes it: a stream of Arrow, and what it says of itself."""
    about = {b"huggingface": json.dumps({"info": {"features": features or {}}}).encode()}
    table = pa.table(columns).replace_schema_metadata(about)
    folder.mkdir(parents=True)
    for number in range(2):
        with pa.OSFile(str(folder / f"data-{number}.arrow"), "wb") as file:
            options = pa.ipc.IpcWriteOptions(**settings)
            half = len(table) // 2
            with pa.ipc.new_stream(file, table.schema, options=options) as stream:
                stream.write_table(table.slice(number * half, half))
    names = [{"filename": f"data-{number}.arrow"} for number in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": None}))
    return folder


NUMBERS = {"features": pa.array(X.tolist()), "label": pa.array(Y)}


def test_a_saved_set_of_numbers_and_the_same_as_parquet(tmp_path):
    found = data.load("huggingface", str(saved(tmp_path / "mine", NUMBERS)), test=0.3)
    assert (found.name, found.classes, found.train_x.dtype) == ("mine", 4, np.float32)
    both = rows(found.train_x, found.train_y) + rows(found.test_x, found.test_y)
    assert sorted(both) == rows(X, Y)
    pq.write_table(pa.table(NUMBERS), tmp_path / "one.parquet")
    assert data.load("huggingface", str(tmp_path / "one.parquet"), test=0.3).sha256 == found.sha256
    for part, its in (("train", slice(0, 15)), ("test", slice(15, 20))):
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        table = pa.table({"x": X[its].tolist(), "y": pa.array(Y[its] / 3)})
        pq.write_table(table, tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet")
    found = data.load("huggingface", str(tmp_path / "hub"))
    np.testing.assert_array_equal(found.test_x, X[15:])
    np.testing.assert_allclose(found.train_y, Y[:15] / 3)
    assert found.classes == 0, "targets"


def test_texts_and_numbers_by_a_dictionary_are_read_as_without(tmp_path):
    words = ["a cat", "a dog", "a cat", "the cow", "a dog", "a cat"] * 2
    found = []
    for name in ("plain", "coded"):
        columns = {"text": pa.array(words), "label": pa.array([word[-3:] for word in words])}
        if name == "coded":
            columns = {key: column.dictionary_encode() for key, column in columns.items()}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        found.append(data.load("huggingface", str(tmp_path / f"{name}.parquet"), features=16))
    assert found[0].sha256 == found[1].sha256
    assert found[0].classes == 3


def test_saved_images_are_decoded_and_keep_their_number_of_classes(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"names": ["a", "b", "c"]}}
    for part in ("train", "test"):
        pixels = [{"bytes": png((0, 51, 0), (20, 9), "RGB"), "path": None} for _ in range(4)]
        columns = {"image": pixels, "label": [0, 1, 0, 1]}
        saved(tmp_path / "set" / part, columns, features)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = data.load("huggingface", str(tmp_path / "set"), size=8)
    assert (found.classes, found.train_x.shape) == (3, (4, 8, 8, 3))
    np.testing.assert_allclose(found.test_x[..., 1], 0.2, atol=1e-6)
    pixels = [{"bytes": b, "path": "a.png"} for b in (png(1), None, b"none", *[png(2)] * 5)]
    bad = saved(tmp_path / "bad", {"image": pixels, "label": [0, 1] * 4}, features)
    scores = {"image": pixels, "score": [0.5] * 8, "many": [[0, 1]] * 8}
    place = saved(tmp_path / "scores", scores, features)
    for label in ("score", "many"):
        refused("huggingface", place, f"need a label that is one class; '{label}'", label=label)
    refused("huggingface", bad, r"row \d cannot be read .*skip_bad=True", size=8)
    assert data.load("huggingface", str(bad), size=8, skip_bad=True).skipped == 2


def test_saved_texts_are_words_or_bytes(tmp_path):
    texts = [f"good {n}" if n % 2 else f"bad {n}" for n in range(8)]
    columns = {"text": texts, "label": ["pos", "neg"] * 4}
    found = data.load("huggingface", str(saved(tmp_path / "set", columns)), features=32)
    assert (found.classes, found.train_x.shape) == (2, (6, 32))
    found = data.load("huggingface", str(tmp_path / "set"), tokens=4, test=0.25)
    assert bytes(found.train_y[0].tolist()) == "\n".join(texts)[1:5].encode()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, 2], "label": [0, 1]}, "no column is known as the input .*'a', 'label'"),
        ({"x": [1.0, 2.0]}, "no column is known as the label"),
        (
            {"x": [[1]] * 3 + [[1, 2]] * 3, "y": [0, 1] * 3},
            "a list of .* all must be of one length",
        ),
        ({"x": [1.0, None], "y": [0, 1]}, "value . is missing"),
        ({"x": [1.0, 2.0], "y": [0, None]}, "value . is missing"),
        ({"x": [{"a": 1}] * 2, "y": [0, 1]}, "must hold numbers, found struct"),
        ({"x": [1.0, 2.0], "y": [-1, 1]}, "has label -1, expected 0 to 1"),
        ({"x": [], "y": []}, "its train part has no row"),
    ],
)
def test_bad_columns(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    refused("huggingface", tmp_path / "a.parquet", message, test=0.5)


def test_folders_that_hold_no_saved_set(tmp_path):
    refused("huggingface", tmp_path, "holds no saved set; huggingface reads a folder written by")
    refused("huggingface", tmp_path / "no", "is not there; huggingface reads")
    place = saved(tmp_path / "set", NUMBERS)
    for wrong in ("{", "[]", "{}", '{"_data_files": [{"filename": "../../x"}]}'):
        (place / "state.json").write_text(wrong)
        refused("huggingface", place, r"state\.json")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    refused("huggingface", tmp_path / "a.parquet", r"a\.parquet cannot be read: ")
    refused("huggingface", tmp_path / "a.parquet", "did you mean 'features'", feature=2)
    os.mkfifo(tmp_path / "pipe.parquet")
    refused("huggingface", tmp_path / "pipe.parquet", "is no regular file")


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_what_could_unpack_to_gigabytes_is_not_unpacked(tmp_path, kind, monkeypatch):
    place = saved(tmp_path / "set", NUMBERS, compression=kind)
    refused("huggingface", place, r"data-0\.arrow is compressed inside")
    monkeypatch.setattr("ist_jax.data.files.LEAST", 2**10)
    zeros = pa.table({"x": np.zeros(2**17), "y": np.zeros(2**17, np.int8)})
    pq.write_table(zeros, tmp_path / "a.parquet", compression=kind, use_dictionary=False)
    monkeypatch.setattr("ist_jax.data.files.SPREAD", 8)
    refused("huggingface", tmp_path / "a.parquet", "declares more than 8 times its own size")
    pq.write_table(zeros, tmp_path / "a.parquet")
    refused("huggingface", tmp_path / "a.parquet", "unpacks to more than")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_damaged_tables_are_read_or_refused(tmp_path, kind):
    place = saved(tmp_path / "set", NUMBERS)
    pq.write_table(pa.table(NUMBERS), tmp_path / "a.parquet")
    file = {"arrow": place / "data-0.arrow", "parquet": tmp_path / "a.parquet"}[kind]
    path = {"arrow": place, "parquet": file}[kind]
    good, draw, refusals = file.read_bytes(), random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(good)
        for _ in range(draw.choice((1, 3))):
            damaged[draw.randrange(len(good))] = draw.randrange(256)
        file.write_bytes(damaged[: draw.choice((len(good), draw.randrange(len(good))))])
        try:
            data.load("huggingface", str(path))
        except InputError as error:
            refusals += "\n" not in str(error)
    assert 50 < refusals < 200


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("pyarrow", "huggingface", "huggingface"),
        ("tensorflow_datasets", "tfds", "datasets"),
        ("PIL", "image_folder", "datasets"),
    ],
)
def test_what_a_missing_library_is_in_is_said(tmp_path, prepared, monkeypatch, module, name, extra):
    place = {"tfds": prepared / "grey"}.get(name) or tmp_path
    monkeypatch.setitem(sys.modules, module, None)
    refused(name, place, rf"{module}.*: pip install 'ist_jax\[{extra}\]'")
