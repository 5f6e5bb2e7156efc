"""A sweep that is stopped goes on; what its runs compile is compiled once."""

import json
import os
import signal
import time

import forked
import jax
import jax.numpy as jnp
import pytest
from conftest import tiny
from test_main import lines, timeless

from ist_jax.run import programs, summary, sweep_plan, sweeping, training
from ist_jax.run.signals import Stopped

LR = {"optimizer.lr": (0.05, 0.2)}


def told(folder):
    """What the runs of a sweep have left, but for times and dates."""
    metrics = {path.parent.name: timeless(lines(path.parent)) for path in folder.glob("*/metrics*")}
    summaries = {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/summary.json")
    }
    return metrics, {name: (one["rounds"], one["data"]) for name, one in summaries.items()}


def config(**changes):
    return tiny(rounds=24, eval_every=8, **{"data.validation": 0.2}, **changes)


def test_killed_and_resumed_a_sweep_leaves_what_one_does_that_ran_through(tmp_path):
    """Its rounds are made slow, so that the signal comes while the second run trains."""
    flags = [
        *("--config=configs/quickstart.py:tiny", "--config.methods=ist", "--config.rounds=24"),
        *("--config.eval_every=8", "--config.checkpoint.every=0", "--config.data.validation=0.2"),
        *("--sweep=optimizer.lr=0.05,0.2", f"--workdir={tmp_path / 'run'}"),
        *("--config.faults=slow:0x6", "--sweep_retrain"),
    ]
    process = forked.start(["-m", "experiments.main", *flags], dict(os.environ))
    second = tmp_path / "run/lr=0.2/metrics.jsonl"
    try:
        ends = time.monotonic() + 200
        while not (second.exists() and second.read_text()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < ends
            time.sleep(0.01)
        process.terminate()
        text = process.communicate(timeout=100)[0]
    finally:
        process.kill()
    assert process.returncode == 75, text
    assert "go on with --resume" in text
    assert not (tmp_path / "run/lr=0.2/summary.json").exists()
    first = (tmp_path / "run/lr=0.05/metrics.jsonl").stat().st_mtime_ns
    refused = forked.call("experiments.main", *flags)
    assert refused.returncode == 2
    assert "holds an interrupted sweep" in refused.stderr
    again = forked.call("experiments.main", *flags, "--resume")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run/lr=0.05/metrics.jsonl").stat().st_mtime_ns == first
    sweeping.run(config(), LR, tmp_path / "straight", retrain=True)
    assert told(tmp_path / "run") == told(tmp_path / "straight")
    assert set(told(tmp_path / "run")[0]) == {"lr=0.05", "lr=0.2", "best-ist"}


def test_a_signal_between_two_runs_stops_the_sweep_before_the_next(tmp_path, monkeypatch):
    write = summary.write

    def and_then_a_signal(*arguments):
        write(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(summary, "write", and_then_a_signal)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=r"the sweep is stopped before lr=0\.2"):
        sweeping.run(config(), LR, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "run/lr=0.05/summary.json").exists()
    assert not (tmp_path / "run/lr=0.2").exists()


def test_overwrite_leaves_nothing_of_the_old_sweep_and_what_is_not_of_it(tmp_path, monkeypatch):
    def trained(config, folder, overwrite, resume, **_):
        assert (overwrite, resume) == (True, False)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(training, "run", trained)
    monkeypatch.setattr(sweep_plan, "plan", lambda *_: None)
    for rates in ((0.1, 0.2), (0.2, 0.3)):
        sweeping.run(config(), {"optimizer.lr": rates}, tmp_path / "run", overwrite=True)
        for name in ("best-ist", "best-of-all"):
            (tmp_path / "run" / name).mkdir(exist_ok=True)
        (tmp_path / "run" / "best-ist" / "config.json").write_text("{}")
    sweeping.run(config(), {"optimizer.lr": (0.3, 0.4)}, tmp_path / "run", overwrite=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"sweep.json", "lr=0.3", "lr=0.4", "best-of-all"}, "not a run: somebody's own"


def test_what_one_run_compiles_the_next_one_finds():
    """Where the user has set no cache; afterwards there is none again."""
    hits = []
    note = lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None
    jax.monitoring.register_event_listener(note)
    kept = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with programs.kept():
            for _ in range(2):
                jax.jit(lambda x: jnp.sin(x) * 41.5)(jnp.ones(3))
                jax.clear_caches()
            assert hits
            folder = jax.config.jax_compilation_cache_dir
            assert os.listdir(folder)
        assert jax.config.jax_compilation_cache_dir is None
        assert not os.path.exists(folder)
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
        jax.monitoring.unregister_event_listener(note)
    with programs.kept():
        assert jax.config.jax_compilation_cache_dir == kept
