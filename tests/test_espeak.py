"""The words of Speech Commands, synthesised: voices apart, and the same in every process."""

import itertools
import json
import sys

import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.data import description, prepared
from ist_jax.data.sources import espeak, speech, wav

VARIANTS = [f"v{n}" for n in range(90)]


def test_no_voice_of_synthetic_speech_is_in_two_parts():
    plans = [espeak.plan(word, 1000, VARIANTS) for word in range(len(speech.WORDS))]
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
    assert {clip.part for clip in espeak.plan(0, espeak.LEAST, VARIANTS)} == {
        *espeak.SHARES,
        "train",
    }
    for clips in (0, 36, 175, 350.0, "350"):
        with pytest.raises(InputError, match=f"a multiple of 35, at least 210; found {clips!r}"):
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
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
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
    told = json.loads((folder / description.NAME).read_text())["told"]
    assert (told["train"], told["validation"], told["test"]) == (245, 35, 70)
    assert len(told["sha256"]) == 64


def test_espeak_says_the_same_in_every_fresh_process(tmp_path):
    pytest.importorskip("espeakng_loader", reason="pip install espeakng-loader (GPL-3)")
    told = []
    for name in "ab":
        (tmp_path / name).mkdir()
        job = {"word": 3, "clips": 10, "folder": str(tmp_path / name)}
        told.append(prepared.aside("ist_jax.data.sources.espeak:_word", job))
    assert told[0] == told[1]
    assert {part: len(its) for part, its in told[0]["parts"].items()} == {
        "train": 7,
        "validation": 1,
        "test": 2,
    }
    clips = [wav.read(path) for path in sorted((tmp_path / "a" / "cat").iterdir())]
    assert len({clip.tobytes() for clip in clips}) == 10
    assert all(np.abs(clip).max() == 16_000 for clip in clips)
