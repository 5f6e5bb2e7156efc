"""CIFAR10 and ImageNet from prepared folders: mock data, and sets prepared here."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import Batches
from ist_jax.data.sources import decoding, image_sets, tfds_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # of tensorflow_datasets without TensorFlow


class Coloured(tfds.core.GeneratorBasedBuilder):
    """Images of one colour each, of different sizes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=5),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {"train": self._generate_examples(6), "validation": self._generate_examples(3)}

    def _generate_examples(self, count):
        for number in range(count):
            pixels = np.full((20 + 3 * number, 31, 3), 40 * number, np.uint8)
            pixels[:, :3] = 255  # a border that the middle does not have
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            yield number, {"image": file.getvalue(), "label": number % 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("prepared")
    builder = Coloured(data_dir=str(place), file_format="array_record")
    builder.download_and_prepare()
    return str(builder.data_path)


def test_a_prepared_folder_is_read_with_its_own_number_of_classes(folder, tmp_path):
    found = data.load("imagenet", folder, size=16, cache=str(tmp_path))
    assert (found.classes, found.skipped, len(found.test_x)) == (5, 0, 3)
    assert found.train_x.shape == (6, 16, 16, 3)
    assert sorted(found.train_y.tolist()) == [0, 0, 1, 2, 3, 4]
    pixels = found.train_x[np.array([[0, 1], [2, 3]])]
    assert (pixels.shape, pixels.dtype) == ((2, 2, 16, 16, 3), np.float32)
    for row, label in zip(found.train_x[:], found.train_y, strict=True):
        colour = row[8, 8, 0] * 255
        assert colour == pytest.approx(40 * label) or (label == 0 and colour == 200)


def test_opening_a_set_decodes_no_image(folder, tmp_path, monkeypatch):
    decoded = []
    decode = Image.open
    monkeypatch.setattr(Image, "open", lambda file: decoded.append(1) or decode(file))
    found = data.load("imagenet", folder, size=8, cache=str(tmp_path))
    assert not decoded
    assert found.train_x[np.arange(2)].shape == (2, 8, 8, 3)
    assert len(decoded) == 2
    data.load("imagenet", folder, size=8, cache=str(tmp_path), skip_bad=True)
    assert len(decoded) == 2 + 9, "each was tried"


def test_the_second_start_reads_no_example(folder, tmp_path, monkeypatch):
    first = data.load("imagenet", folder, size=8, cache=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(image_sets, "_look", lambda *_: pytest.fail("looked again"))
        again = data.load("imagenet", folder, size=16, cache=str(tmp_path))
    np.testing.assert_array_equal(again.train_y, first.train_y)
    changed = Path(folder) / "features.json"
    changed.touch()
    looked = []
    look = image_sets._look
    monkeypatch.setattr(image_sets, "_look", lambda *given: looked.append(given[1]) or look(*given))
    data.load("imagenet", folder, size=8, cache=str(tmp_path))
    assert looked == ["train", "test"], "the set has changed"


def test_another_set_is_not_taken_for_cifar10(monkeypatch):
    given(monkeypatch, {"image": GREY, "label": 1}, side=28)
    with pytest.raises(InputError, match=r"is not cifar10: its images are \(28, 28, 3\)"):
        data.load("cifar10")


def test_the_digest_of_images_that_are_decoded_later_covers_each_of_them(
    folder, tmp_path, monkeypatch
):
    load = lambda cache: data.load("imagenet", folder, size=8, cache=str(tmp_path / cache)).sha256
    example, found = decoding.example, {load("one"), load("two")}
    assert len(found) == 1

    def changed(source, number, where, decode):
        image, label = example(source, number, where, decode)
        return (image + b"!", label) if change in (where, label) else (image, label)

    monkeypatch.setattr(image_sets, "example", changed)
    for change in ("imagenet2012, train part", "imagenet2012, validation part", 2):
        found.add(load(f"of {change}"))
    assert len(found) == 4


def test_batches_decode_what_they_need(folder, tmp_path):
    found = data.load("imagenet", folder, size=8, cache=str(tmp_path))
    batches = Batches(found.train_x, found.train_y, workers=2, batch=2, local_steps=1, seed=0)
    own = batches(0)
    assert own["x"].shape == (2, 1, 2, 8, 8, 3)
    for worker in range(2):
        chosen = batches.indices(worker, 0)
        np.testing.assert_array_equal(own["x"][worker, 0], found.train_x[chosen])


class Source(list):
    """Examples of which some cannot be read, or have another label."""

    def __getitem__(self, number):
        example = super().__getitem__(number)
        if example is None:
            raise ValueError("broken data stream")
        return example


def given(monkeypatch, *examples, side=32):
    parts = {
        part: (f"cifar10, {part} part", Source(its))
        for part, its in (("train", examples), ("test", examples[:1]))
    }
    opened = image_sets.Opened("cifar10", Path(), 3, (side, side, 3), parts)
    monkeypatch.setattr(tfds_folder, "opened", lambda *_: opened)


GREY = np.full((9, 9, 1), 51, np.uint8)


def test_an_image_that_cannot_be_read_is_named_or_counted_and_left_out(monkeypatch):
    given(monkeypatch, {"image": GREY, "label": 1}, None, {"image": GREY, "label": 2})
    with pytest.raises(InputError, match=r"cifar10, train part: example 1 cannot be read \(broken"):
        data.load("cifar10")
    found = data.load("cifar10", skip_bad=True)
    assert (found.skipped, found.train_y.tolist()) == (1, [1, 2])
    np.testing.assert_allclose(found.train_x, 0.2)


def packed(mode, kind):
    file = io.BytesIO()
    Image.new("RGB", (9, 12), (204, 51, 0)).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG")]
)
def test_colours_are_colours_however_they_are_stored(monkeypatch, mode, kind):
    given(monkeypatch, {"image": packed(mode, kind), "label": 0})
    pixel = data.load("cifar10").train_x[0, 16, 16] * 255
    np.testing.assert_allclose(pixel, [204, 51, 0], atol=3)


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("LA", "PNG"), ("L", "JPEG")])
def test_grey_is_grey_however_it_is_stored(monkeypatch, mode, kind):
    given(monkeypatch, {"image": packed(mode, kind), "label": 0})
    pixel = data.load("cifar10").train_x[0, 16, 16] * 255
    np.testing.assert_allclose(pixel, 91, atol=1)


