"""Speech Commands: features, splits, bad clips, and sets that are prepared once."""

import hashlib
import importlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import ROOT

from ist_jax.data import espeak, mel, prepared, speech, wav
from ist_jax.errors import InputError

SPEAKERS = ("2aa787cf", "a69b9b3e", "0a7c2a8d")  # test, validation and training in the archive
HOW_MANY = len(speech.WORDS)


def clip_of(*seed):
    return np.random.default_rng(seed).integers(-9000, 9000, 16_000).astype(np.int16)


@pytest.fixture
def archive(tmp_path):
    """Three clips a word, the lists, and what else the archive has or may have."""
    root = tmp_path / "archive"
    lists = {speech.TEST: [], speech.VALIDATION: []}
    for label, word in enumerate(speech.WORDS):
        (root / word).mkdir(parents=True)
        for speaker, name in enumerate(SPEAKERS):
            file = f"{word}/{name}_nohash_0.wav"
            wav.write(root / file, clip_of(label, speaker))
            lists.get({0: speech.TEST, 1: speech.VALIDATION}.get(speaker), []).append(file)
    for name, files in lists.items():
        (root / name).write_text("".join(f"{file}\n" for file in files))
    for other in ("_background_noise_", "hello"):
        (root / other).mkdir()
        (root / other / "0a7c2a8d_nohash_0.wav").write_bytes(b"no wave file")
    (root / "README.md").write_text("about")
    (root / "cat" / "notes.txt").write_text("not a clip")
    return root


@pytest.fixture
def here(monkeypatch):
    """Preparation in this process: faster, and it counts."""
    calls = []

    def aside(function, job):
        calls.append(function)
        module, name = function.split(":")
        job = json.loads(json.dumps(job))
        return json.loads(json.dumps(getattr(importlib.import_module(module), name)(job)))

    monkeypatch.setattr(prepared, "aside", aside)
    return calls


@pytest.fixture
def load(archive, tmp_path, here):
    """``speech.load`` of the small archive."""
    cache = str(tmp_path / "cache")
    return lambda **options: speech.load(str(archive), cache=cache, **options)


def oracle(clips):
    """Features from their definition in float64: a DFT by its matrix, triangles interpolated."""
    padded = np.concatenate([np.zeros(1024), clips, np.zeros(1024)])
    n, k = np.arange(2048), np.arange(1025)
    hann = np.sin(np.pi * n / 2048) ** 2
    dft = np.exp(-2j * np.pi * (np.outer(k, n) % 2048) / 2048)
    frames = np.stack([padded[t * 512 : t * 512 + 2048] * hann for t in range(32)])
    power = np.abs(frames @ dft.T) ** 2
    linear_then_log = lambda m: (
        m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27)
    )
    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [linear_then_log(top * i / 129) for i in range(130)]
    bands = [
        power
        @ np.interp(k * 16_000 / 2048, edges[b : b + 3], [0, 2 / (edges[b + 2] - edges[b]), 0])
        for b in range(128)
    ]
    decibels = 10 * np.log10(np.maximum(np.array(bands), 1e-10))
    return np.maximum(decibels - decibels.max(), -80).ravel()


T = np.arange(16_000) / 16_000
DRAW = np.random.default_rng(3)
CLIPS = {
    "noise": DRAW.uniform(-0.5, 0.5, 16_000),
    "faint noise": DRAW.uniform(-1, 1, 16_000) / 32_768,
    "a tone": 0.5 * np.sin(2 * np.pi * 440 * T),
    "two tones": 0.4 * np.sin(2 * np.pi * 1000 * T) + 0.1 * np.sin(2 * np.pi * 7000 * T),
    "the highest": 0.5 * np.cos(np.pi * np.arange(16_000)),
    "clipped": np.clip(3 * np.sin(2 * np.pi * 300 * T), -1, 32_767 / 32_768),
    "a constant": np.full(16_000, 0.3),
    "silence": np.zeros(16_000),
    "the first sample": np.eye(1, 16_000, 0)[0],
    "the last sample": np.eye(1, 16_000, 15_999)[0],
}


