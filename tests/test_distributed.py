"""Several processes: the same bits, their own data, and failures that all of them hear of."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_graph_data import planetoid


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(**changes):
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "JAX_PLATFORMS": "cpu",
        **changes,
    }


def start_command(*command, **changes):
    """Python with this command line, and an environment with these changes."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_all(commands, timeout=120, **changes):
    """(exit code, output) of commands that run side by side; all are gone afterwards."""
    processes = [start_command(*command, **changes) for command in commands]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, outputs, strict=True)]


def digests(count, devices=4, pinned=(), **changes):
    """What ``count`` processes with so many devices found; those pinned see a single CPU."""
    address = f"127.0.0.1:{free_port()}"
    pin = "import os, runpy; os.sched_setaffinity(0, {0}); "
    pin += "runpy.run_path('tests/one_process.py', run_name='__main__')"
    start = [["-c", pin] if n in pinned else ["tests/one_process.py"] for n in range(count)]
    results = run_all(
        [[*how, address, str(count), str(n), str(devices)] for n, how in enumerate(start)],
        **changes,
    )
    found = [re.findall(r"^\w+ [0-9a-f]{64}$", text, re.M) for _, text in results]
    assert [code for code, _ in results] == [0] * count, results
    assert all(len(one) == 2 and one == found[0] for one in found), results
    return found[0]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_same_bits_in_1_2_and_4_processes(count):
    """Where every process has as many threads (NPROC is how XLA on CPU counts them)."""
    assert digests(count, NPROC="4") == digests(1, NPROC="4")


@pytest.mark.slow
def test_unequal_machines_give_the_same_bits_with_as_many_threads():
    """One process sees one CPU, the other all: what ``--deterministic`` promises."""
    assert digests(2, 2, pinned=(0,), NPROC="4") == digests(1, 2, NPROC="4")


TINY = ["--config=configs/quickstart.py:tiny", "--config.methods=('ist',)"]
PIN = "import os, runpy; os.sched_setaffinity(0, {0}); "
MAIN = "runpy.run_module('experiments.main', run_name='__main__')"


def main(*flags):
    return ["-m", "experiments.main", *TINY, *flags]


def team(tmp_path, per_process=((), ()), patience=20):
    """Commands of processes that meet, with flags of their own."""
    address = f"--coordinator=127.0.0.1:{free_port()}"
    shared = [f"--workdir={tmp_path / 'run'}", "--distributed", address, f"--patience={patience}"]
    shared += [f"--processes={len(per_process)}", "--config.mesh.workers=4"]
    return [
        main(*shared, f"--process={number}", *flags) for number, flags in enumerate(per_process)
    ]


def metrics(folder):
    """The lines of a run but for its times, and all its files."""
    text = (folder / "metrics.jsonl").read_text()
    return re.sub(r'"time/train_s": [\d.e-]+', "", text), {path.name for path in folder.iterdir()}


def test_a_team_of_processes_gives_what_one_gives_and_only_the_first_writes(tmp_path):
    flags = [*TINY, "--deterministic"]
    results = run_all([["-m", "experiments.main", *flags, f"--workdir={tmp_path / 'alone'}"]])
    launch = ["-m", "experiments.launch", "--processes=2", "--", *flags]
    results += run_all([[*launch, f"--workdir={tmp_path / 'two'}", "--config.mesh.workers=4"]])
    assert [code for code, _ in results] == [0, 0], results
    assert results[1][1].count("| ist ") == 1, "one table"
    assert metrics(tmp_path / "two") == metrics(tmp_path / "alone")
    assert metrics(tmp_path / "two")[0].count("\n") == 4


@pytest.mark.slow
def test_a_graph_in_two_processes_is_as_in_one(tmp_path):
    """Its evaluation gives the features of all nodes, which no process has all of."""
    planetoid(tmp_path / "in")
    flags = ["--config=configs/wordnet_sage.py:tiny", "--config.data.name=planetoid"]
    flags += [f"--config.data.path={tmp_path / 'in'}", "--config.data.options.clusters=1"]
    flags += ["--config.data.batch=1", "--deterministic"]
    results = run_all([["-m", "experiments.main", *flags, f"--workdir={tmp_path / 'alone'}"]])
    launch = ["-m", "experiments.launch", "--processes=2", "--", *flags]
    results += run_all([[*launch, f"--workdir={tmp_path / 'two'}", "--config.mesh.workers=4"]])
    assert [code for code, _ in results] == [0, 0], results
    assert metrics(tmp_path / "two") == metrics(tmp_path / "alone")


@pytest.mark.slow
def test_deterministic_is_the_same_on_unequal_machines(tmp_path):
    """A net whose sums depend on the threads; one of two processes sees one CPU."""
    wide = ["--deterministic", "--config.mesh.workers=2", "--config.workers=2"]
    wide += ["--config.model.widths={'hidden0': 2048, 'hidden1': 1024}", "--config.data.batch=256"]
    wide += ["--config.rounds=2", "--config.eval_every=1"]
    wide += ["--config.methods=('local_sgd',)"]  # which adds to what TINY says
    results = run_all([main(f"--workdir={tmp_path / 'alone'}", *wide)])
    pinned, free = ([*command, *wide] for command in team(tmp_path))
    results += run_all([["-c", PIN + MAIN, *pinned[2:]], free])
    assert [code for code, _ in results] == [0, 0, 0], results
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            (("--config.rounds=7",), ("--config.rounds=8",)),
            "config.rounds is 7 in process 0 and 8 in process 1",
        ),
        (((), ("--config.workers=0",)), "config.workers must be at least 1, found 0"),
        (((), ("--dry_run",)), "--dry_run is False in process 0 and True in process 1"),
        ((("--workdir=/dev/null/x",), ()), "--workdir=/dev/null/x cannot be written"),
    ],
)
def test_what_one_process_cannot_do_stops_all(tmp_path, flags, said):
    started = time.monotonic()
    results = run_all(team(tmp_path, flags))
    for code, text in results:
        assert code == 2, text
        assert said in text
        assert "Traceback" not in text
    assert time.monotonic() - started < 60


