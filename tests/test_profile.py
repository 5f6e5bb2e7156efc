"""--profile: a JAX profile of some rounds, and of no others; memory and machines that are noted."""

import gzip
import importlib.metadata
import json
import platform
import socket
import subprocess
import sys

import forked
import jax
import pytest
from conftest import ROOT, tiny
from test_main import BEFORE_JAX, QUICKSTART, lines

from ist_jax.core.errors import InputError
from ist_jax.run import environment, profiling, training
from ist_jax.run.profiling import Span
from ist_jax.run.signals import Stop, Stopped


def traced(folder):
    """The rounds in every trace of a run folder, and how often the round's program ran in it."""
    found = []
    for path in sorted(folder.glob("profile/plugins/profile/*/*.trace.json.gz")):
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        rounds = [int(e["args"]["step_num"]) for e in events if e.get("name") == "round"]
        about = [event.get("args", {}) for event in events]
        ran = {args["run_id"] for args in about if args.get("hlo_module") == "jit_on_device"}
        found.append((sorted(rounds), len(ran)))
    return found


def test_the_wanted_rounds_of_the_first_run_are_traced_and_no_others(tmp_path):
    folder = tmp_path / "run"
    config = tiny(methods=("ist", "ensemble"), seeds=(0, 1))
    training.run(config, folder, profile=Span(2, 4))
    assert traced(folder) == [([2, 3, 4], 3)]
    training.run(config, folder, overwrite=True)
    assert not (folder / "profile").exists()


def test_a_run_that_is_stopped_meanwhile_leaves_a_profile_and_goes_on(
    monkeypatch, tmp_path, capsys
):
    folder, rounds = tmp_path / "run", []

    def asked(self):
        rounds.append(1)
        return len(rounds) == 4

    monkeypatch.setattr(Stop, "asked", asked)
    config = tiny()
    with pytest.raises(Stopped):
        training.run(config, folder, profile=Span(2, 4))
    assert traced(folder) == [([2], 1)]
    training.run(config, folder, resume=True, profile=Span(4, 4))
    assert sorted(traced(folder)) == [([2], 1), ([4], 1)]
    assert "profiled" not in capsys.readouterr().err


def test_a_run_that_is_already_beyond_the_rounds_says_so(monkeypatch, tmp_path, capsys):
    rounds = []
    monkeypatch.setattr(Stop, "asked", lambda self: rounds.append(1) or len(rounds) == 4)
    with pytest.raises(Stopped):
        training.run(tiny(), tmp_path / "run")
    training.run(tiny(), tmp_path / "run", resume=True, profile=Span(1, 2))
    assert "warning: nothing is profiled: this run went on after round 2" in capsys.readouterr().err
    assert not (tmp_path / "run/profile").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7-5", "rounds look like 5-7, the first one first, found '7-5'"),
        ("a", "rounds look like 5-7, or 5, found 'a'"),
        ("", "rounds look like 5-7, or 5, found ''"),
        ("-3", "rounds look like 5-7, or 5, found '-3'"),
        ("1-2-3", "rounds look like 5-7, or 5, found '1-2-3'"),
        ("5-6", "--profile=5-6: of 6 rounds, counted from 0, the last is 5"),
    ],
)
def test_rounds_that_there_are_not_are_refused_before_jax_is_imported(text, message):
    words = f"train --config=quickstart:tiny --profile={text}".split()
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_JAX, "ist-jax", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_rounds_that_only_the_data_tell_are_refused_before_anything_trains(tmp_path):
    config = tiny(epochs=1.0)
    with pytest.raises(InputError, match=r"--profile=5: of \d rounds, counted from 0, the last is"):
        training.run(config, tmp_path / "run", profile=Span(5, 5))
    assert not (tmp_path / "run").exists()


def test_the_command_writes_a_profile_and_the_summary_names_host_and_versions(tmp_path):
    flags = (QUICKSTART, f"--workdir={tmp_path}/run", "--profile=1", "--config.seeds=(0,)")
    done = forked.call("experiments.main", *flags, "--config.methods=ensemble")
    assert done[0] == 0, done
    assert traced(tmp_path / "run") == [([1], 1)]
    about = json.loads((tmp_path / "run/summary.json").read_text())["environment"]
    assert about["host"] == [socket.gethostname()]
    assert about["python"] == platform.python_version()
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ist_jax"):
        assert about[name] == importlib.metadata.version(name)


class Device:
    def __init__(self, stats):
        self.memory_stats = lambda: stats


def test_memory_is_the_devices_peak_or_where_they_do_not_count_the_processs(monkeypatch, tmp_path):
    training.run(tiny(), tmp_path / "run")
    peaks = [line["memory/host_peak_bytes"] for line in lines(tmp_path / "run")]
    assert peaks == sorted(peaks)
    assert 2**26 < peaks[-1] < 2**40
    counting = [Device({"peak_bytes_in_use": 5}), Device({"peak_bytes_in_use": 7}), Device(None)]
    monkeypatch.setattr(jax, "local_devices", lambda: counting)
    assert environment.peak_memory() == {"memory/device_bytes": 7}


def test_a_span_is_written_as_it_is_read():
    assert profiling.span("5-7") == Span(5, 7)
    assert profiling.span("5") == Span(5, 5)
    assert profiling.span(str(Span(5, 7))) == Span(5, 7)
