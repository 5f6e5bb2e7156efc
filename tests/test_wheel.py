"""The library as others get it: a wheel, installed outside the checkout, and its command."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

import ist_jax
from ist_jax.run import config_files

PARTS = ("ist_jax", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")
NO_ABSL = "raise ModuleNotFoundError(\"No module named 'absl'\", name='absl')\n"
CLI = ("-m", "ist_jax.commands.cli")


def major(package):
    try:
        return int(importlib.metadata.version(package).split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


pytestmark = pytest.mark.skipif(
    major("setuptools") < 77 or not major("pip"), reason="needs pip and setuptools 77 to build"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel does, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in PARTS:  # a copy: building leaves files behind
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, source / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    return target


@pytest.fixture
def call(installed, tmp_path):
    """Runs Python elsewhere, where only the wheel's folder has ``ist_jax``."""

    def run(*words, first=()):
        path = os.pathsep.join(map(str, [*first, installed]))
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_it_holds_every_module_every_config_and_nothing_else(installed):
    files = lambda folder: {path.relative_to(folder) for path in folder.rglob("*.py")}
    configs = {path for path in files(installed / "ist_jax") if path.parts[0] == "configs"}
    assert files(installed / "ist_jax") - configs == files(ROOT / "ist_jax")
    assert {path.stem for path in configs} == {"__init__", *config_files.names()}
    assert (installed / "ist_jax/py.typed").exists()
    (info,) = (path for path in installed.iterdir() if path.name not in ("ist_jax", "bin"))
    assert info.name == f"ist_jax-{ist_jax.__version__}.dist-info"
    assert "ist-jax = ist_jax.commands.cli:main" in (info / "entry_points.txt").read_text()


def test_the_library_alone_imports_nothing_before_it_is_used(call, installed):
    program = (
        "import sys, ist_jax; print(ist_jax.__file__); print({'jax', 'flax'} & {*sys.modules});"
        "print(ist_jax.decompose.gather.__module__)"
    )
    done = call("-c", program)
    assert done.stdout.split() == [
        *(str(installed / "ist_jax/__init__.py"), "set()", "ist_jax.decompose")
    ], done.stderr


def test_it_trains_a_config_by_name_and_reports(call, tmp_path):
    flags = ["--config=quickstart:tiny", "--config.methods=ist", "--config.rounds=2"]
    done = call(*CLI, "train", *flags, "--workdir=run")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["command"] == f"ist-jax train {' '.join(flags)} --workdir=run"
    assert summary["config"]["rounds"] == 2
    done = call(*CLI, "report", "run")
    assert done.returncode == 0, done.stderr
    assert "| ist " in done.stdout
    assert "figure: run/accuracy.png" in done.stdout


def test_a_config_of_ones_own_derives_from_one_of_the_librarys(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ist_jax.run import config_files\n\n\n"
        "def get_config(variant=''):\n"
        "    config = config_files.load('quickstart', 'tiny', beside=__file__)\n"
        "    config.workers = 2\n"
        "    return config\n"
    )
    program = "from ist_jax.run import config_files as c; print(c.load('mine', beside='x').workers)"
    done = call("-c", program)
    assert done.stdout == "2\n", done.stderr
    done = call(*CLI, "train", "--config=quickstar", "--dry_run")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: there is no config 'quickstar'; did you mean 'quickstart'?"
    )


@pytest.mark.parametrize("words", [(), ("train", "--config=quickstart")], ids=" ".join)
def test_without_the_extra_it_names_it_in_one_line(call, tmp_path, words):
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl/__init__.py").write_text(NO_ABSL)
    done = call(*CLI, *words, first=(tmp_path,))
    assert done.returncode == 2
    assert done.stderr == "ist-jax needs more: pip install 'ist_jax[commands]'\n"
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["train", "launch"])
def test_a_command_tells_its_own_name(call, command):
    done = call(*CLI, command, "--help")
    assert f"    ist-jax {command} " in done.stdout, done.stderr
    assert "experiments" not in done.stdout