def test_features_are_those_of_their_definition():
    """To 0.02 dB. An FFT in float32 errs by about 1e-7 of the largest amplitude in a frame; what is
    80 dB below is 1e-4 of it, and so 1e-3 of its amplitude, which is 0.01 dB.
    """
    clips = np.stack(list(CLIPS.values())).astype(np.float32)
    found = np.asarray(jax.jit(mel.features)(clips))
    for name, clip, ours in zip(CLIPS, clips, found, strict=True):
        expected = oracle(clip.astype(np.float64))
        assert np.isfinite(ours).all()
        assert np.abs(ours - expected).max() < 0.02, name
        assert ours.max() == 0
        assert ours.min() >= -80


def test_silence_is_flat():
    assert not np.asarray(mel.features(np.zeros((1, 16_000), np.int16))).any()


GOLDEN = {  # librosa 0.11.0, numpy 2.4: power_to_db(melspectrogram(y=clip, sr=16000), ref=np.max)
    (20, 8): -46.02405,
    (40, 12): -40.91353,
    (60, 20): -42.84343,
    (90, 31): -39.97495,
    (127, 16): -41.68119,
    (33, 31): -47.99891,
    (5, 3): -80,
    (127, 0): -80,
}
GOLDEN_MEAN, GOLDEN_STD, GOLDEN_FLOORED = -45.856905, 18.292941, 669


def test_features_are_librosas():
    n = np.arange(16_000)
    rising = 0.4 * np.sin(2 * np.pi * (150 * T + 2500 * T**2)) * np.minimum(1, 4 * T)
    clip = rising + 0.05 * ((n * n * 7919) % 1009 / 1009 - 0.5) * (n > 4000)
    found = np.asarray(mel.features(clip.astype(np.float32)[None]))[0]
    for (band, frame), value in GOLDEN.items():
        assert abs(found.reshape(128, 32)[band, frame] - value) < 2e-3
    assert abs(found.mean(dtype=np.float64) - GOLDEN_MEAN) < 1e-4
    assert abs(found.std(dtype=np.float64) - GOLDEN_STD) < 1e-4
    assert abs((found == -80).sum() - GOLDEN_FLOORED) <= 1


def test_int16_is_32768ths(strict_types):
    clips = np.stack([clip_of(0), clip_of(1)])
    scaled = (clips / 32_768).astype(np.float32)
    features = jax.jit(mel.features)
    assert np.array_equal(features(clips), features(scaled))


def test_the_words_are_the_archives():
    assert HOW_MANY == 35
    assert list(speech.WORDS) == sorted(set(speech.WORDS))
    digest = hashlib.sha256(" ".join(speech.WORDS).encode()).hexdigest()
    assert digest.startswith("efed80596d741656")


def test_a_fresh_process_prepares_what_the_lists_say(archive, tmp_path, capfd):
    """Not in this process, which must not touch a device before its team has met."""
    found = speech.load(str(archive), cache=str(tmp_path / "cache"))
    assert capfd.readouterr().err == ""
    assert isinstance(found.train_x, np.memmap)
    assert isinstance(found.test_x, np.memmap)
    assert (found.name, found.origin, found.classes, found.skipped) == (
        *("speech_commands", "real", 35, 0),
    )
    assert found.sha256 == speech.load(str(archive), cache=str(tmp_path / "other")).sha256 != ""
    for speaker, x, y in ((2, found.train_x, found.train_y), (0, found.test_x, found.test_y)):
        assert (x.shape, x.dtype, y.dtype) == ((HOW_MANY, 4096), np.float32, np.int32)
        assert y.tolist() == list(range(HOW_MANY))
        expected = mel.features(np.stack([clip_of(label, speaker) for label in range(HOW_MANY)]))
        np.testing.assert_allclose(x, expected, atol=1e-3)  # other shapes are other programs
    assert found.checked() is found


def test_speakers_are_held_out_by_the_archives_own_rule(load):
    """Of the archive's test list, of its validation list, and of neither."""
    in_test = ("2aa787cf", "ffa76c4a", "24ad3ebe", "d7467392", "5828dfa2", "91223b83", "bb05582b")
    assert all(speech.held_out(f"cat/{name}_nohash_3.wav") for name in (*in_test, "a69b9b3e"))
    assert not speech.held_out("bed/0a7c2a8d_nohash_0.wav")
    found = load(holdout="speakers")
    assert found.train_y.tolist() == list(range(HOW_MANY))
    assert found.test_y.tolist() == [label for label in range(HOW_MANY) for _ in range(2)]


