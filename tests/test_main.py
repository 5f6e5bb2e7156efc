"""The command line: what it leaves behind, and one clear line for every mistake."""

import json
import subprocess
import sys

import forked
import jax
import numpy as np
import pytest
from conftest import ROOT, tiny

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.run import assemble, config_files, planning, training

TIMES = ("time/", "memory/")  # not the same twice
QUICKSTART = "--config=configs/quickstart.py:tiny"


def command(*arguments):
    return [sys.executable, "-m", "experiments.main", *arguments]


def call(*arguments):
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def lines(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(rows):
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four methods, with TensorBoard files; its tests share one process."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    config = config_files.load("quickstart", "tiny")
    config.methods = ("ist", "local_sgd", "data_parallel", "ensemble")
    config.seeds, config.trackers = (0, 1), ("tensorboard",)
    training.run(config, folder)
    return folder, config


def test_a_run_folder_holds_config_metrics_summary_and_figure(finished):
    folder, config = finished
    assert json.loads((folder / "config.json").read_text())["rounds"] == config.rounds
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["results"]) == set(summary["plans"]) == set(config.methods)
    assert summary["data"]["sha256"] == data.load("digits").sha256
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    written = {path.parent.name for path in folder.glob("tensorboard/*/events*")}
    assert written == {f"{name}_{seed}" for name in config.methods for seed in config.seeds}


def test_metrics_start_at_round_0_and_add_up(finished):
    folder, config = finished
    rows = lines(folder)
    for name in config.methods:
        for seed in config.seeds:
            mine = [row for row in rows if (row["method"], row["seed"]) == (name, seed)]
            assert [row["round"] for row in mine] == [0, 2, 4, 6]
            assert [row["step"] for row in mine] == [0, 16, 32, 48]
            assert mine[0]["comm/bytes_sent"] == mine[0]["compute/flops"] == 0
            assert mine[-1]["accuracy/test"] > 0.75
    per_round = {"ist": 64 * 16 + 16 * 16 + 16 * 10 + 4 * 16, "local_sgd": 64 * 138 + 4 * 64}
    for name, entries in per_round.items():
        last = [row for row in rows if row["method"] == name][-1]
        assert last["comm/bytes_sent"] == last["comm/bytes_received"] == 6 * 4 * entries
    ensemble = [row["comm/bytes_sent"] for row in rows if row["method"] == "ensemble"]
    assert ensemble == [0, 0, 0, 4 * per_round["ist"]] * 2
    synchronous = [row for row in rows if row["method"] == "data_parallel"][-1]
    assert synchronous["comm/bytes_sent"] == 48 * 4 * per_round["local_sgd"]