@pytest.mark.parametrize("content", [b"", b"nothing", packed("RGB", "PNG")[:45]], ids=len)
def test_bytes_that_are_no_image_are_named_when_met_or_left_out(monkeypatch, content):
    given(monkeypatch, {"image": packed("RGB", "PNG"), "label": 1}, {"image": content, "label": 2})
    with pytest.raises(InputError, match="cifar10, train part: example 1 cannot be read"):
        data.load("cifar10")
    found = data.load("cifar10", skip_bad=True)
    assert (found.skipped, found.train_y.tolist()) == (1, [1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (20, 31)])
def test_images_of_any_shape_fit(monkeypatch, shape):
    given(monkeypatch, {"image": np.full((*shape, 3), 51, np.uint8), "label": 0})
    np.testing.assert_allclose(data.load("cifar10").train_x, np.full((1, 32, 32, 3), 0.2))


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_is_cut_out(monkeypatch, upright):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 51
    given(monkeypatch, {"image": pixels.swapaxes(0, 1) if upright else pixels, "label": 0})
    inner = data.load("cifar10").train_x[:, 2:-2, 2:-2]  # at the rim, pixels are mixed
    np.testing.assert_allclose(inner, np.full((1, 28, 28, 3), 0.2))


def test_a_label_out_of_range_is_named(monkeypatch):
    given(monkeypatch, {"image": GREY, "label": 1}, {"image": GREY, "label": 3})
    with pytest.raises(InputError, match="example 1 has label 3, expected 0 to 2"):
        data.load("cifar10", skip_bad=True)


def test_an_image_of_far_too_many_pixels_is_not_unpacked(monkeypatch):
    file = io.BytesIO()
    Image.new("1", (2**13, 2**13 + 1)).save(file, "PNG")
    given(monkeypatch, {"image": file.getvalue(), "label": 0})
    with pytest.raises(
        InputError, match=r"example 0 cannot be read \(8192 x 8193 pixels, more than"
    ):
        data.load("cifar10")


def test_a_pipe_in_a_prepared_folder_is_not_waited_for(folder, tmp_path):
    for at in ("", "imagenet2012/5.1.0"):
        place = tmp_path / "sets" / at
        shutil.copytree(folder, place, dirs_exist_ok=True)
        (place / "features.json").unlink()
        os.mkfifo(place / "features.json")
        with pytest.raises(InputError, match=r"features\.json is no regular file"):
            data.load("imagenet", str(tmp_path / "sets"), cache=str(tmp_path))
        shutil.rmtree(place)


@pytest.mark.parametrize("size", [0, -3, 8.0, "8", True, 2**20])
def test_a_size_that_is_none_is_refused(folder, tmp_path, size):
    with pytest.raises(
        InputError, match=f"size must be a whole number from 1 to 4096, found {size!r}"
    ):
        data.load("imagenet", folder, size=size, cache=str(tmp_path))


def test_missing_folders_are_told(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*nowhere\. Prepare it with TensorFlow"):
        data.load("cifar10", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="could not read imagenet2012 from"):
        data.load("imagenet", str(tmp_path))


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("imagenet", 1000)])
def test_mock_data_of_the_published_builders(tmp_path, name, classes):
    with tfds.testing.mock_data(num_examples=4):
        cache = {"cache": str(tmp_path)} if name == "imagenet" else {}
        found = data.load(name, str(tmp_path), **cache)
        assert found.classes == classes
        size = 32 if name == "cifar10" else 224
        assert found.train_x[:2].shape == (2, size, size, 3)
        assert len(found.test_x) == 4
