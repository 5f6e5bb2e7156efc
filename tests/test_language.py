"""Texts as data, bits for each byte, and text that a net goes on with."""

import gzip
import hashlib
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ist_jax
from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import subwords
from ist_jax.data.sources import gcide
from ist_jax.models import MLP, Transformer
from ist_jax.run import config_files, training
from ist_jax.run import sampling as of_folder
from ist_jax.tasks import sampling

TEXT = "the quick brown fox jumps over the lazy dog\n  and the dog sleeps on — naïve\n" * 40
KEY = jax.random.key(5)
SMALL = {"width": 12, "depth": 2, "heads": 4, "head": 4, "ffn": 10}


def test_gcide_is_split_by_headword():
    entries = [b"Horse \\H\\ n.\n  An animal.", b"horse \\h\\ v.\n  To ride.", b"Dog\n   Barks."]
    many = [b"word%d \\w\\\n  text" % n for n in range(2000)]
    data_ = b"\n".join([b"00-database-info\n  about", *entries, *many])
    train, test = gcide.parts(data_)
    assert b"00-database" not in train + test
    assert (entries[0] in train) == (entries[1] in train)
    for part, inside in ((train, False), (test, True)):
        for entry in gcide.re.split(rb"\n(?=[^\s\n])", part):
            head = entry.split(b"\n")[0].split(b"\\")[0].strip().lower()
            assert (hashlib.sha256(head).digest()[0] < 5) == inside
    assert 10 < test.count(b"word") < 80
    assert len(train) + len(test) + 1 == len(data_) - len(b"00-database-info\n  about\n")


@pytest.fixture
def small_gcide(monkeypatch, tmp_path):
    """The source, over a file of 60 kB in place of Debian's; a few words are for test."""
    text = b"\n".join(b"word%d \\w\\\n  is a word \xb0 of sorts" % n for n in range(1500))
    monkeypatch.setattr(gcide, "SHA256", hashlib.sha256(text).hexdigest())
    file = tmp_path / "gcide.dict.dz"
    file.write_bytes(gzip.compress(text))
    return lambda **options: data.load("gcide", str(file), cache=str(tmp_path / "c"), **options)


def test_gcide_is_bytes_and_the_bytes_after_them(small_gcide):
    found = small_gcide(tokens=16)
    assert (found.classes, found.train_x.dtype, found.tokenizer) == (128, np.uint8, "")
    for x, y in ((found.train_x, found.train_y), (found.test_x, found.test_y)):
        assert x.shape == y.shape == (len(x), 16)
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
        np.testing.assert_array_equal(x[1:, 0], y[:-1, -1])
    assert found.train_x.max() == 127  # the degree sign
    assert b"is a word" in found.train_x.tobytes()
    fewer = small_gcide(tokens=16, test_examples=5)
    assert fewer.test_x.shape == (5, 16)
    assert fewer.sha256 != found.sha256
    for row in fewer.test_x:
        assert (found.test_x == row).all(axis=1).any()
    with pytest.raises(InputError, match=r"data\.options\.tokens must be a whole number"):
        small_gcide(tokens=0)
    with pytest.raises(InputError, match="fewer than the 60001"):
        small_gcide(tokens=60_000)


def test_gcide_of_another_version_is_refused(tmp_path):
    (tmp_path / "gcide.dict").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"is not GCIDE 0\.48\.5"):
        data.load("gcide", str(tmp_path / "gcide.dict"), cache=str(tmp_path))
    with pytest.raises(InputError, match="apt-get install dict-gcide"):
        data.load("gcide", str(tmp_path / "none"))


@pytest.mark.skipif(not gcide.PLACE.is_file(), reason="needs dict-gcide")
def test_gcide_0_48_5_is_as_large_as_it_is(tmp_path):
    found = data.load("gcide", cache=str(tmp_path), tokens=64)
    said = data.outline("gcide", tokens=64)
    for name in ("train_x", "test_y"):
        assert getattr(found, name).shape == getattr(said, name).shape


