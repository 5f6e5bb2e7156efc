import gzip
import importlib.util
import os
import struct
import tracemalloc

import flax.linen as nn
import jax
import numpy as np
import pytest
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ist_jax import data, method
from ist_jax.core.errors import InputError
from ist_jax.data import Batches, batches
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import digits as digits_source
from ist_jax.data.sources import fashion_mnist, idx
from ist_jax.run import tasks
from ist_jax.tasks import classification


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def header(*shape):
    return gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, *shape))


@pytest.fixture
def folder(tmp_path):
    """A tiny Fashion-MNIST: 20 + 10 images."""
    draw = np.random.default_rng(0)
    for name, n in (("train", 20), ("t10k", 10)):
        images = draw.integers(256, size=(n, 28, 28))
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        labels = idx_bytes(np.arange(n) % 10)
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


def test_digits_are_scikit_learns_wherever_it_keeps_them(monkeypatch):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    assert (digits_source._table() == np.column_stack([x, y])).all()
    read = data.load("digits").sha256
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert data.load("digits").sha256 == read


def test_digits():
    digits = data.load("digits")
    assert digits.train_x.shape == (898, 8, 8, 1)
    assert len(digits.test_x) == 899
    assert 0 <= digits.train_x.min() < digits.train_x.max() == 1
    assert set(digits.train_y) == set(range(10))


def test_a_set_has_a_digest_of_every_number_and_label(folder):
    found = data.load("fashion_mnist", str(folder))
    assert found.sha256 == data.load("fashion_mnist", str(folder)).sha256
    assert len(found.sha256) == 64
    for part in ("train_x", "train_y", "test_x", "test_y"):
        changed = getattr(found, part).copy()
        changed.flat[-1] = changed.flat[-1] == 0  # another digit or pixel
        other = found._replace(**{part: changed}, sha256="").checked()
        assert other.sha256 != found.sha256, part


def test_fashion_mnist_from_a_folder(folder):
    found = data.load("fashion_mnist", str(folder))
    assert found.train_x.shape == (20, 28, 28, 1)
    assert found.train_x.dtype == np.float32
    assert found.train_x.max() <= 1
    assert found.test_y.tolist() == list(range(10))


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="apt-get install dataset-fashion-mnist"
)
def test_fashion_mnist_of_debian():
    found = data.load("fashion_mnist")
    assert (len(found.train_x), len(found.test_x)) == (60_000, 10_000)
    assert (np.bincount(found.train_y) == 6_000).all()
    assert abs(found.train_x.mean() - 0.2860) < 1e-3
    assert abs(found.train_x.std() - 0.3530) < 1e-3


