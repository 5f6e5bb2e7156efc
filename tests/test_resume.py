"""Runs that stop, are killed, get stuck, and go on: processes of their own, as a user has them."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import tiny
from test_distributed import TINY, run_all, start_command
from test_graph_data import planetoid
from test_main import lines, timeless

from ist_jax.checkpoint import Checkpoints
from ist_jax.core.errors import InputError
from ist_jax.run import training

OF_IMAGES = {"rounds": 6, "seeds": (0,), "optimizer.schedule": "constant"}
ON_A_GRAPH = {
    **{"of": "wordnet_sage", "rounds": 6, "seeds": (0,), "data.name": "planetoid", "workers": 2},
    **{"data.options.clusters": 1, "data.batch": 1},
}
RUNS = {
    "sgd": {},
    "momentum kept": {"optimizer.momentum": 0.9, "optimizer_state": "keep"},
    "momentum reset": {"optimizer.momentum": 0.9},
    "adam": {"optimizer.name": "adam", "optimizer.lr": 3e-3, "optimizer_state": "keep"},
    "resist": {"of": "fashion_resist", "methods": ("resist",), **OF_IMAGES},
    "loft": {"of": "fashion_loft", "methods": ("loft",), **OF_IMAGES},
    **{kind: ON_A_GRAPH | {"model.options.kind": kind} for kind in ("sage", "gcn", "gat")},
}
SAVING = {"checkpoint.every": 1, "checkpoint.permanent": 1, "eval_every": 3}

IN_A_PROCESS = """
import json, pathlib, sys
from conftest import tiny
from ist_jax.run import training as train
for folder, changes in json.loads(sys.argv[1]).items():
    train.run(tiny(**changes), pathlib.Path(folder), resume=True)
"""


def in_a_process(runs):
    """Each folder's run goes on with these changes to the tiny config."""
    runs = json.dumps({str(folder): changes for folder, changes in runs.items()})
    ((code, text),) = run_all([["-c", IN_A_PROCESS, runs]], timeout=400)
    assert code == 0, text


def newest(folder, run="*_0"):
    """(round, digests of all leaves) of a run's newest checkpoint."""
    [run] = (folder / "checkpoints").glob(run)
    kept = Checkpoints(run)
    told = kept.check(kept.rounds()[0])
    return told["round"], {path: leaf["digest"] for path, leaf in told["leaves"].items()}


HERE = ("momentum kept", "adam", "resist", "sage")


@pytest.mark.parametrize(
    "names",
    [HERE, pytest.param(tuple(RUNS.keys() - set(HERE)), marks=pytest.mark.slow)],
    ids=["here", "others"],
)
def test_stopping_and_going_on_in_another_process_gives_the_same_bits(tmp_path, names):
    """Parameters, optimizer state and metrics: 6 rounds are 3 and 3."""
    planetoid(tmp_path / "data")
    halves = {tmp_path / name: RUNS[name] | SAVING for name in names}
    for changes in halves.values():
        if changes.get("data.name") == "planetoid":
            changes["data.path"] = str(tmp_path / "data")
    in_a_process({folder: changes | {"rounds": 3} for folder, changes in halves.items()})
    in_a_process(halves)
    for folder, changes in halves.items():
        straight = folder.with_suffix(".straight")
        training.run(tiny(**changes), straight)
        assert newest(folder) == newest(straight)
        assert timeless(lines(folder)) == timeless(lines(straight))
        assert [line["round"] for line in lines(folder)] == [0, 3, 6]


def start(folder, *flags):
    return start_command("-m", "experiments.main", *TINY, f"--workdir={folder}", *flags)


def wait_for(condition, process, seconds=90):
    ends = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < ends
        time.sleep(0.01)


