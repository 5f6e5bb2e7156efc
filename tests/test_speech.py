"""Speech Commands: features, splits, bad clips, and sets that are prepared once."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

from ist_jax.core.errors import InputError
from ist_jax.data import description
from ist_jax.data.sources import mel, speech, wav

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
def load(archive, tmp_path, here):
    """``speech.load`` of the small archive."""
    cache = str(tmp_path / "cache")
    return lambda **options: speech.load(str(archive), cache=cache, **options)


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
PCM = bytes.fromhex("0100000000001000800000aa00389b71")  # the GUID
FLOATS = b"\3" + PCM[1:]


def extensible(valid=16, guid=PCM):
    return fmt(kind=0xFFFE) + struct.pack("<HHI", 22, valid, 4) + guid


def streamed(size):
    """As a program writes it that does not know how much will come."""
    return WHOLE[:4] + struct.pack("<I", size) + WHOLE[8:40] + struct.pack("<I", size) + WHOLE[44:]


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
    "a damaged size": (WHOLE[:40] + b"\xff\xff\xff\0" + WHOLE[44:], "should have 16777215 bytes"),
    "a short stream": (streamed(0xFFFFFFFF)[:-2], "16000 samples, found 15999"),
    "a long stream": (streamed(0xFFFFFFFF) + b"LIST", "16000 samples, found 16002"),
    "extensible floats": (riff((b"fmt ", extensible(guid=FLOATS)), SAMPLES), "format 65534"),
    "14 bits of 16": (riff((b"fmt ", extensible(valid=14)), SAMPLES), "format 65534"),
    "short extensible": (riff((b"fmt ", extensible()[:38]), SAMPLES), "format 65534"),
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
    with pytest.raises(InputError, match=r"0a7c2a8d_nohash_1\.wav cannot be read: .*No such file"):
        load()
    assert load(skip_bad=True).skipped == 1


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_clip_written_into_a_pipe_is_whole(tmp_path, size):
    path, body = tmp_path / "clip.wav", struct.pack("<16000h", *clip_of(0))
    path.write_bytes(streamed(size)[:44] + body)
    assert np.array_equal(wav.read(path), clip_of(0))


def test_an_extensible_clip_of_plain_samples_is_read(tmp_path):
    path, body = tmp_path / "clip.wav", struct.pack("<16000h", *clip_of(0))
    path.write_bytes(riff((b"fmt ", extensible()), (b"fact", b"four"), (b"data", body)))
    assert np.array_equal(wav.read(path), clip_of(0))


def test_a_pipe_in_place_of_a_clip_or_a_list_is_not_waited_for(load, archive):
    (archive / speech.TEST).unlink()
    os.mkfifo(archive / speech.TEST)
    with pytest.raises(InputError, match=r"testing_list\.txt cannot be read: it is no regular"):
        load()
    os.mkfifo(archive / "bird" / "0a7c2a8d_nohash_1.wav")
    (archive / "bird" / "0a7c2a8d_nohash_2.wav").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"_1\.wav cannot be read: it is no regular file"):
        load(holdout="speakers")
    assert load(holdout="speakers", skip_bad=True).skipped == 2


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
    with pytest.raises(
        InputError, match=r"holdout must be one of \('lists', 'speakers'\), found 'x'"
    ):
        load(holdout="x")


HABITS = {
    "a dot": lambda name: f"./{name}",
    "backslashes": lambda name: name.replace("/", "\\"),
    "both": lambda name: ".\\" + name.replace("/", "\\"),
    "blanks": lambda name: f"  {name} \t",
    "two slashes": lambda name: name.replace("/", "//"),
    "returns": lambda name: f"{name}\r",
    "empty lines": lambda name: f"{name}\n \n",
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
def test_no_clip_of_a_list_that_another_program_wrote_is_trained_on(archive, habit, mark):
    wanted = speech._split(archive, speech._listing(archive), "lists")
    assert {part: len(its) for part, its in wanted.items()} == {"train": 35, "test": 35}
    for name in (speech.TEST, speech.VALIDATION):
        lines = map(HABITS[habit], (archive / name).read_text().splitlines())
        (archive / name).write_bytes(mark + "\n".join(lines).encode())
    assert speech._split(archive, speech._listing(archive), "lists") == wanted


WRONG_LISTS = {
    "empty": (lambda lines: "", r"testing_list\.txt names no clip"),
    "blank": (lambda lines: " \n\n", r"testing_list\.txt names no clip"),
    "a clip that is not there": (
        lambda lines: "\n".join([*lines[:4], "cat/0_nohash_0.wav", "dog/0.wav"]),
        r"testing_list\.txt, line 5: 'cat/0_nohash_0\.wav' is no clip in",
    ),
    "other letters": (lambda lines: lines[0].upper(), "line 1: 'BACKWARD/.*WAV' is no clip"),
    "two in a line": (lambda lines: "\r".join(lines), "line 1: .* is no clip"),
    "utf-16": (lambda lines: b"\xff\xfe" + lines[0].encode("utf-16le"), "line 1: .* is no clip"),
    "a clip twice": (lambda lines: "\n".join(lines[:2] * 2), "line 3: .* is named before"),
    "a long line": (lambda lines: "x" * 2**25, "line 1 is longer than"),
}


@pytest.mark.parametrize("kind", WRONG_LISTS)
def test_a_list_that_names_no_clip_is_refused_and_the_first_line_named(archive, kind):
    harm, message = WRONG_LISTS[kind]
    text = harm((archive / speech.TEST).read_text().splitlines())
    (archive / speech.TEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as error:
        speech._split(archive, speech._listing(archive), "lists")
    assert "holdout='speakers'" in str(error.value)
    assert len(str(error.value)) < 1000


def test_one_list_given_twice_is_refused_and_the_first_clip_named(archive):
    (archive / speech.VALIDATION).write_bytes((archive / speech.TEST).read_bytes())
    with pytest.raises(
        InputError, match=r"validation_list\.txt, line 1: 'backward/.*' is named before, for test"
    ):
        speech._split(archive, speech._listing(archive), "lists")


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
@pytest.mark.parametrize("file", ["train_x.npy", "test_y.npy", description.NAME])
def test_a_damaged_set_is_made_anew(load, tmp_path, here, harm, file, capsys):
    good = np.array(load().train_x)
    (path,) = (tmp_path / "cache").glob(f"*/{file}")
    if file == description.NAME:
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
    (path,) = (tmp_path / "cache").glob(f"*/{description.NAME}")
    told = json.loads(path.read_text())
    assert told["format"] == description.FORMAT
    assert told["told"]["shapes"]["train_x"] == [HOW_MANY, 4096]
    assert told["told"]["words"] == list(speech.WORDS)
    assert told["told"]["skipped"] == 0
    assert len(told["source"]) == 64
    for name, (size, sha) in told["files"].items():
        content = (path.parent / name).read_bytes()
        assert (size, sha) == (len(content), hashlib.sha256(content).hexdigest())
