"""Runs as the files in deploy/ start, stop and restart them, without their programs."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys

import forked
import pytest
from test_deploy import MISTAKE, SAVED, SBATCH, objects, unit
from test_distributed import environment, free_port
from test_main import lines, timeless
from test_resume import wait_for

TINY = ("--config=quickstart:tiny", "--config.methods=ist", "--config.eval_every=50")
CLI = ("-m", "ist_jax.commands.cli")

SRUN = """#!{python}
import os, signal, subprocess, sys
count = int(os.environ["SLURM_NTASKS"])
place = {{"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}}
tasks = [
    subprocess.Popen(
        sys.argv[1:],
        env={{**os.environ, **place, "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)}},
    )
    for n in range(count)
]
signal.signal(signal.SIGUSR1, lambda *_: [task.terminate() for task in tasks])
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with srun, which starts two tasks, and scontrol, which notes what it is asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", str(free_port()))
    monkeypatch.setenv("SLURM_NTASKS", "2")
    script(tmp_path / "srun", SRUN.format(python=sys.executable))
    script(tmp_path / "scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    return tmp_path


@contextlib.contextmanager
def batch(command, *flags):
    """The batch script, with this in place of ist-jax; all that it starts is gone afterwards."""
    process = subprocess.Popen(
        ["bash", str(SBATCH), *flags],
        env=environment(IST_JAX=str(command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("code", "asks"), [(0, False), (1, False), (MISTAKE, False), (75, True)])
def test_the_batch_script_is_queued_again_after_75_alone(slurm, code, asks):
    command = script(slurm / "ends", f'#!/bin/sh\necho "$@"\nexit {code}\n')
    with batch(command, "--config=quickstart", "--workdir=a b") as process:
        text = process.communicate(timeout=60)[0]
    assert process.returncode == code
    words = "train --config=quickstart --workdir=a b --config.mesh.workers=2 --distributed --resume"
    assert text.splitlines() == [f"{words} --patience=600"] * 2
    assert (slurm / "asked").exists() == asks
    if asks:
        assert (slurm / "asked").read_text() == f"requeue {os.environ['SLURM_JOB_ID']}\n"


def test_a_job_that_is_cancelled_is_not_queued_again(slurm):
    """Slurm then signals the script too, and waits."""
    command = script(
        slurm / "waits",
        f"#!/bin/sh\ntrap 'exit 75' TERM\ntouch {slurm}/up_$SLURM_PROCID\n"
        "while true; do sleep 0.05; done\n",
    )
    with batch(command) as process:
        wait_for(lambda: all((slurm / f"up_{n}").exists() for n in range(2)), process)
        process.terminate()
        [srun] = children(process.pid)
        os.kill(srun, signal.SIGUSR1)
        process.communicate(timeout=60)
    assert process.returncode == SAVED
    assert not (slurm / "asked").exists()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as found:
        return [int(word) for word in found.read().split()]


@pytest.mark.slow
def test_two_tasks_of_slurm_train_together_and_go_on_when_queued_again(slurm):
    """JAX finds its team in Slurm's variables."""
    command = script(
        slurm / "ist-jax", f'#!/bin/sh\nexec {sys.executable} {shlex.join(CLI)} "$@"\n'
    )
    run = slurm / "run"
    flags = [*TINY, "--config.rounds=300", "--config.checkpoint.every=100", f"--workdir={run}"]
    slowly = "--config.faults=slow:0x10"  # or it is over before the signal
    with batch(command, *flags, slowly) as first:
        there = lambda: (run / "metrics.jsonl").exists() and len(lines(run)) > 2
        wait_for(there, first, seconds=300)
        [srun] = children(first.pid)
        os.kill(srun, signal.SIGUSR1)
        text = first.communicate(timeout=120)[0]
    assert first.returncode == SAVED, text
    assert (slurm / "asked").read_text() == f"requeue {os.environ['SLURM_JOB_ID']}\n"
    assert not (run / "summary.json").exists()
    with batch(command, *flags) as again:
        text = again.communicate(timeout=300)[0]
    assert again.returncode == 0, text
    assert (run / "summary.json").exists()
    assert [line["round"] for line in lines(run)] == [*range(0, 301, 50)]


def restarts(rules, code):
    """Whether systemd would start a service again that ended by itself, or was killed, with 75."""
    codes = lambda key: {int(v) for v in rules.get(("Service", key), [""])[0].split()}
    if code in codes("RestartPreventExitStatus"):
        return False
    if code in codes("RestartForceExitStatus"):
        return True
    assert rules["Service", "Restart"] == ["on-failure"]
    return code not in {0, *codes("SuccessExitStatus")}


@pytest.mark.slow
def test_a_unit_whose_run_is_stopped_goes_on_to_the_same_metrics(tmp_path):
    """The unit's own words, and its rules, in place of systemd."""
    _, _, *words = shlex.split(unit()["Service", "ExecStart"][0])
    flags = [word for word in words if not word.startswith(("--config", "--workdir"))]

    def start(folder, *slowly):
        more = [*TINY, "--config.rounds=30", "--config.eval_every=1", f"--workdir={folder}"]
        return forked.start([*CLI, "train", *more, *slowly, *flags], environment())

    codes, run = [], tmp_path / "run"
    while not codes or restarts(unit(), codes[-1]):
        # Of 30 rounds, those after the third would be over before the signal is sent.
        process = start(run, *(() if codes else ["--config.faults=slow:0x200"]))
        try:
            if not codes:
                there = lambda: (run / "metrics.jsonl").exists() and len(lines(run)) > 1
                wait_for(there, process, seconds=300)
                process.terminate()
            text = process.communicate(timeout=120)[0]
        finally:
            process.kill()
        codes.append(process.returncode)
    assert codes == [SAVED, 0], text
    straight = start(tmp_path / "straight")
    assert straight.wait(120) == 0
    assert timeless(lines(run)) == timeless(lines(tmp_path / "straight"))
    mistaken = forked.start([*CLI, "train", "--config=quickstar"], environment())
    assert mistaken.wait(60) == MISTAKE
    assert not restarts(unit(), MISTAKE)
    assert restarts(unit(), 1)


@pytest.mark.slow
def test_the_pods_of_the_job_train_together(tmp_path):
    """Their own arguments; the name of pod 0 and the disk are this machine's."""
    pod = objects()["Job"]["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    address = f"localhost:{free_port()}"

    def start(index):
        own = {
            "--config=quickstart": TINY[0],
            "--coordinator=ist-jax-0.ist-jax:29500": f"--coordinator={address}",
            "--process=$(JOB_COMPLETION_INDEX)": f"--process={index}",
            "--workdir=/runs/quickstart": f"--workdir={tmp_path}/run",
        }
        assert own.keys() <= set(args)
        words = [own.get(arg, arg) for arg in args]
        there = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": str(index)}
        return forked.start([*CLI, *words, *TINY[1:]], environment(**there))

    processes = [start(index) for index in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (tmp_path / "run/summary.json").exists()
