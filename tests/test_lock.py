"""Two commands in one folder: the second is refused at once; a dead one hinders nobody."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, tiny

from ist_jax.commands import lottery
from ist_jax.core.errors import InputError
from ist_jax.run import config_files, lock, sketching, training

HOLD = """
import pathlib, sys, time
from ist_jax.run import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_command_in_a_folder_is_refused_by_process_and_host(holder, tmp_path):
    told = rf"in use: process {holder.pid} on {re.escape(socket.gethostname())} writes into it"
    with pytest.raises(InputError, match=told):
        training.run(tiny(), tmp_path)
    config = config_files.load("sketch_stuck", "tiny")
    with pytest.raises(InputError, match=told):
        sketching.run(config, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [lock.NAME]


def test_a_killed_command_hinders_nobody_though_its_file_names_a_living_process(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert str(holder.pid) in (tmp_path / lock.NAME).read_text()
    (tmp_path / lock.NAME).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    with lock.held(tmp_path):
        assert str(os.getpid()) in (tmp_path / lock.NAME).read_text()
    assert not list(tmp_path.iterdir())


def test_whoever_waited_for_a_lock_that_was_removed_takes_the_new_one(tmp_path, monkeypatch):
    real, turns = lock.fcntl.flock, []

    def slow(file, how):
        if not turns:  # between opening and locking, the owner ends and another begins
            turns.append(1)
            (tmp_path / lock.NAME).unlink()
            (tmp_path / lock.NAME).touch()
        real(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", slow)
    with lock.held(tmp_path), pytest.raises(InputError, match="in use"), lock.held(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def none(file, how):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.held(tmp_path):
        assert "file system without locks" in capsys.readouterr().err


def test_the_lottery_waits_for_no_one_either(holder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lottery.shared_flags, "unasked", lambda *_: None)
    monkeypatch.setattr(lottery.shared_flags, "workdir", lambda _: tmp_path)
    monkeypatch.setattr(lottery, "CONFIG", type("Flag", (), {"value": None}))
    assert lottery.main([]) == 2
    assert f"process {holder.pid}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "saved"
    training.run(tiny(**{"checkpoint.every": 2}), folder)
    return folder


@pytest.mark.parametrize("damage", ["empty", "missing"])
def test_checkpoints_without_metrics_are_a_run_that_is_not_begun_anew(saved, damage, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", saved, folder], check=True)
    (folder / "metrics.jsonl").write_text("")
    if damage == "missing":
        (folder / "metrics.jsonl").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    config = tiny(**{"checkpoint.every": 2})
    with pytest.raises(InputError, match=r"holds a finished run.*--resume.*--overwrite"):
        training.run(config, folder)
    with pytest.raises(InputError, match=r"metrics\.jsonl is empty or missing.*--overwrite"):
        training.run(config, folder, resume=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    training.run(config, folder, overwrite=True)
    assert json.loads((folder / "summary.json").read_text())["results"]["ist"]["seeds"] == [0]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json", "checkpoints"])
def test_a_folder_in_place_of_a_file_is_named(saved, name, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", saved, folder], check=True)
    subprocess.run(["rm", "-r", folder / name], check=True)
    (folder / name).touch() if name == "checkpoints" else (folder / name).mkdir()
    for how in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match=rf"{name} must be a f"):
            training.run(tiny(**{"checkpoint.every": 2}), folder, **how)