ENDLESS = ("--config.rounds=100000", "--config.checkpoint.every=1", "--config.checkpoint.last=3")


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_sigkill_at_any_instant_of_a_save_loses_no_checkpoint_and_leaves_no_half_one(
    tmp_path, kills
):
    folder, draw = tmp_path / "run", np.random.default_rng(kills)
    kept = Checkpoints(folder / "checkpoints" / "ist_0")
    last = 0
    for _ in range(kills):
        process = start(folder, "--resume", *ENDLESS)
        try:
            wait_for(lambda last=last: kept.rounds()[:1] > [last], process)
            time.sleep(draw.uniform(0, 0.5))
            before = kept.rounds()
            process.kill()
            text = process.communicate()[0]
        finally:
            process.kill()
        assert "is damaged" not in text
        after = kept.rounds()
        assert after[0] >= before[0]
        for number in after:
            kept.check(number)
        last = after[0]
    rounds = last + 5
    changes = {"checkpoint.every": 1, "eval_every": 2, "rounds": rounds}
    training.run(tiny(**changes), folder, resume=True)
    training.run(tiny(**changes), tmp_path / "straight")
    assert newest(folder) == newest(tmp_path / "straight")
    assert timeless(lines(folder)) == timeless(lines(tmp_path / "straight"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_rounds_end_and_exits_with_75(tmp_path, number):
    folder = tmp_path / "run"
    process = start(folder, "--config.rounds=100000", "--config.checkpoint.every=0")
    try:
        wait_for(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) > 2, process)
        process.send_signal(number)
        text = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    assert process.returncode == 75, text
    saved = int(re.search(r"saved after round (\d+); go on with --resume", text)[1])
    assert newest(folder)[0] == saved
    with pytest.raises(InputError, match="holds an interrupted run"):
        training.run(tiny(), folder)
    changes = {"rounds": saved + 4, "checkpoint.every": saved + 4}
    training.run(tiny(**changes), folder, resume=True)
    training.run(tiny(**changes), tmp_path / "straight")
    assert newest(folder) == newest(tmp_path / "straight")
    assert timeless(lines(folder)) == timeless(lines(tmp_path / "straight"))


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, "--config.faults=slow:0x10000", "--config.rounds=10")
    try:
        wait_for(lambda: (folder / "metrics.jsonl").exists() and lines(folder), process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=10)[0]
    finally:
        process.kill()
    assert process.returncode == 130, text
    assert "Ctrl-C again to stop at once" in text


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Six rounds, each with its checkpoint."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    training.run(tiny(**SAVING), folder)
    return folder


def copy_of(folder, tmp_path):
    (shutil.rmtree if (tmp_path / "run").exists() else lambda _: None)(tmp_path / "run")
    return shutil.copytree(folder, tmp_path / "run")


def cut_file(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_the_newest_good_checkpoint_is_used_in_place_of_a_damaged_one(saved, tmp_path, capsys):
    folder = copy_of(saved, tmp_path)
    kept = folder / "checkpoints" / "ist_0"
    largest = max((kept / "6" / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)
    cut_file(largest)
    cut_file(kept / "5" / "about" / "metadata")
    changes = SAVING | {"rounds": 9}
    training.run(tiny(**changes), folder, resume=True)
    told = capsys.readouterr().err
    assert re.search(r"ist, seed 0: the checkpoint of round 6 is damaged: leaf params\.\S+ ", told)
    assert "the checkpoint of round 5 is damaged: about" in told
    assert {path.name for path in kept.iterdir()} == {
        *map(str, range(1, 10)),
        "5.damaged",
        "6.damaged",
    }
    training.run(tiny(**changes), tmp_path / "straight")
    assert newest(folder) == newest(tmp_path / "straight")
    assert timeless(lines(folder)) == timeless(lines(tmp_path / "straight"))


def test_where_none_is_good_the_run_does_not_start(saved, tmp_path):
    folder = copy_of(saved, tmp_path)
    for about in folder.glob("checkpoints/ist_0/*/about/metadata"):
        about.unlink()
    with pytest.raises(InputError, match=r"ist, seed 0: no checkpoint is good. .*--overwrite"):
        training.run(tiny(**SAVING, rounds=9), folder, resume=True)
    assert (folder / "checkpoints" / "ist_0" / "6").exists(), "nothing is touched"


def test_a_checkpoint_is_not_used_ahead_of_its_metrics(saved, tmp_path, capsys):
    folder = copy_of(saved, tmp_path)
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:-1]) + rows[-1][:20])  # torn
    training.run(tiny(**SAVING, rounds=9), folder, resume=True)
    assert "metrics up to round 6 are missing" in capsys.readouterr().err
    assert [line["round"] for line in lines(folder)] == [0, 3, 6, 9]