@pytest.mark.filterwarnings("ignore")  # of what TensorFlow Datasets imports
def test_fashion_mnist_of_tensorflow_datasets(tmp_path, monkeypatch):
    """Read through tfds.data_source, without TensorFlow."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=12):
        found = fashion_mnist.load(str(tmp_path))
    assert found.train_x.shape == (12, 28, 28, 1)
    assert found.checked().train_y.dtype == np.int32


def test_a_missing_data_set_says_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        data.load("fashion_mnist", str(tmp_path / "nowhere"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        data.load("fashion_mnist")


@pytest.mark.filterwarnings("ignore")
def test_a_folder_without_data_says_what_to_install(tmp_path):
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        data.load("fashion_mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "cannot be read"),
        (lambda raw: b"hello", "cannot be read"),
        (lambda raw: b"", "begins with nothing"),
        (lambda raw: gzip.compress(b"\0\0\x08\x01" + b"\0" * 20), "expected 00000803"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "should hold 15680 values"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"x"), "found more: it is damaged"),
        (lambda raw: header(2**32 - 1, 2**32 - 1, 2**32 - 1), "claims"),
        (lambda raw: header(0, 2**32 - 1, 2**32 - 1), "claims"),
        (lambda raw: header(2**32 - 1, 2**32 - 1, 0), "claims"),
        (
            lambda raw: header(5, 56, 56) + gzip.compress(bytes(5 * 56**2)),
            r"\[56, 56\] pixels, exp",
        ),
        (lambda raw: header(20, 14, 56) + gzip.compress(bytes(15_680)), r"\[14, 56\] pixels, exp"),
        (lambda raw: header(20, 28, 0), r"\[28, 0\] pixels, expected \[28, 28\]"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=message) as error:
        data.load("fashion_mnist", str(folder))
    assert str(file) in str(error.value)


def test_a_missing_file_of_four_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"but not t10k-labels-idx1-ubyte\.gz"):
        data.load("fashion_mnist", str(folder))


@pytest.mark.filterwarnings("ignore")
def test_a_folder_without_the_four_files_is_told_their_names(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"unpacked")
    with pytest.raises(InputError, match="none of its files is there") as error:
        data.load("fashion_mnist", str(tmp_path))
    assert all(name in str(error.value) for name in (str(tmp_path), *fashion_mnist.FILES))


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder):
    file = folder / "t10k-labels-idx1-ubyte.gz"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match=r"but not t10k-labels-idx1-ubyte\.gz"):
        data.load("fashion_mnist", str(folder))
    with pytest.raises(InputError, match="is no regular file"):
        idx.read(file, 1)


GOOD = {"image": np.zeros((28, 28, 1), np.uint8), "label": 9}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"image": np.zeros((14, 56, 1), np.uint8)},
            r"it is uint8\[14, 56, 1\], not uint8\[28, 28",
        ),
        ({"image": np.zeros((1, 1, 1), np.uint8)}, "it is uint8"),
        ({"image": np.zeros((28, 28, 1), np.int64)}, "it is int64"),
        ({"label": 10}, "its label is 10"),
        ({"label": 2**32 + 3}, "its label is 4294967299"),
        ({"image": None}, "'NoneType' object has no attribute"),
    ],
)
def test_a_prepared_example_that_is_another_is_named(bad, message):
    assert fashion_mnist._stack([GOOD, GOOD], "test")[1].tolist() == [9, 9]
    with pytest.raises(InputError, match=f"test part: example 1 cannot be read .*{message}"):
        fashion_mnist._stack([GOOD, GOOD | bad], "test")


def test_labels_that_do_not_fit_are_named(folder):
    labels = idx_bytes(np.full(20, 11))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with pytest.raises(InputError, match="training part: example 0 has label 11, expected 0 to 9"):
        data.load("fashion_mnist", str(folder))


@pytest.mark.parametrize("shape", [(2, 3, 3), (2**14, 2**7, 2**7 + 1)])
def test_a_file_that_unpacks_to_gigabytes_takes_no_memory_that_it_does_not_declare(tmp_path, shape):
    file = tmp_path / "images.gz"
    file.write_bytes(header(*shape) + gzip.compress(bytes(2**26), 1) * 32)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"should hold 18 values .* found more|claims"):
        idx.read(file, 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**22


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_the_idx_reader_only_ever_complains(tmp_path_factory, raw):
    file = tmp_path_factory.mktemp("idx") / "file.gz"
    for content in (raw, gzip.compress(raw), gzip.compress(b"\0\0\x08\x01" + raw)):
        file.write_bytes(content)
        try:
            read = idx.read(file, 1)
        except InputError as error:
            read, complaint = None, str(error)
        assert str(file) in complaint if read is None else read.dtype == np.uint8


def test_nan_is_refused_before_training():
    good = data.load("digits")
    x = good.train_x.copy()
    x[17, 0, 0, 0] = np.nan
    with pytest.raises(
        InputError, match="training part: example 17 holds a value that is not finite"
    ):
        good._replace(train_x=x).checked()
    with pytest.raises(InputError, match="898 examples but 897 labels"):
        good._replace(train_y=good.train_y[1:]).checked()
    assert isinstance(good.checked(), Dataset)


@pytest.mark.parametrize("wrong", [-1, 10, 255, -100])
def test_a_label_that_is_no_class_is_refused_in_either_part(wrong):
    good = data.load("digits")
    for part, name in (("train_y", "training"), ("test_y", "test")):
        y = getattr(good, part).copy()
        y[[7, 9]] = wrong
        with pytest.raises(InputError, match=f"digits, {name} part: example 7 has label {wrong}, "):
            good._replace(**{part: y}).checked()
        with pytest.raises(InputError, match=r"labels must be int\["):
            good._replace(**{part: y.astype(np.float32)}).checked()


def test_training_and_test_examples_of_unlike_shapes_are_refused():
    good = data.load("digits")
    for x in (good.test_x[:, :7], good.test_x[..., 0], good.test_x.reshape(-1, 4, 16, 1)):
        with pytest.raises(InputError, match=r"training part is \[8, 8, 1\], one of the test part"):
            good._replace(test_x=x).checked()
    with pytest.raises(InputError, match="must be alike, and not empty"):
        good._replace(train_x=good.train_x[:, :0], test_x=good.test_x[:, :0]).checked()


def test_unknown_names_are_listed():
    with pytest.raises(InputError, match=r"there is no 'digit'; did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(InputError, match=r"take no data\.path"):
        data.load("digits", "/tmp")


Y = np.repeat(np.arange(10), 50).astype(np.int32)
X = np.arange(500, dtype=np.float32)[:, None]


def of(**options):
    options = {"workers": 4, "batch": 8, "local_steps": 3, "seed": 1, **options}
    return Batches(X, Y, **options)


def test_batches_are_a_pure_function_of_seed_worker_and_step():
    one, two = of(), of()
    two(7), two(3)  # whatever was asked before
    for round in (5, 0):
        assert (one(round)["x"] == two(round)["x"]).all()
    assert (one(0)["x"] != of(seed=2)(0)["x"]).any()
    assert one(0)["x"].shape == (4, 3, 8, 1)
    flat = np.concatenate([one.indices(2, step) for step in range(6)])
    assert (one(1)["x"][2].ravel() == X[flat[24:]].ravel()).all(), "round 1 is steps 3, 4, 5"


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_every_epoch_shows_every_example_once(n, workers, batch):
    if n < workers:
        return
    b = Batches(X[:n], Y[:n], workers=workers, batch=batch, local_steps=1, seed=0)
    for worker, shard in enumerate(b.shards):
        seen = np.concatenate([b.indices(worker, step) for step in range(3 * len(shard))])
        for epoch in range(3):
            one = seen[epoch * len(shard) : (epoch + 1) * len(shard)]
            assert sorted(one) == sorted(shard)


def test_every_epoch_and_worker_has_an_order_of_its_own():
    everything = of(workers=2, split="all", batch=500)
    orders = [everything.indices(worker, epoch) for worker in range(2) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6


def test_shards():
    disjoint = batches.shards(Y, 7, seed=0)
    assert sorted(np.concatenate(disjoint)) == list(range(500))
    assert {len(s) for s in disjoint} == {71, 72}
    everything = batches.shards(Y, 3, seed=0, split="all")
    assert all(len(s) == 500 for s in everything)
    first, second = Batches(X, Y, workers=2, batch=50, local_steps=1, seed=0, split="all")(0)["x"]
    assert (first != second).any(), "the same data, each worker in its own order"
    same = Batches(X, Y, workers=3, batch=50, local_steps=2, seed=0, split="same")
    for leaf in same(1).values():
        assert (leaf == leaf[:1]).all(), "or all in one"
    mine = Batches(X, Y, workers=3, batch=50, local_steps=2, seed=0, split="same", of=[2])(1)
    assert (mine["x"][0] == same(1)["x"][0]).all()


def test_skewed_shards_hold_few_classes_each():
    def classes(skew):
        parts = batches.shards(Y, 5, seed=0, skew=skew)
        assert sorted(np.concatenate(parts)) == list(range(500))
        shares = [np.bincount(Y[p], minlength=10) / len(p) for p in parts]
        return np.mean([1 / np.sum(s**2) for s in shares])  # effective number of classes

    assert classes(0.1) < 5 < 8 < classes(100.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"workers": 501}, "500 examples cannot be split between 501 workers"),
        ({"split": "both"}, "'disjoint', 'all' or 'same', found 'both'"),
        ({"skew": -1.0}, "must be 0"),
        ({"split": "all", "skew": 1.0}, r"data\.skew needs data\.split='disjoint'"),
        ({"workers": 64, "skew": 0.001}, r"data\.skew=0\.001 leaves worker \d+ of 64 without"),
    ],
)
def test_bad_input_of_batches(options, message):
    with pytest.raises(InputError, match=message):
        of(**options)


def test_labels_are_one_for_each_example():
    with pytest.raises(InputError, match=r"labels must be int\[500\]"):
        Batches(X, Y[:400], workers=4, batch=8, local_steps=3, seed=1)


TOKENS = np.stack([Y, Y[::-1]], 1)
TARGETS = X.astype(np.float32) / 7


@pytest.mark.parametrize(
    "labels", [TOKENS, TARGETS, TARGETS[:, 0]], ids=["several", "[n, 1]", "[n]"]
)
def test_batches_hold_labels_of_any_kind(labels):
    found = Batches(X, labels, workers=4, batch=8, local_steps=3, seed=1)
    batch = found(0)["y"]
    assert (batch.dtype, batch.shape) == (labels.dtype, (4, 3, 8, *labels.shape[1:]))
    assert (batch[2, 1] == labels[found.indices(2, 1)]).all()
    with pytest.raises(InputError, match=r"data\.skew needs one label for each example"):
        Batches(X, labels, workers=4, batch=8, local_steps=3, seed=1, skew=1.0)


def test_a_label_at_each_place_is_below_the_classes_and_targets_are_not_asked():
    wrong = TOKENS.copy()
    wrong[17, 1] = 10
    settings = {"workers": 4, "batch": 8, "local_steps": 3, "seed": 1}
    with pytest.raises(InputError, match="example 17 has label 10, expected 0 to 9"):
        Batches(X, wrong, classes=10, **settings)
    with pytest.raises(InputError, match="training part: example 17 has label 10, expected 0 to 9"):
        Dataset("mine", X, wrong, X, TOKENS, 10).checked()
    assert Dataset("mine", X, TOKENS, X, TOKENS, 10).checked().sha256
    assert Dataset("mine", X, -TOKENS, X, -TOKENS, 0).checked().sha256
    Batches(X, -TOKENS, classes=0, **settings)
    with pytest.raises(InputError, match="test part: example 0 holds a target that is not finite"):
        Dataset("mine", X, TARGETS, X, TARGETS * np.nan, 0).checked()


@pytest.mark.parametrize(
    "labels",
    [Y[:, None], Y.astype(np.float32), np.eye(10, dtype=np.int32)[Y]],
    ids=lambda y: f"{y.dtype}{y.shape}",
)
def test_classification_takes_one_integer_for_each_example(labels):
    net = Logits()
    params = net.init(jax.random.key(0), X[:1], False)
    with pytest.raises(InputError, match=r"must be int\[500\], .* ist_jax.fit takes targets"):
        classification.accuracy(net, X[:1])(params, X, labels)
    with pytest.raises(InputError, match=r"labels must be int\[8\], one for each"):
        classification.cross_entropy(net)(params, {"x": X[:8], "y": labels[:8]}, jax.random.key(1))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(TOKENS, 10), (TARGETS, 0), (Y, 0)],
    ids=["several", "targets", "integers"],
)
def test_a_config_that_classifies_refuses_other_labels_before_it_trains(labels, classes):
    found = Dataset("mine", X, labels, X, labels, classes)
    with pytest.raises(InputError, match=r"mine: .*Classification takes one class"):
        tasks.make(tiny(), found, method.ist(), 60)


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize("wrong", [-1, -100])
def test_a_negative_label_is_not_trained_as_the_last_class(wrong, kind):
    labels = Y.astype(kind)
    labels[[17, 18]] = wrong
    with pytest.raises(
        InputError, match=f"example 17 has label {wrong}, expected 0 to classes - 1"
    ):
        Batches(X, labels, workers=4, batch=8, local_steps=3, seed=1)


@pytest.mark.parametrize(("wrong", "kind"), [(10, np.int32), (255, np.uint8), (2**40, np.int64)])
def test_a_label_that_is_no_class_is_refused_where_the_classes_are_known(wrong, kind):
    labels = Y.astype(kind)
    labels[17] = wrong
    assert len(of(classes=10).shards) == 4
    with pytest.raises(InputError, match=f"example 17 has label {wrong}, expected 0 to 9"):
        Batches(X, labels, workers=4, batch=8, local_steps=3, seed=1, classes=10)


class Logits(nn.Module):
    """Ten classes, 300 more if asked for."""

    more: int = 0

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(10 + self.more)(x)


@pytest.mark.parametrize(("wrong", "kind"), [(-1, np.int8), (10, np.int32), (255, np.uint8)])
def test_a_label_that_is_no_class_makes_the_loss_nan_and_no_test_accuracy(wrong, kind):
    net = Logits()
    params = net.init(jax.random.key(0), X[:1], False)
    loss = classification.cross_entropy(net)
    labels = Y.astype(kind)
    assert np.isfinite(loss(params, {"x": X, "y": labels}, jax.random.key(1)))
    assert 0 <= classification.accuracy(net, X[:1])(params, X, labels) <= 1
    labels[17] = wrong
    assert np.isnan(loss(params, {"x": X, "y": labels}, jax.random.key(1)))
    with pytest.raises(InputError, match=f"example 17 has label {wrong}, expected 0 to "):
        classification.accuracy(net, X[:1])(params, X, labels)


def test_labels_of_one_byte_serve_more_classes_than_a_byte_has():
    net = Logits(more=300)
    params = net.init(jax.random.key(0), X[:1], False)
    same = [
        classification.cross_entropy(net)(params, {"x": X, "y": Y.astype(kind)}, jax.random.key(1))
        for kind in (np.int8, np.uint8, np.int32)
    ]
    assert np.isfinite(same).all()
    assert len(set(map(float, same))) == 1
    none = {"x": X, "y": np.full(len(X), -1, np.int8)}
    assert np.isnan(classification.cross_entropy(net)(params, none, jax.random.key(1)))


class OnDisk(np.ndarray):
    """An array that notes which of its rows are read."""

    rows: set

    def __getitem__(self, index):
        self.rows.update(np.asarray(index).ravel().tolist())
        return np.asarray(self)[index]


def test_a_process_reads_the_examples_of_its_own_workers_and_no_other():
    x = np.arange(40.0).reshape(40, 1).view(OnDisk)
    x.rows = set()
    y = np.arange(40) % 4
    settings = {"workers": 4, "batch": 8, "local_steps": 3, "seed": 0}
    part = Batches(x, y, of=[1, 3], **settings)
    whole = Batches(np.asarray(x), y, **settings)
    for round in range(3):
        for name, values in part(round).items():
            np.testing.assert_array_equal(values, whole(round)[name][[1, 3]])
    assert x.rows == {*whole.shards[1].tolist(), *whole.shards[3].tolist()}
