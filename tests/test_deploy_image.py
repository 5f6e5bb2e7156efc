"""The image of deploy/docker without Docker: its commands, and a process that is number 1."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from test_deploy import SAVED, instructions
from test_deploy_runs import CLI, TINY, children
from test_distributed import environment
from test_main import lines
from test_resume import wait_for


def can_unshare():
    words = ["unshare", "--pid", "--fork", "--kill-child", "true"]
    found = shutil.which("unshare")
    return found and not subprocess.run(words, capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="no process may be number 1 of a space of its own")
def test_as_process_1_it_saves_and_ends_with_75(tmp_path):
    """As in a container, where a signal that nobody handles is dropped."""
    flags = [*TINY, "--config.rounds=100000", f"--workdir={tmp_path}/run", "--resume"]
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, *CLI, "train", *flags]
    process = subprocess.Popen(words, env=environment(), text=True, stdout=subprocess.PIPE)
    try:
        metrics = tmp_path / "run/metrics.jsonl"
        wait_for(lambda: metrics.exists() and len(lines(tmp_path / "run")) > 1, process, 300)
        [inside] = children(process.pid)
        os.kill(inside, signal.SIGTERM)
        text = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == SAVED, text


@pytest.mark.slow
def test_the_image_is_built_in_a_fresh_environment(tmp_path):
    """The Dockerfile's own copies and pip, without a container around them."""
    source, pip = tmp_path / "src", None
    source.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=300)
    given = {"PATH": f"{tmp_path}/venv/bin:{os.environ['PATH']}"}
    for word, rest in instructions():
        if word == "ARG":
            name, _, value = rest.partition("=")
            given[name] = value
        elif word == "COPY":
            *names, target = rest.split()
            place = source / target.removeprefix("/src/")
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(
                        ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__")
                    )
                else:
                    shutil.copy(ROOT / name, place)
        elif word == "RUN" and rest.startswith("pip "):
            pip = rest.replace("/src", str(source))
            done = subprocess.run(
                ["sh", "-c", pip], env={**os.environ, **given}, capture_output=True, text=True
            )
            if "onnection" in done.stderr or "Could not find a version" in done.stderr:
                pytest.skip("no package index can be reached")
            assert done.returncode == 0, done.stderr
    assert pip
    flags = ["train", *TINY, f"--workdir={tmp_path}/run", "--resume"]
    done = subprocess.run(
        [str(tmp_path / "venv/bin/ist-jax"), *flags],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/summary.json").exists()