def test_the_same_command_gives_the_same_metrics(finished, tmp_path):
    """In a process of its own, as what a process draws by itself is another in each."""
    folder, _ = finished
    done = call(QUICKSTART, "--config.methods=('ist',)", f"--workdir={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    first = [r for r in lines(folder) if (r["method"], r["seed"]) == ("ist", 0)]
    assert timeless(lines(tmp_path / "again")) == timeless(first)


def test_seeds_begin_with_nets_of_their_own_that_one_program_makes(compilations):
    config = tiny()
    job = assemble.jobs(config, planning.load(config))["ist"]
    first = job.state(0)
    compilations()
    second = job.state(1)
    assert compilations() == 0
    kernels = [jax.tree.leaves(state.params)[0] for state in (first, second)]
    assert not np.array_equal(*kernels)


@pytest.mark.optimized
def test_two_devices_give_the_same_metrics(finished, tmp_path):
    folder, _ = finished
    training.run(tiny(**{"mesh.workers": 2}), tmp_path / "two")
    first = [r for r in lines(folder) if (r["method"], r["seed"]) == ("ist", 0)]
    assert timeless(lines(tmp_path / "two")) == timeless(first)


@pytest.mark.optimized
def test_one_worker_is_ordinary_training(tmp_path):
    training.run(tiny(methods=("ist", "single"), workers=1), tmp_path / "one")
    rows = [{k: v for k, v in r.items() if k != "method"} for r in lines(tmp_path / "one")]
    assert timeless(rows[:4]) == timeless(rows[4:])


def test_a_finished_run_is_never_overwritten_without_being_asked(finished):
    folder, config = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a finished run"):
        training.run(config, folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwrite_leaves_nothing_of_the_old_run(tmp_path):
    folder = tmp_path / "run"
    training.run(tiny(trackers=("tensorboard",), methods=("ensemble",)), folder)
    training.run(tiny(), folder, overwrite=True)
    assert {row["method"] for row in lines(folder)} == {"ist"}
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "summary.json", "accuracy.png", "checkpoints"}


def test_a_folder_with_files_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        training.run(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_plan_agrees_with_the_run(finished, tmp_path):
    folder, config = finished
    told = planning.dry_run(config)
    assert "hidden0 64 -> 16, hidden1 64 -> 16" in told
    row = next(line for line in told.splitlines() if line.startswith("| ist"))
    assert [cell.strip() for cell in row.split("|")[2:7]] == [
        "1,504",
        "16.5%",
        "6.02 kB",
        "48.13 kB",
        "36.1 kB",
    ]
    plan = json.loads((folder / "summary.json").read_text())["plans"]["ist"]
    assert plan["bytes_sent"] * config.rounds == lines(folder)[3]["comm/bytes_sent"]
    assert plan["flops"] * config.rounds == lines(folder)[3]["compute/flops"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model.name": "cnn", "model.widths": {"filters0": 8, "filters1": 8, "hidden0": 16}},
        {"normalise": "scale", "optimizer.name": "adam", "optimizer.lr": 3e-3},
        {"normalise": "none", "model.widths": {"hidden0": 32}},
        {
            "method_options.ist.assignment": "balanced",
            "optimizer_state": "keep",
            "optimizer.momentum": 0.9,
        },
        {"method_options.ist.shares": (3, 1, 1, 1), "data.skew": 1.0, "model.affine": False},
        {"optimizer.schedule": "cosine", "optimizer.clip": 1.0, "optimizer.weight_decay": 1e-4},
        {"data.split": "all", "model.logits": False},
        {
            "optimizer.name": "adamw",
            "optimizer.lr": 0.01,
            "optimizer.options.b2": 0.95,
            "optimizer.schedule": "warmup_cosine_decay_schedule",
            "optimizer.schedule_options.warmup_steps": 4,
            "optimizer.warm_up_steps": 4,
        },
    ],
    ids=lambda changes: "-".join(str(v) for v in changes.values())[:40],
)
def test_every_switch_of_the_config_trains(changes, tmp_path):
    changes = dict(changes)
    widths = changes.pop("model.widths", None)
    config = tiny(rounds=8, **changes)
    if widths:
        config.model.widths = widths
    training.run(config, tmp_path / "run")
    rows = lines(tmp_path / "run")
    assert rows[-1]["accuracy/test"] > rows[0]["accuracy/test"] + 0.2


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    config = tiny(methods=("local_sgd",), normalise="none", **{"optimizer.lr": 1e20})
    with pytest.raises(InputError, match=r"local_sgd, seed 0: the loss of worker 0 is .* round 0"):
        training.run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config is missing"),
        ((QUICKSTART, "--dry_rum"), "'dry_rum'. Did you mean: dry_run"),
        ((QUICKSTART, "dry_run"), "what is 'dry_run'?"),
        ((QUICKSTART,), "--workdir is missing"),
        (
            (QUICKSTART, "--dry_run", "--config.data.options.clusters=3"),
            "data set 'digits' has no option 'clusters'",
        ),
        (
            ("--config=configs/sketch_bias.py", "--dry_run"),
            "one of the analysis, for the command sketch",
        ),
        (
            (QUICKSTART, "--dry_run", "--config.workerz=3"),
            "key: 'workerz' Did you mean \"workers\"",
        ),
        ((QUICKSTART, "--dry_run", "--config.workers=four"), "--config.workers=four: invalid"),
        (
            ("--config=configs/quickstart.py:tinny", "--dry_run"),
            "one variant, 'tiny'; found 'tinny'",
        ),
        (
            ("--config=configs/quickstar.py", "--dry_run"),
            "quickstar.py'; the library has amazon670k, ",
        ),
        (
            ("--config=configs/fashion_mnist.py", "--config.data.path=/nowhere", "--dry_run"),
            "not found in /nowhere. Give data.path a folder with",
        ),
        ((QUICKSTART, "--workdir=README.md/run"), "--workdir=README.md/run cannot be written"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_a_wrong_command_exits_with_2_and_one_line(arguments, message):
    done = forked.call("experiments.main", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


BEFORE_JAX = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module("ist_jax.commands.cli", run_name="__main__")
except SystemExit as end:
    assert end.code == 2, end.code
assert "jax" not in sys.modules
print("seconds", resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --config=quickstart:tiny --dry_rum", "Did you mean: dry_run"),
        ("train --config=quickstart:tiny --config.workerz=3", 'Did you mean "workers"'),
        ("train --config=quickstart --rounds=5", "did you mean --config.rounds?"),
        ("train --config=quickstar", "did you mean 'quickstart'"),
        ("sketch --config=sketch_bias --workdri=x", "Did you mean: workdir"),
        ("lottery", "--config is missing"),
        ("report", "required: FOLDER"),
    ],
)
def test_a_wrong_flag_or_key_is_told_before_jax_is_imported(words, said):
    command = [sys.executable, "-c", BEFORE_JAX, "ist-jax", *words.split()]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert float(done.stdout.split("seconds")[1]) < 0.5


@pytest.mark.parametrize("arguments", [(), (QUICKSTART, "--dry_rum"), (QUICKSTART, "--dry_run")])
def test_a_command_that_shares_its_imports_is_as_one_that_does_not(arguments):
    done = call(*arguments)
    assert forked.call("experiments.main", *arguments) == (
        done.returncode,
        done.stdout,
        done.stderr,
    )
    assert done.returncode == (0 if "--dry_run" in arguments else 2)