def test_a_fifth_of_the_speakers_is_held_out():
    names = [f"{n:08x}" for n in range(10_000)]
    held = [speech.held_out(f"yes/{name}_nohash_0.wav") for name in names]
    assert abs(np.mean(held) - 0.2) < 0.02  # five standard deviations
    assert held == [speech.held_out(f"no/{name}_nohash_7.wav") for name in names]


def fmt(kind=1, channels=1, rate=16_000, bits=16):
    align = channels * bits // 8
    return struct.pack("<HHIIHH", kind, channels, rate, rate * align, align, bits)


def riff(*chunks):
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


SAMPLES = (b"data", bytes(32_000))
WHOLE = riff((b"fmt ", fmt()), SAMPLES)
BAD = {
    "nothing": (b"", "begins with nothing"),
    "not a wave file": (b"ID3" + bytes(40), "not a wave file"),
    "cut short": (WHOLE[:-2], "data chunk should have 32000 bytes, found 31998"),
    "cut in its header": (WHOLE[:30], "fmt  chunk should have 16 bytes, found 10"),
    "only a header": (WHOLE[:12], "without a whole 'fmt ' chunk"),
    "no samples": (riff((b"fmt ", fmt())), "without a 'data' chunk"),
    "no format": (riff(SAMPLES), "without a whole 'fmt ' chunk"),
    "short format": (riff((b"fmt ", fmt()[:14]), SAMPLES), "without a whole 'fmt ' chunk"),
    "other rate": (riff((b"fmt ", fmt(rate=8_000)), SAMPLES), "16000 samples a second, found 8000"),
    "stereo": (riff((b"fmt ", fmt(channels=2)), SAMPLES), "found 2 of 16 bits"),
    "bytes": (riff((b"fmt ", fmt(bits=8)), SAMPLES), "found 1 of 8 bits"),
    "compressed": (riff((b"fmt ", fmt(kind=2)), SAMPLES), r"found 1 of 16 bits \(format 2\)"),
    "floats": (riff((b"fmt ", fmt(kind=3, bits=32)), SAMPLES), r"found 1 of 32 bits \(format 3\)"),
    "too short": (riff((b"fmt ", fmt()), (b"data", bytes(31_998))), "16000 samples, found 15999"),
    "too long": (riff((b"fmt ", fmt()), (b"data", bytes(32_002))), "16000 samples, found 16001"),
    "far too long": (WHOLE + bytes(70_000), "far more than 16000 samples need"),
    "a damaged size": (WHOLE[:40] + b"\xff" * 4 + WHOLE[44:], "should have 4294967295 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_clips_are_named_or_left_out_and_counted(load, archive, kind, capsys, here):
    content, message = BAD[kind]
    bad = archive / "bird" / "0a7c2a8d_nohash_1.wav"
    bad.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        wav.read(bad)
    assert str(bad) in str(error.value)
    with pytest.raises(InputError, match=message) as error:
        load()
    assert str(bad) in str(error.value)
    assert "data.skip_bad=True" in str(error.value)
    capsys.readouterr()
    for _ in range(2):  # prepared, and from the cache
        found = load(skip_bad=True)
        assert found.skipped == 1
        assert len(found.train_x) == len(found.train_y) == HOW_MANY
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"1 bad clips were left out, the first: {bad}" in told
    assert len(here) == 2


def test_a_clip_that_is_not_there_is_bad(load, archive):
    (archive / "bird" / "0a7c2a8d_nohash_1.wav").symlink_to("nowhere.wav")
    with pytest.raises(InputError, match=r"0a7c2a8d_nohash_1\.wav cannot be read: No such file"):
        load()
    assert load(skip_bad=True).skipped == 1


def test_other_chunks_of_a_wave_file_are_passed_over(tmp_path):
    path = tmp_path / "clip.wav"
    body = struct.pack("<16000h", *clip_of(0))
    path.write_bytes(
        riff((b"LIST", b"odd"), (b"fmt ", fmt() + b"\0\0"), (b"data", body), (b"id3 ", b"x"))
    )
    assert np.array_equal(wav.read(path), clip_of(0))
    wav.write(path, clip_of(1))
    assert np.array_equal(wav.read(path), clip_of(1))
    wav.write(path, clip_of(1)[:10], rate=8_000)
    assert wav.read(path, rate=8_000, samples=10).tolist() == clip_of(1)[:10].tolist()


def test_a_missing_folder_says_what_to_do(archive, tmp_path):
    for path in ("", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(InputError, match=r"speech_commands_v0\.02\.tar\.gz.*data\.path"):
            speech.load(path)
    for file in (archive / "zero").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"zero holds no \.wav file"):
        speech.load(str(archive))
    (archive / "zero").rmdir()
    with pytest.raises(InputError, match="no folder for 1 of the 35 words: zero"):
        speech.load(str(archive))


def test_a_word_without_a_good_clip_is_named(load, archive):
    for file in (archive / "zero").iterdir():
        file.write_bytes(b"bad")
    with pytest.raises(InputError, match=r"no clip of .*zero can be used: .*not a wave file"):
        load(skip_bad=True)


def test_lists_and_their_alternative(load, archive):
    (archive / speech.VALIDATION).write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"validation_list.*holdout='speakers'"):
        load()
    (archive / speech.VALIDATION).unlink()
    with pytest.raises(InputError, match=r"validation_list.*holdout='speakers'"):
        load()
    assert len(load(holdout="speakers").train_x) == HOW_MANY
    (archive / speech.VALIDATION).write_text("")
    assert len(load().train_x) == 2 * HOW_MANY
    (archive / speech.TEST).write_text("")
    with pytest.raises(InputError, match="no clip is in the test part"):
        load()
    with pytest.raises(
        InputError, match=r"holdout must be one of \('lists', 'speakers'\), found 'x'"
    ):
        load(holdout="x")


def test_a_set_is_prepared_once_and_again_if_its_source_changes(load, archive, here):
    first = load()
    for _ in range(2):
        load()
    assert len(here) == 1
    wav.write(archive / "cat" / "0a7c2a8d_nohash_0.wav", clip_of(99))  # as long, but later
    again = load()
    assert len(here) == 2
    changed = (np.asarray(again.train_x) != first.train_x).any(axis=1)  # the old one is still there
    assert np.flatnonzero(changed).tolist() == [speech.WORDS.index("cat")]
    load(holdout="speakers")
    load()
    assert len(here) == 3, "one does not push out the other"


def kept(cache):
    """What is in a cache, but for the locks."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def cut(path):
    os.truncate(path, path.stat().st_size - 8)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flip, os.unlink], ids=["cut", "flip", "gone"])
@pytest.mark.parametrize("file", ["train_x.npy", "test_y.npy", prepared.TOLD])
def test_a_damaged_set_is_made_anew(load, tmp_path, here, harm, file, capsys):
    good = np.array(load().train_x)
    (path,) = (tmp_path / "cache").glob(f"*/{file}")
    if file == prepared.TOLD:
        path.write_bytes(path.read_bytes()[:-9] if harm is cut else b"[]")
    else:
        harm(path)
    found = load()
    assert len(here) == 2
    assert np.array_equal(found.train_x, good)
    assert found.test_y.tolist() == list(range(HOW_MANY))
    load()
    assert len(here) == 2
    assert [p.name for p in kept(tmp_path / "cache")] == [path.parent.name]


def in_a_process(archive, cache):
    """A process that loads the set, and fails if that made it look for devices."""
    code = (
        "from ist_jax.data import speech\n"
        "from jax._src import xla_bridge\n"
        f"speech.load({str(archive)!r}, cache={str(cache)!r})\n"
        "assert not xla_bridge.backends_are_initialized()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_preparation_that_was_killed_leaves_no_set(archive, tmp_path, here):
    cache = tmp_path / "cache"
    process = in_a_process(archive, cache)
    try:
        while not list(cache.glob(".speech*-*")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert [path.name[0] for path in kept(cache)] == ["."]
    for _ in range(2):
        assert len(speech.load(str(archive), cache=str(cache)).train_x) == HOW_MANY
    assert len(here) == 1
    (left,) = cache.glob(".speech*-*")
    os.utime(left, (0, 0))  # long ago
    speech.load(str(archive), cache=str(cache), skip_bad=True)
    assert not left.exists()


def test_two_that_prepare_at_once_leave_a_whole_set(archive, tmp_path, here):
    processes = [in_a_process(archive, tmp_path / "cache") for _ in range(2)]
    for process in processes:
        assert process.communicate() == (None, b"")
        assert process.returncode == 0
    found = speech.load(str(archive), cache=str(tmp_path / "cache"))
    assert len(found.train_x) == HOW_MANY
    assert not here
    assert len(kept(tmp_path / "cache")) == 1


def test_a_cache_that_cannot_be_written_is_named(archive, tmp_path, here):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.* cannot be written: .*data\.cache"):
        speech.load(str(archive), cache=str(tmp_path / "file"))


def test_a_set_tells_what_it_is(load, tmp_path):
    load()
    (path,) = (tmp_path / "cache").glob(f"*/{prepared.TOLD}")
    told = json.loads(path.read_text())
    assert told["format"] == prepared.FORMAT
    assert told["told"]["shapes"]["train_x"] == [HOW_MANY, 4096]
    assert told["told"]["words"] == list(speech.WORDS)
    assert told["told"]["skipped"] == 0
    assert len(told["source"]) == 64
    for name, (size, sha) in told["files"].items():
        content = (path.parent / name).read_bytes()
        assert (size, sha) == (len(content), hashlib.sha256(content).hexdigest())


def test_sizes_are_looked_at_in_all_folders_of_a_set(tmp_path):
    """Also of a set whose digests take too long."""
    filled = itertools.count()

    def fill(folder):
        (folder / "cat").mkdir()
        (folder / "cat" / "0.wav").write_bytes(b"meow")
        return {"time": next(filled)}

    for harm, time_ in ((None, 0), (None, 0), (b"me", 1), (b"", 2), (b"wool", 2)):
        if harm is not None:
            (tmp_path / "cats" / "cat" / "0.wav").write_bytes(harm)
        assert prepared.folder(str(tmp_path), "cats", "s", fill)[1] == {"time": time_}
    assert prepared.folder(str(tmp_path), "cats", "s", fill, check=True)[1] == {"time": 3}


def test_growing_arrays(tmp_path):
    for row in ((), (3,), (2, 5)):
        array = prepared.Growing(tmp_path / "a.npy", np.float32, row)
        parts = [np.full((n, *row), n, np.float64) for n in (2, 0, 300)]
        for part in parts:
            array.append(part)
        array.close()
        for mode in (None, "r"):
            found = np.load(tmp_path / "a.npy", mmap_mode=mode)
            assert found.dtype == np.float32
            assert np.array_equal(found, np.concatenate(parts))


def test_progress_is_told_with_an_estimate(monkeypatch, capsys):
    clock = itertools.count(0, 3)  # each look at it is 3 s later
    monkeypatch.setattr(prepared.time, "monotonic", lambda: next(clock))
    show = prepared.Progress("speech_commands", 35_000, "clips")
    for done in (0, 7_000, 14_000, 35_000):
        show(done)
    assert capsys.readouterr().err.splitlines() == [
        "speech_commands: 7,000 of 35,000 clips, 24 s left",
        "speech_commands: 35,000 of 35,000 clips, 0 s left",
    ]


def test_a_fresh_process_answers_or_complains(capfd):
    assert prepared.aside("math:sqrt", 4.0) == 2
    with pytest.raises(InputError, match="unknown data set 'nope'"):
        prepared.aside("ist_jax.data:load", "nope")
    with pytest.raises(RuntimeError, match="math:sqrt ended with code 1"):
        prepared.aside("math:sqrt", -1.0)
    assert "math domain error" in capfd.readouterr().err


VARIANTS = [f"v{n}" for n in range(90)]


def test_no_voice_of_synthetic_speech_is_in_two_parts():
    plans = [espeak.plan(word, 1000, VARIANTS) for word in range(HOW_MANY)]
    voices = {
        part: {clip.voice for plan in plans for clip in plan if clip.part == part}
        for part in ("train", "validation", "test")
    }
    assert {part: len(its) for part, its in voices.items()} == {
        "train": 504,
        "validation": 72,
        "test": 144,
    }
    assert len(set.union(*voices.values())) == 720
    for plan in plans:
        assert [sum(c.part == part for c in plan) for part in voices] == [700, 100, 200]
        assert len({clip.file for clip in plan}) == 1000
    assert plans[0] == espeak.plan(0, 1000, VARIANTS)
    assert plans[0][0].file.startswith("backward/en")
    assert [clip.voice for clip in plans[0]] != [clip.voice for clip in plans[1]]


def test_words_lie_somewhere_in_their_second():
    taps = np.hanning(8821) / 4410 * 320
    begins = set()
    for seed, length in itertools.product(range(4), (4_000, 30_000)):
        word = (8000 * np.sin(np.arange(length) / 5)).astype(np.int16)
        clip = espeak.place(word, np.random.default_rng(seed), taps)
        assert (clip.shape, clip.dtype) == ((16_000,), np.int16)
        assert np.abs(clip).max() == 16_000
        begins.add(int(np.argmax(np.abs(clip) > 8_000)) if length == 4_000 else 0)
    assert len(begins) == 5


def test_synthetic_speech_needs_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'ist_jax\[speech\]'.*GPL-3.*data\.path"):
        speech.load_synthetic(cache=str(tmp_path))
    for clips in (0, 36, 140):
        with pytest.raises(InputError, match=f"a multiple of 35, at least 175; found {clips}"):
            speech.load_synthetic(cache=str(tmp_path), clips=clips)


def test_synthetic_speech_is_read_like_the_archive_and_named_so(tmp_path, monkeypatch, here):
    """Without a synthesiser; and what was interrupted is begun anew."""
    cache, says = str(tmp_path / "cache"), espeak._speaker

    def speaker(*_):
        return lambda word, clip, seed: (9_000 * np.sin(np.arange(9_000) / clip.rate)).astype(
            np.int16
        )

    (tmp_path / "voices" / "!v").mkdir(parents=True)
    for variant in (*VARIANTS[:9], "whisperf", "croak", "robosoft3"):
        (tmp_path / "voices" / "!v" / variant).write_text("")
    monkeypatch.setattr(espeak, "_loader", lambda: ("library", str(tmp_path), "0.0"))
    assert says is not speaker
    stopped = itertools.count()

    def stop(*_):
        if next(stopped) == 20:
            raise KeyboardInterrupt
        return speaker()

    monkeypatch.setattr(espeak, "_speaker", stop)
    with pytest.raises(KeyboardInterrupt):
        speech.load_synthetic(cache=cache, clips=350)
    assert not kept(tmp_path / "cache")
    monkeypatch.setattr(espeak, "_speaker", speaker)
    found = speech.load_synthetic(cache=cache, clips=350)
    assert (found.name, found.origin, found.skipped) == ("speech_synthetic", "synthetic", 0)
    assert (len(found.train_x), len(found.test_x)) == (35 * 7, 35 * 2)
    calls = len(here)
    folder = tmp_path / "cache" / "espeak_350"
    same = speech.load_synthetic(str(folder), cache=cache)
    assert np.array_equal(same.train_x, found.train_x)
    assert len(here) == calls
    assert not [path for path in folder.glob("*/*") if path.name.count("whisper")]
    told = json.loads((folder / prepared.TOLD).read_text())["told"]
    assert (told["train"], told["validation"], told["test"]) == (245, 35, 70)
    assert len(told["sha256"]) == 64


def test_espeak_says_the_same_in_every_fresh_process(tmp_path):
    pytest.importorskip("espeakng_loader", reason="pip install espeakng-loader (GPL-3)")
    told = []
    for name in "ab":
        (tmp_path / name).mkdir()
        job = {"word": 3, "clips": 10, "folder": str(tmp_path / name)}
        told.append(prepared.aside("ist_jax.data.espeak:_word", job))
    assert told[0] == told[1]
    assert {part: len(its) for part, its in told[0]["parts"].items()} == {
        "train": 7,
        "validation": 1,
        "test": 2,
    }
    clips = [wav.read(path) for path in sorted((tmp_path / "a" / "cat").iterdir())]
    assert len({clip.tobytes() for clip in clips}) == 10
    assert all(np.abs(clip).max() == 16_000 for clip in clips)