@pytest.mark.parametrize(
    "changes", [{"local_steps": 7}, {"optimizer.lr": 0.2}, {"model.widths": {"hidden0": 64}}]
)
def test_another_experiment_does_not_go_on_from_this_one(saved, tmp_path, changes):
    folder = copy_of(saved, tmp_path)
    widths, changes = changes.get("model.widths"), dict(changes)
    changes.pop("model.widths", None)
    config = tiny(**SAVING, rounds=9, **changes)
    if widths:
        config.model.widths = widths
    before = (folder / "config.json").read_bytes()
    key = next(iter(changes), "model.widths.hidden1")
    with pytest.raises(InputError, match=rf"holds another experiment: config\.{key} was .*now it"):
        training.run(config, folder, resume=True)
    assert (folder / "config.json").read_bytes() == before
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=rf"ist, seed 0 holds another experiment: config\.{key}"):
        training.run(config, folder, resume=True)


def test_a_run_that_is_done_goes_on_doing_nothing(saved, tmp_path):
    folder = copy_of(saved, tmp_path)
    before = (folder / "metrics.jsonl").read_bytes()
    training.run(tiny(**SAVING), folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert (folder / "summary.json").exists()


def test_a_run_that_is_past_the_rounds_asked_for_says_so(saved, tmp_path):
    folder = copy_of(saved, tmp_path)
    with pytest.raises(InputError, match=r"ist, seed 0 is past config.rounds=4: .* holds round 6"):
        training.run(tiny(**SAVING, rounds=4), folder, resume=True)


def test_resume_in_an_empty_folder_begins(tmp_path):
    training.run(tiny(**SAVING), tmp_path / "run", resume=True)
    assert newest(tmp_path / "run")[0] == 6


def test_checkpoints_in_a_folder_of_their_own_are_not_overwritten_without_being_asked(tmp_path):
    changes = SAVING | {"checkpoint.folder": str(tmp_path / "kept")}
    training.run(tiny(**changes), tmp_path / "one")
    with pytest.raises(InputError, match=r"kept/ist_0 holds checkpoints. Go on .* --resume"):
        training.run(tiny(**changes), tmp_path / "two")
    training.run(tiny(**changes), tmp_path / "two", overwrite=True)
    assert Checkpoints(tmp_path / "kept" / "ist_0").rounds() == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("on_error", "processes"),
    [("stop", 1), ("go_on", 1), ("go_on", 2), pytest.param("stop", 2, marks=pytest.mark.slow)],
)
def test_a_folder_that_cannot_be_written_stops_training_or_not_as_asked(
    tmp_path, processes, on_error
):
    (tmp_path / "kept").write_text("a file where the folder should be")
    flags = [f"--workdir={tmp_path / 'run'}", f"--config.checkpoint.folder={tmp_path / 'kept'}"]
    flags += ["--config.checkpoint.every=1", f"--config.checkpoint.on_error={on_error}"]
    command = ["-m", "experiments.main", *TINY, *flags]
    if processes == 2:
        command = ["-m", "experiments.launch", "--processes=2", "--", *TINY, *flags]
        command.append("--config.mesh.workers=4")
    ((code, text),) = run_all([command])
    assert "Traceback" not in text
    told = re.findall(r"ist, seed 0: round (\d+) cannot be saved in .*kept.*", text)
    if on_error == "stop":
        assert (code, told) == (1, ["1"] * processes), text
    else:
        assert code == 0, text
        assert told == list("123456"), text
        assert lines(tmp_path / "run")[-1]["round"] == 6