def files_of(folder, train=range(100), held=range(40), name="val.bin"):
    for file, tokens in (("train.bin", train), (name, held)):
        np.asarray(tokens, np.uint16).tofile(folder / file)
    return str(folder)


def test_a_file_of_numbers_is_mapped(tmp_path):
    found = data.load("token_file", files_of(tmp_path), tokens=8, vocabulary=100)
    assert (found.train_x.shape, found.test_x.shape) == ((12, 8), (4, 8))
    np.testing.assert_array_equal(found.train_y[0], np.arange(1, 9))
    assert isinstance(found.train_x.base, np.memmap) or isinstance(found.train_x, np.memmap)
    assert found.tokenizer is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "val.bin").unlink(), r"no .*val\.bin"),
        (lambda f: (f / "train.bin").write_bytes(b"odd"), "odd number of bytes"),
        (lambda f: (f / "train.bin").write_bytes(b""), "is empty"),
        (lambda f: files_of(f, range(5)), "5 tokens are fewer than the 9"),
        (
            lambda f: files_of(f, [7] * 40 + [100] * 9),
            "token 100, and .*knows 0 to 99",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not the file of a byte-level"),
    ],
)
def test_files_of_numbers_that_are_wrong(tmp_path, spoil, message):
    files_of(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        data.load("token_file", str(tmp_path), tokens=8, vocabulary=100)


def test_a_text_that_is_not_utf8_or_empty_is_refused(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"caf\xe9" * 100)
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8 at byte 3"):
        data.load("text", str(file), tokens=8)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="0 tokens are fewer than the 9"):
        data.load("text", str(file), tokens=8)


def test_pieces_of_words_are_found_in_the_training_part_alone(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "test.txt").write_text("xylophone " * 50)
    found = data.load("text", str(tmp_path), tokens=8, vocabulary=300)
    assert found.classes == 300
    pieces = subwords.pieces(found.tokenizer, 300)
    assert len(pieces) == 300
    assert b"the" in pieces
    assert not any(b"xy" in piece for piece in pieces)
    tokens = subwords.encoded(found.tokenizer, TEXT)
    assert b"".join(pieces[token] for token in tokens) == TEXT.encode()
    assert len(tokens) < len(TEXT.encode()) / 2
    with pytest.raises(InputError, match="must be 0 \\(bytes\\) or from 256"):
        data.load("text", str(tmp_path), tokens=8, vocabulary=100)


def run_of_text(folder, vocabulary=0):
    """A run folder of a net that has seen a small text."""
    config = config_files.load("gcide", "tiny")
    (folder / "a.txt").write_text(TEXT)
    config.methods, config.workers = ("ist",), 2
    config.data.name, config.data.path = "text", str(folder / "a.txt")
    config.data.options = {"tokens": 16, "vocabulary": vocabulary}
    config.data.validation = 0.0
    config.model.options = {"width": 12, "depth": 1, "heads": 2, "head": 4}
    config.model.widths = {"ffn": 8}
    training.run(config, folder / "run")
    return folder / "run"


@pytest.mark.parametrize("vocabulary", [0, 300])
def test_a_run_says_bits_for_each_byte_and_goes_on_with_a_prompt(tmp_path, vocabulary):
    if vocabulary:
        pytest.importorskip("tokenizers")
    folder = run_of_text(tmp_path, vocabulary)
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    found = data.load("text", str(tmp_path / "a.txt"), tokens=16, vocabulary=vocabulary)
    sizes = np.array([len(piece) for piece in subwords.pieces(found.tokenizer, found.classes)])
    logits = ist_jax.load(folder).predict(found.test_x)
    log = np.asarray(jax.nn.log_softmax(logits))
    nats = -np.take_along_axis(log, found.test_y[..., None], axis=-1).sum()
    assert line["bits/test"] == pytest.approx(
        nats / math.log(2) / sizes[found.test_y].sum(), rel=1e-4
    )
    assert line["perplexity/test"] == pytest.approx(math.exp(line["loss/test"]))
    say = lambda draw=0, **how: "".join(
        of_folder.texts(folder, "the dog", None, None, 40, draw, **how)
    )
    one = say()
    assert one.startswith("the dog")
    assert len(one) > 20
    assert one == say()
    assert one != say(1)
    assert say(0, temperature=0) == say(1, temperature=0)
    if vocabulary:
        (folder / "tokenizer.json").write_text(subwords.trained(TEXT[:900], 290))
        with pytest.raises(InputError, match="is not the tokenizer that the net was trained with"):
            say()
        (folder / "tokenizer.json").unlink()
        with pytest.raises(InputError, match="trained with a tokenizer of its own"):
            say()


