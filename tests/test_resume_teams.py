"""Several processes that stop, are killed, get stuck, and go on together."""

import re
import signal

import pytest
from conftest import tiny
from test_distributed import TINY, run_all, start_command
from test_distributed import team as team_of
from test_resume import newest, wait_for

from ist_jax.checkpoint import Checkpoints
from ist_jax.run import training

MANY = ("--config.rounds=100000", "--config.checkpoint.every=1", "--config.round_timeout_s=10")


def start_team(tmp_path, *flags):
    """Two processes that train, once both are under way."""
    processes = [
        start_command(*command, *flags, NPROC="4") for command in team_of(tmp_path, patience=15)
    ]
    kept = Checkpoints(tmp_path / "run" / "checkpoints" / "ist_0")
    wait_for(lambda: kept.rounds()[:1] >= [3], processes[0])
    return processes, kept


def ended(processes, seconds):
    """Exit codes and outputs of processes that end in time."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def straight_digests(tmp_path, rounds):
    changes = {"checkpoint.every": rounds, "rounds": rounds, "mesh.workers": 4}
    training.run(tiny(**changes, **{"mesh.exact": True}), tmp_path / "straight")
    return newest(tmp_path / "straight")


def stopped_after(text):
    return int(re.search(r"saved after round (\d+)", text)[1])


def test_a_signal_to_one_process_of_a_team_stops_all_at_the_same_round(tmp_path):
    processes, kept = start_team(tmp_path, *MANY)
    processes[1].send_signal(signal.SIGTERM)
    codes, outputs = ended(processes, 40)
    assert codes == [75, 75], outputs
    assert stopped_after(outputs[0]) == stopped_after(outputs[1]) == kept.rounds()[0]
    kept.check(kept.rounds()[0])


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_launched_team_saves_and_stops_and_goes_on_and_stops_again(tmp_path, number):
    """A lone signal to the launcher; a terminal's Ctrl-C would reach all."""
    kept, last = Checkpoints(tmp_path / "run" / "checkpoints" / "ist_0"), 0
    flags = [*TINY, *MANY, f"--workdir={tmp_path / 'run'}", "--config.mesh.workers=4"]
    flags += ["--resume", "--deterministic"]
    for _ in range(2):
        with start_command("-m", "experiments.launch", "--processes=2", "--", *flags) as launcher:
            try:
                wait_for(lambda last=last: kept.rounds()[:1] >= [last + 3], launcher)
                launcher.send_signal(number)
                text = launcher.communicate(timeout=40)[0]
            finally:
                launcher.terminate()  # if it has not ended, this is the second time
        assert launcher.returncode == 75, text
        last = stopped_after(text)
        assert kept.rounds()[0] == last
    assert newest(tmp_path / "run") == straight_digests(tmp_path, last)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_dead_or_stuck_process_ends_the_others_and_a_restart_goes_on(tmp_path, how):
    """Within 40 seconds, whatever the heartbeat is; one process of another team goes on alone."""
    processes, kept = start_team(tmp_path, *MANY)
    processes[1].send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    try:
        text = processes[0].communicate(timeout=40)[0]
        assert processes[0].returncode not in (0, 75, None)
        if how == "stopped":
            assert re.search(r"ist, seed 0, round \d+ was not over after 10 s", text), text
            assert "process 1 is silent" in text
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    rounds = kept.rounds()[0] + 3
    changes = {"checkpoint.every": 1, "rounds": rounds, "mesh.workers": 4, "mesh.exact": True}
    training.run(tiny(**changes), tmp_path / "run", resume=True)
    assert newest(tmp_path / "run") == straight_digests(tmp_path, rounds)


STALE = """
import runpy, sys
from ist_jax.checkpoint import Checkpoints
Checkpoints.rounds = lambda self: [2]
runpy.run_module("experiments.main", run_name="__main__")
"""


def test_all_processes_go_on_from_the_round_that_the_first_one_chose(tmp_path):
    """One of them is shown another list of checkpoints."""
    changes = {"checkpoint.every": 1, "checkpoint.last": 3, "mesh.workers": 4}
    training.run(tiny(**changes), tmp_path / "run")
    flags = ["--resume", "--config.rounds=8", "--config.checkpoint.every=1"]
    first, second = (command + flags for command in team_of(tmp_path))
    results = run_all([first, ["-c", STALE, *second[2:]]], NPROC="4")
    assert [code for code, _ in results] == [0, 0], results
    assert newest(tmp_path / "run") == straight_digests(tmp_path, 8)
