"""Sets that are prepared once: whole or not there, made anew where they are not what they say."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.data import prepared

CALLS: list[str] = []


def fill(folder):
    CALLS.append(str(folder))
    (folder / "more").mkdir()
    np.save(folder / "more" / "x.npy", np.arange(5))
    np.save(folder / "y.npy", np.arange(3))
    return {"count": 5}


@pytest.fixture
def made(tmp_path):
    """Prepares the set, and tells whether it was made."""
    CALLS.clear()

    def prepare(source="a"):
        before = len(CALLS)
        place, told = prepared.folder(str(tmp_path), "set", source, fill)
        assert told == {"count": 5}
        assert np.load(place / "more" / "x.npy").tolist() == [0, 1, 2, 3, 4]
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".set-")] == []
        return len(CALLS) > before

    return prepare


def test_a_set_is_made_once_and_anew_from_another_source(made):
    assert [made(), made(), made("b"), made("b"), made()] == [True, False, True, False, True]


@pytest.mark.parametrize("told", ["", "{}", "[]", "[" * 5000, '{"format": 2, "source": "a"}'])
def test_a_set_that_does_not_tell_what_it_is_is_made_anew(made, tmp_path, told, capfd):
    made()
    (tmp_path / "set" / "set.json").write_text(told)
    assert made()
    assert capfd.readouterr().err.count("set.json is damaged, or of another version") == 1
    told = json.loads((tmp_path / "set" / "set.json").read_text())
    (tmp_path / "set" / "set.json").write_text(json.dumps(told | {"files": ["y.npy"]}))
    assert made()


def edits(told):
    """Every value of a set's description, changed to another that would be taken."""
    for at, value in ((k, v) for k, v in told.items() if k != "seal"):
        if isinstance(value, dict):
            for name, changed in edits(value):
                yield f"{at}/{name}", {**told, at: changed}
            yield f"less of {at}", {**told, at: dict(list(value.items())[1:])}
        else:
            yield at, {**told, at: [1, "0" * 64] if isinstance(value, list) else value * 2}


def test_a_description_that_was_edited_is_not_believed(made, tmp_path):
    made()
    file = tmp_path / "set" / "set.json"
    changed = dict(edits(json.loads(file.read_text())))
    assert len(changed) == 7
    for what, told in changed.items():
        file.write_text(json.dumps(told))
        assert made(), what


def test_a_cache_with_any_byte_changed_is_made_anew(made, tmp_path, capfd):
    """Every byte of every file, cut there or with one bit flipped."""
    made()
    files = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    good = {path: path.read_bytes() for path in files}
    assert len(good) == 3
    draw = np.random.default_rng(0)
    for path, content in good.items():
        for at in range(0, len(content) - 1, 3):
            flipped = bytearray(content)
            flipped[at] ^= 1 << draw.integers(8)
            path.write_bytes(content[:at] if at % 2 else flipped)
            capfd.readouterr()
            if json_alike(content, path):
                assert not made(), "other blanks tell the same"
            else:
                assert made(), (path, at)
                assert capfd.readouterr().err.count("is damaged, or of another version") == 1


def json_alike(content, path):
    try:
        return json.loads(content) == json.loads(path.read_bytes())
    except ValueError:
        return False


def test_a_pipe_in_a_cache_is_not_waited_for(made, tmp_path):
    for name in ("set.json", "y.npy"):
        made()
        (tmp_path / "set" / name).unlink()
        os.mkfifo(tmp_path / "set" / name)
        assert made()


def test_damage_is_told_and_the_set_made_anew(made, tmp_path, capfd):
    made()
    file = tmp_path / "set" / "y.npy"
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    assert made()
    assert "y.npy is damaged, or of another version: the set is made anew" in capfd.readouterr().err
    file.unlink()
    assert made()
    file.write_bytes(good[:-1] + b"\7")
    assert made(), "of the same size: only the digest tells"
    assert not made()


def test_a_preparation_that_fails_leaves_nothing(tmp_path):
    def broken(folder):
        (folder / "x.npy").write_bytes(b"half")
        raise InputError("the source is broken")

    with pytest.raises(InputError, match="the source is broken"):
        prepared.folder(str(tmp_path), "set", "a", broken)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]


SLOW = """
import sys, time
from pathlib import Path
from ist_jax.data import prepared
def fill(folder):
    print("made", flush=True)
    time.sleep(1)
    (folder / "x").write_text("whole")
    if len(sys.argv) > 2:
        import os; os._exit(9)
    return {}
place, _ = prepared.folder(sys.argv[1], "set", "a", fill)
assert (place / "x").read_text() == "whole"
"""


def start(folder, *more):
    command = [sys.executable, "-c", SLOW, str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_one_prepares_and_a_killed_one_leaves_no_set(tmp_path):
    killed = start(tmp_path, "dies")
    assert killed.communicate(timeout=60)[0] == "made\n"
    assert killed.returncode == 9
    assert not (tmp_path / "set").exists()
    both = [start(tmp_path) for _ in range(2)]
    assert sorted(p.communicate(timeout=60)[0] for p in both) == ["", "made\n"]
    assert [p.returncode for p in both] == [0, 0]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: .* Set data\.cache elsewhere"):
        prepared.folder(str(tmp_path / "file"), "set", "a", fill)


def test_a_file_that_cannot_be_read_is_told_as_that(tmp_path):
    def reads(folder):
        prepared.aside("os:listdir", str(tmp_path / "nowhere"))  # also from the fresh process

    with pytest.raises(InputError, match=r"nowhere cannot be read: No such file"):
        prepared.folder(str(tmp_path / "cache"), "set", "a", reads)


@pytest.mark.parametrize("row", [(), (2,), (2, 3)])
def test_an_array_grows_and_is_an_npy_file(tmp_path, row):
    growing = prepared.Growing(tmp_path / "x.npy", np.float32, row)
    for count in (3, 0, 4):
        growing.append(np.full((count, *row), count, np.float64))
    growing.close()
    found = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert (found.shape, found.dtype) == ((7, *row), np.float32)
    assert found.reshape(7, -1)[:, 0].tolist() == [3, 3, 3, 4, 4, 4, 4]


def test_progress_tells_how_long_still(monkeypatch, capfd):
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(prepared.time, "monotonic", lambda: next(now))
    show = prepared.Progress("words", 1200, "clips")
    for done in (100, 600, 700, 1200):
        show(done)
    told = capfd.readouterr().err.splitlines()
    assert told == [
        "words: 600 of 1,200 clips, 6 s left",
        "words: 1,200 of 1,200 clips, 0 s left",
    ]


def test_digests_are_looked_at_in_all_folders_of_a_set(tmp_path):
    filled = itertools.count()

    def fill(folder):
        (folder / "cat").mkdir()
        (folder / "cat" / "0.wav").write_bytes(b"meow")
        return {"time": next(filled)}

    for harm, time_ in ((None, 0), (None, 0), (b"me", 1), (b"", 2), (b"wool", 3)):
        if harm is not None:
            (tmp_path / "cats" / "cat" / "0.wav").write_bytes(harm)
        assert prepared.folder(str(tmp_path), "cats", "s", fill)[1] == {"time": time_}


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
    with pytest.raises(InputError, match="there is no 'nope'; known: cifar10"):
        prepared.aside("ist_jax.data:load", "nope")
    with pytest.raises(RuntimeError, match="math:sqrt ended with code 1"):
        prepared.aside("math:sqrt", -1.0)
    assert "math domain error" in capfd.readouterr().err