def test_nothing_is_drawn_where_it_is_not_known_what_tokens_stand_for(tmp_path):
    folder = run_of_text(tmp_path)
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    assert summary["data"].pop("tokenizer") == "", "of bytes"
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match="not known what the tokens stand for"):
        next(of_folder.texts(folder, "the", None, None, 1))


@pytest.mark.parametrize("numbers", [{"a": 2**40}, {"a": 4}, {"a": -1}, {"a": "x"}, {}, {"\n": 0}])
def test_tokenizers_that_are_none_or_know_too_much(numbers):
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        subwords.pieces(json.dumps({"model": {"vocab": numbers}}), 4)
    assert subwords.pieces(json.dumps({"model": {"vocab": {"a": 1}}}), 3) == [b"", b"a", b""]


def made(**options):
    model = Transformer({"heads": 4, "ffn": 10}, **{**SMALL, "classes": 11, **options})
    return model, model.init(jax.random.key(0), np.zeros((1, 3), np.int32))


@pytest.mark.parametrize("length", [64, 8])
def test_the_likeliest_tokens_are_those_of_the_whole_text(length):
    """Token by token with what is remembered, and anew with half of it where that is full."""
    model, params = made()
    prompt = [1, 2, 3]
    drawn = list(sampling.sample(model, params, prompt, 20, KEY, length=length, temperature=0))
    text, start = list(prompt), 0
    likeliest = jax.jit(lambda text, n: model.apply(params, text)[0, n - 1].argmax())
    for token in drawn:
        if len(text) - start > length:
            start = len(text) - length // 2
        padded = np.zeros((1, length + 1), np.int32)
        padded[0, : len(text) - start] = text[start:]
        assert token == int(likeliest(padded, len(text) - start))
        text.append(token)


def test_draws_have_the_shares_of_a_softmax():
    logits = jnp.array([1.0, 0.0, -1.0, 2.0])
    keys = jax.random.split(KEY, 20_000)
    for temperature, top_k in ((1.0, 0), (0.5, 0), (1.0, 2), (1.0, 9)):
        draw = lambda key, t=temperature, k=top_k: sampling._drawn(logits, key, t, k)
        shares = np.bincount(jax.vmap(draw)(keys), minlength=4) / len(keys)
        kept = np.exp(np.asarray(logits) / temperature)
        if top_k == 2:
            kept[[1, 2]] = 0
        np.testing.assert_allclose(shares, kept / kept.sum(), atol=0.015)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [11]}, "the prompt has token 11, and the net knows 0 to 10"),
        ({"count": -1}, "tokens can be drawn, found -1"),
        ({"temperature": -0.1}, "temperature must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_k": -1}, "top_k must be 0 or more"),
        ({"length": 0}, "length must be at least 1"),
        ({"model": MLP({"hidden0": 4}, classes=3)}, "MLP keeps no keys and values"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    model, params = made()
    given = {"model": model, "params": params, "prompt": [1], "count": 2, "key": KEY, "length": 8}
    with pytest.raises(InputError, match=message):
        list(sampling.sample(**{**given, **changes}))


def test_the_command_refuses_what_is_no_net_of_text(tmp_path):
    words = [sys.executable, "-m", "experiments.sample"]
    for more, code in (([f"--workdir={tmp_path}"], 2), ([], 2), (["--help"], 0)):
        found = subprocess.run([*words, *more], capture_output=True, text=True, timeout=120)
        assert found.returncode == code
        assert "Traceback" not in found.stderr
