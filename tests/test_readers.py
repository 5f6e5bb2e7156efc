"""Files of recordings, images, lists and caches with one field changed: read as meant, or refused.

Half of the inputs are good files of which one field is another; the rest are good files, or have
any bytes changed. What a reader gives is compared with what was written, so that nothing is
different in silence. All 2,000 of each reader: ``pytest -m slow tests/test_readers.py``.
"""

import contextlib
import gzip
import json
import signal
import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.data import description
from ist_jax.data.sources import fashion_mnist, idx, speech, wav

SECONDS, BYTES = 10, 2**25  # that one input may take
EDGES = (0, 1, 2, 3, 4, 27, 29, 55, 2**7, 2**8, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
PCM = bytes.fromhex("0100000000001000800000aa00389b71")
SAMPLES = 50


def damaged(content, draw):
    """A copy with a bit flipped, a byte replaced, a part cut out or doubled, or cut short."""
    found, at = bytearray(content), int(draw.integers(len(content)))
    match draw.integers(5):
        case 0:
            found[at] ^= 1 << int(draw.integers(8))
        case 1:
            found[at] = int(draw.integers(256))
        case 2:
            del found[at : at + int(draw.integers(1, 9))]
        case 3:
            found[at:at] = found[at : at + int(draw.integers(1, 9))]
        case 4:
            del found[at:]
    return bytes(found)


def packed(fields):
    """An idx file, gzipped, of its fields: ``zero``, ``kind``, ``axes``, ``shape``, ``values``."""
    head = struct.pack(">HBB", fields["zero"], fields["kind"], fields["axes"])
    head += struct.pack(f">{len(fields['shape'])}I", *fields["shape"])
    return gzip.compress(head + fields["values"], 1)


def another_idx(good, draw):
    """The fields of an idx file with one of them another."""
    field = str(draw.choice([*good, "shape"]))
    value = good[field]
    if field == "shape":
        value = [*value]
        value[draw.integers(len(value))] = int(draw.choice(EDGES))
    elif field == "values":
        value = value[:-1] if draw.integers(2) else value + b"\0"
    else:
        value = int(draw.choice([n for n in EDGES if n < 256]))
    return good | {field: value}


def fields_of(array):
    return {
        "zero": 0,
        "kind": 8,
        "axes": array.ndim,
        "shape": [*array.shape],
        "values": array.tobytes(),
    }


class Idx:
    """Images of 5 x 4 pixels."""

    def __init__(self, folder):
        self.path = folder / "images.gz"
        self.images = np.arange(60, dtype=np.uint8).reshape(3, 5, 4)

    def one(self, kind, draw):
        good = fields_of(self.images)
        content = packed(another_idx(good, draw) if kind == "field" else good)
        self.path.write_bytes(damaged(content, draw) if kind == "bytes" else content)

    def read(self):
        np.testing.assert_array_equal(idx.read(self.path, 3), self.images)


class Wav:
    """A recording in any of the ways in which it may be written."""

    def __init__(self, folder):
        self.path = folder / "clip.wav"

    def one(self, kind, draw):
        self.body = draw.integers(-9, 9, SAMPLES).astype("<i2")
        fields = {
            "riff": b"RIFF",
            "wave": b"WAVE",
            "format": b"fmt ",
            "data": b"data",
            "length": int(draw.choice([2 * SAMPLES, 2**32 - 1, 0x7FFFF000])),
            "about": [1, 1, 16_000, 32_000, 2, 16, 22, 16, 4],
            "guid": PCM,
            "before": draw.bytes(2 * int(draw.integers(9))),
        }
        fields["about"][0] = int(draw.choice([1, 0xFFFE]))
        if kind == "field":
            field = str(draw.choice([*fields, *["about"] * 6]))
            if field == "about":
                place = draw.integers(9)
                fields[field][place] = (
                    int(draw.choice(EDGES)) & (0xFFFF, 2**32 - 1)[place in (2, 3, 8)]
                )
            elif field == "length":
                fields[field] = int(draw.choice(EDGES))
            else:
                fields[field] = damaged(fields[field] or b"\0", draw)
        content = self.written(fields)
        self.path.write_bytes(damaged(content, draw) if kind == "bytes" else content)
        self.harmed = kind == "bytes"  # in its samples, perhaps

    def written(self, fields):
        chunk = lambda name, size, body: name + struct.pack("<I", size) + body
        about = struct.pack("<HHIIHHHHI", *fields["about"]) + fields["guid"]
        return (
            chunk(fields["riff"], 2**32 - 1, fields["wave"])
            + chunk(b"LIST", len(fields["before"]), fields["before"])
            + b"\0" * (len(fields["before"]) % 2)
            + chunk(fields["format"], len(about), about)
            + b"\0" * (len(about) % 2)
            + chunk(fields["data"], fields["length"], self.body.tobytes())
        )

    def read(self):
        found = wav.read(self.path, samples=SAMPLES)
        assert found.shape == self.body.shape
        assert self.harmed or np.array_equal(found, self.body)


class Lists:
    """The archive's two lists; its clips are looked at by name alone."""

    WAYS = (
        *(str, "./{}".format, " {}\t".format, "{}\r".format, ".//{}".format, "\n{}".format),
        *(lambda name: name.replace("/", "\\"), lambda name: name.replace("/", "/./")),
    )
    FAULTS = (
        *("cat/{}".format, "{}x".format, lambda name: name[1:], str.upper, "/{}".format),
        *(lambda name: name.replace("/", " "), "\0{}".format, "../{}".format, "{0}\n{0}".format),
    )

    def __init__(self, folder):
        self.folder = folder
        self.clips = [
            speech.Clip(f"{word}/{speaker:08x}_nohash_0.wav", label)
            for label, word in enumerate(speech.WORDS)
            for speaker in range(3)
        ]

    def one(self, kind, draw):
        names = [clip.name for clip in self.clips]
        held = draw.permutation(len(names))[:40]
        self.parts = np.full(len(names), "train", object)
        self.parts[held[:20]], self.parts[held[20:]] = "test", "validation"
        lines = {
            part: [self.WAYS[draw.integers(len(self.WAYS))](names[i]) for i in its]
            for part, its in (("test", held[:20]), ("validation", held[20:]))
        }
        if kind == "field":
            some, at = lines[str(draw.choice(["test", "validation"]))], draw.integers(20)
            fault = self.FAULTS[draw.integers(len(self.FAULTS))]
            some[at] = (fault if draw.integers(2) else self.WAYS[draw.integers(8)])(
                some[at].strip()
            )
        for part, file in (("test", speech.TEST), ("validation", speech.VALIDATION)):
            content = "\n".join(lines[part]).encode()
            content = b"\xef\xbb\xbf" * int(draw.integers(2)) + content
            if kind == "bytes" and part == "test":
                content = damaged(content, draw)
            (self.folder / file).write_bytes(content)
        self.cut = kind == "bytes"  # perhaps whole lines

    def read(self):
        found = speech._split(self.folder, self.clips, "lists")
        parts = {clip.name: part for part, its in found.items() for clip in its}
        for clip, part in zip(self.clips, self.parts, strict=True):
            is_in = parts.get(clip.name, "validation")
            assert is_in == part or (self.cut and (part, is_in) == ("test", "train"))


class Fashion:
    """A folder with four files, of five images each."""

    def __init__(self, folder):
        self.folder = folder
        draw = np.random.default_rng(0)
        images = lambda: draw.integers(256, size=(5, 28, 28)).astype(np.uint8)
        labels = lambda: draw.integers(10, size=5).astype(np.uint8)
        self.arrays = dict(
            zip(fashion_mnist.FILES, (images(), labels(), images(), labels()), strict=True)
        )
        self.good = {name: packed(fields_of(array)) for name, array in self.arrays.items()}

    def one(self, kind, draw):
        for name, content in self.good.items():
            (self.folder / name).write_bytes(content)
        file = self.folder / str(draw.choice(fashion_mnist.FILES))
        match kind, draw.integers(8):
            case "field", 0:
                file.unlink()
            case "field", 1:
                file.write_bytes(self.good[str(draw.choice(fashion_mnist.FILES[1::2]))])
            case "field", _:
                file.write_bytes(packed(another_idx(fields_of(self.arrays[file.name]), draw)))
            case "bytes", _:
                file.write_bytes(damaged(self.good[file.name], draw))
        self.swapped = [
            name
            for name in self.good
            if (self.folder / name).is_file()
            and (self.folder / name).read_bytes() in self.good.values()
            and (self.folder / name).read_bytes() != self.good[name]
        ]

    def read(self):
        found = data.load("fashion_mnist", str(self.folder))
        parts = (found.train_x, found.train_y, found.test_x, found.test_y)
        for (name, array), part in zip(self.arrays.items(), parts, strict=True):
            wanted = array[..., None] / np.float32(255) if array.ndim == 3 else array
            assert name in self.swapped or np.array_equal(part, wanted)


class Cache:
    """A prepared set of extreme classification, made of a text that does not change."""

    TEXT = "3 9 5\n0,3 1:0.5 5:-2e-3\n 0:1\n4,2,1 8:.5 7:1. 3:1\n"

    def __init__(self, folder):
        self.source, self.cache = folder / "source", folder / "cache"
        self.source.mkdir()
        for part in ("train", "test"):
            (self.source / f"{part}.txt").write_text(self.TEXT)
        self.wanted = self.told()
        (self.place,) = (path for path in self.cache.iterdir() if path.is_dir())
        self.good = {path.name: path.read_bytes() for path in self.place.iterdir()}

    def told(self):
        found = data.load("xmc", str(self.source), cache=str(self.cache))
        arrays = (found.train_x[:], found.train_y[:], found.test_x[:], found.test_y[:])
        return str((found.features, found.classes, found.skipped, found.sha256, arrays))

    def one(self, kind, draw):
        for name, content in self.good.items():
            (self.place / name).write_bytes(content)
        file = self.place / str(draw.choice(sorted(self.good)))
        if kind == "bytes":
            file.write_bytes(damaged(file.read_bytes(), draw))
        elif kind == "field" and draw.integers(2):
            file = self.place / description.NAME
            file.write_text(json.dumps(another_value(json.loads(file.read_text()), draw)))
        elif kind == "field":  # of the same size, as a disk's fault is
            content = np.frombuffer(file.read_bytes(), np.uint8).copy()
            at = int(draw.integers(len(content)))
            content[at : at + 8] = draw.choice([0, 1, 255])
            file.write_bytes(content.tobytes())

    def read(self):
        assert self.told() == self.wanted


def another_value(value, draw):
    """A copy of what JSON holds, one value of which is another, absent or besides."""
    if isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[draw.integers(len(keys))]
        copy = type(value)(value)
        if draw.integers(4):
            copy[key] = another_value(copy[key], draw)
        else:
            del copy[key]
        return copy
    choices = (None, True, 0, -1, 2**70, 1.5, "", "x", [], {}, [[]], float("nan"))
    return choices[draw.integers(len(choices))]


@contextlib.contextmanager
def bounded():
    """Ends what takes more than SECONDS, and complains about more than BYTES."""

    def stop(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def shares(reader, folder, count):
    """Of each kind of input, how many were read and how many were refused."""
    source, found = reader(folder), Counter()
    for number in range(count):
        draw = np.random.default_rng((7, number))
        kind = ("field", "bytes", "field", "good" if number % 8 == 3 else "bytes")[number % 4]
        source.one(kind, draw)
        try:
            with bounded():
                source.read()
            found[kind, "read"] += 1
        except InputError as error:
            found[kind, "refused" if len(str(error)) < 1000 else "lengthy"] += 1
    return found


@pytest.mark.parametrize("reader", [Idx, Wav, Lists, Fashion, Cache])
@pytest.mark.parametrize("count", [80, pytest.param(2000, marks=pytest.mark.slow)])
def test_one_field_changed_is_read_as_meant_or_refused(tmp_path, monkeypatch, reader, count):
    monkeypatch.setattr(description.os, "fsync", lambda _: None)  # caches are made anew many times
    found = shares(reader, tmp_path, count)
    assert not {what for _, what in found} - {"read", "refused"}
    assert not found["good", "refused"]
    assert found["good", "read"] == count // 8
    assert found["field", "refused"] >= count // 20 or reader is Cache  # which is made anew