LACKING = """
import runpy
from experiments import team
from ist_jax import data
from ist_jax.errors import InputError
def load(name, path, **options):
    raise InputError("the data is not on this machine")
{}
runpy.run_module("experiments.main", run_name="__main__")
"""


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("data.load = load", "the data is not on this machine"),
        ("team.source = lambda: 'another'", "the source of ist_jax is .*another.* in process"),
        ("team.LIBRARIES += ('pytest',)", "pytest is .* in process 0 and .* in process 1"),
    ],
)
def test_machines_that_are_not_alike_stop_at_once(tmp_path, process, lacks, said):
    """Same flags, but one machine lacks the data, or has another version of something."""
    commands = team(tmp_path)
    commands[process] = ["-c", LACKING.format(lacks), *commands[process][2:]]
    started = time.monotonic()
    for code, text in run_all(commands):
        assert code == 2, text
        assert re.search(said, text), text
        assert "Traceback" not in text
    assert time.monotonic() - started < 45


def test_a_dry_run_of_several_processes(tmp_path):
    results = run_all([[*command, "--dry_run"] for command in team(tmp_path)])
    assert [code for code, _ in results] == [0, 0], results
    assert "hidden0 64 -> 16" in results[0][1]
    assert "hidden0" not in results[1][1]


@pytest.mark.parametrize("how", ["one is killed", "interrupted twice"])
def test_launch_ends_all(tmp_path, how):
    flags = [*TINY, f"--workdir={tmp_path / 'run'}", "--config.rounds=100000"]
    command = ["-m", "experiments.launch", "--processes=2", "--", *flags]
    launcher = subprocess.Popen(
        [sys.executable, *command, "--config.mesh.workers=4"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lines = tmp_path / "run" / "metrics.jsonl"
        ends = time.monotonic() + 90
        while not (lines.exists() and lines.stat().st_size):
            assert time.monotonic() < ends
            time.sleep(0.1)
        told = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
        children = [int(pid) for pid in told.split()]
        assert len(children) == 2
        if how == "one is killed":
            os.kill(children[1], signal.SIGKILL)
            assert launcher.wait(timeout=40) not in (0, 2)
        else:  # as no terminal does it, which would tell the children too
            launcher.send_signal(signal.SIGINT)
            time.sleep(0.1)
            launcher.send_signal(signal.SIGINT)
            assert launcher.wait(timeout=40) == 130
        assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        launcher.terminate()
        launcher.wait(timeout=40)


def test_a_coordinator_that_is_not_there():
    flags = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--patience=3"]
    command = main(*flags, "--workdir=/nowhere", "--processes=2", "--process=1")
    ((code, text),) = run_all([command])
    assert code == 2, text
    assert "no coordinator at 127.0.0.1" in text
    assert "Start process 0 first" in text


def test_others_that_never_come(tmp_path):
    ((code, text),) = run_all(team(tmp_path, ((), ()), patience=5)[:1])
    assert code == 2, text
    assert "did not come together within 5 s: no word of 1" in text


@pytest.mark.parametrize("counts", [(2, 3), (3, 2)])
def test_processes_that_were_told_different_numbers_say_so_at_once(tmp_path, counts):
    commands = team(tmp_path, ((), ()), patience=60)
    told = [[*command, f"--processes={n}"] for command, n in zip(commands, counts, strict=True)]
    began = time.monotonic()
    for code, text in run_all(told):
        assert code == 2, text
        assert f"--processes is {counts[0]} in process 0 and {counts[1]} in process 1" in text
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--process=1"], "add --distributed"),
        (["--distributed", "--process=1"], "belong together: give all three"),
        (["--distributed", "--coordinator=x", "--processes=2", "--process=0"], "must be host:port"),
        (["--distributed", "--coordinator=x:1", "--processes=2", "--process=2"], "0 to 1, found 2"),
        (["--distributed", "--coordinator=x:99999", "--processes=2", "--process=0"], "host:port"),
        (["--distributed", "--coordinator=x:1", "--processes=0", "--process=0"], "at least 1"),
        (["--patience=0"], "patience"),
        (["--distributed"], "found no cluster that says where to meet"),
        (["--config.mesh.workers=8", "--config.workers=4"], "8 devices .* for 4 workers"),
        (["--config.mesh.workers=3"], "4 workers cannot be dealt out evenly to 3 devices"),
        (["--config.mesh.data=0"], "config.mesh.data must be at least 1"),
        (
            ["--config.workers=8", "--config.mesh.workers=8", "--config.model.widths.hidden0=4"],
            "hidden0.* 4 neurons",
        ),
    ],
)
def test_meshes_and_teams_that_cannot_be(tmp_path, flags, said):
    ((code, text),) = run_all([main(f"--workdir={tmp_path}", *flags)])
    assert code == 2, text
    assert re.search(said, text), text
    assert "Traceback" not in text
