"""Sweeps: what is asked for, what is trained, what goes on, and what mistakes are told."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, tiny
from test_main import BEFORE_JAX, lines, timeless

from ist_jax.core.errors import InputError
from ist_jax.run import selection, sweep, sweep_plan, sweeping, training

LR = {"optimizer.lr": (0.05, 1e20, 0.2)}


def base(**changes):
    held = {"data.validation": 0.2, "normalise": "none"}
    return tiny(rounds=4, eval_every=4, seeds=(0, 1), **held, **changes)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Three learning rates, one of which diverges, and the best one trained again."""
    folder = tmp_path_factory.mktemp("runs") / "swept"
    sweeping.run(base(), LR, folder, retrain=True, command="a command")
    return folder


def test_values_have_the_types_of_their_keys_and_the_last_key_changes_fastest():
    config = tiny(**{"data.validation": 0.1})
    given = sweep.parse(
        [
            "optimizer.lr=1, 3e-2",
            "workers=2,4",
            "model.affine=true,False",
            "method_options.ist.shares=(3,1),(1,1)",
            "optimizer.schedule=cosine",
            "model.widths.hidden0=32",
        ],
        config,
    )
    assert given == {
        "optimizer.lr": (1.0, 0.03),
        "workers": (2, 4),
        "model.affine": (True, False),
        "method_options.ist.shares": ((3, 1), (1, 1)),
        "optimizer.schedule": ("cosine",),
        "model.widths.hidden0": (32,),
    }
    assert type(given["optimizer.lr"][0]) is float
    order = sweep.combinations(given)
    assert len(order) == len({one.name for one in order}) == 16
    end = ",schedule=cosine,hidden0=32"
    assert order[0].name == f"lr=1.0,workers=2,affine=True,shares=(3,1){end}"
    assert order[1].name == f"lr=1.0,workers=2,affine=True,shares=(1,1){end}"
    assert order[-1].name == f"lr=0.03,workers=4,affine=False,shares=(1,1){end}"
    made = sweep.applied(config, order[-1].settings)
    assert (made.optimizer.lr, made.workers, made.model.widths.hidden0) == (0.03, 4, 32)
    assert config.optimizer.lr == 0.1, "the config itself is as it was"


def test_keys_that_end_alike_and_values_no_folder_can_be_called_are_told_apart():
    order = sweep.combinations({"optimizer.name": ("sgd", "a/b:c"), "model.name": ("mlp",)})
    names = [one.name for one in order]
    assert names == ["optimizer.name=sgd,model.name=mlp", "optimizer.name=a%2Fb:c,model.name=mlp"]
    with pytest.raises(InputError, match="would have too long a name"):
        sweep.combinations({"optimizer.name": ("m" * 300,)})


def test_checkpoints_elsewhere_are_in_a_folder_for_each_combination():
    config = tiny(**{"checkpoint.folder": "gs://bucket/kept"})
    assert sweep.applied(config, {}, "lr=0.1").checkpoint.folder == "gs://bucket/kept/lr=0.1"
    assert sweep.applied(tiny(), {}, "lr=0.1").checkpoint.folder == ""


BAD = [
    (["optimizer.lr"], "--sweep optimizer.lr: it must look like --sweep optimizer.lr=0.03"),
    (["=0.1"], "--sweep =0.1: it must look like"),
    (["optimiser.lr=0.1"], "optimiser.lr: there is no such key; did you mean optimizer.lr?"),
    (["lr=0.1"], "--sweep lr: there is no such key; did you mean optimizer.lr?"),
    (["wrokers=2"], "did you mean workers?"),
    (["zzz=2"], "no such key; ist_jax/run/schema.py has them all"),
    (["model.widths.hidden7=2"], "did you mean model.widths.hidden"),
    (["optimizer=sgd"], "--sweep optimizer is a group of keys; one of them is optimizer."),
    (["workers=two"], "config.workers must be a whole number, found 'two'"),
    (["workers=2.5"], "config.workers must be a whole number, found '2.5'"),
    (["workers=0"], "config.workers must be from 1 to 65536, found 0"),
    (["optimizer.lr=fast"], "config.optimizer.lr must be a number, found 'fast'"),
    (["optimizer.lr=nan"], "config.optimizer.lr must be positive, found nan"),
    (["model.affine=perhaps"], "config.model.affine must be True or False, found 'perhaps'"),
    (["model.widths.hidden0=0"], "config.model.widths.hidden0 must be at least 1, found 0"),
    (["optimizer.lr="], "--sweep optimizer.lr: a value is empty; found ''"),
    (["optimizer.lr=0.1,,0.3"], "--sweep optimizer.lr: a value is empty; found '0.1,,0.3'"),
    (["optimizer.lr=0.1,0.10"], "--sweep optimizer.lr: 0.1 is there twice"),
    (["workers=2", "workers=4"], "--sweep workers is there twice: give all of its values at once"),
    (["seeds=1,2"], "--sweep seeds: seeds are rows of every run; set them as --config.seeds="),
    (["methods=ist,single"], "--sweep methods: methods are rows of every run"),
    *(
        ([f"data.{key}"], f"--sweep data.{key.partition('=')[0]}: runs on other data cannot be")
        for key in ("name=digits,cifar10", "path=/a,/b", "validation=0.1,0.2", "skip_bad=True")
    ),
    (["data.validation_seed=0,1"], "of the data only data.batch, data.split, data.skew may be"),
    (["data.options.size=8,16"], "--sweep data.options.size: runs on other data cannot be"),
    (["mesh.workers=1,2"], "--sweep mesh.workers: it does not change what is learnt; set it as"),
    (["checkpoint.every=1,2"], "--sweep checkpoint.every: it does not change what is learnt"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda value: str(value)[:30])
def test_a_wrong_sweep_is_refused(words, message):
    with pytest.raises(InputError) as error:
        sweep.parse(words, tiny(**{"data.validation": 0.1}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"), [("method_options.ist.shares", 3), ("optimizer.options.nesterof", True)]
)
def test_a_wrong_option_is_refused_before_anything_is_trained(key, value):
    with pytest.raises(InputError, match=rf"^with {key}.*{key.rpartition('.')[2]}"):
        sweep_plan.dry_run(base(), {key: (value,)})


def test_without_validation_data_there_is_nothing_to_pick_by():
    with pytest.raises(InputError, match=r"is 0: add --config\.data\.validation=0\.1$"):
        sweep.parse(["workers=2,4"], tiny())
    graph = tiny(**{"model.name": "graph"})  # has validation nodes of its own
    assert sweep.parse(["workers=2,4", "data.batch=1,2"], graph)


HELD = "--config.data.validation=0.1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((HELD, "--sweep", "optimiser.lr=0.1"), "did you mean optimizer.lr?"),
        (("--sweep=workers=2,4",), "add --config.data.validation=0.1"),
        (("--sweep_retrain",), "--sweep_retrain is for a sweep: add --sweep KEY=VALUE,VALUE"),
        ((HELD, "--sweep=workers=2", "--distributed"), "--sweep is for one process: leave"),
        ((HELD, "--sweep=workers=2", "--deterministic"), "--deterministic sets as many threads"),
    ],
    ids=lambda value: " ".join(value)[-30:] if isinstance(value, tuple) else "",
)
def test_a_wrong_sweep_exits_with_2_and_one_line_before_jax_is_imported(words, said):
    words = ["ist-jax", "train", "--config=quickstart:tiny", "--dry_run", *words]
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_JAX, *words], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_combination_that_cannot_be_is_found_before_anything_is_trained(tmp_path):
    for given, message in (
        ({"workers": (2, 800)}, r"with workers=800: group 'hidden0' has 64 neurons"),
        ({"optimizer.momentum": (0.0, 0.9)}, r"with optimizer\.momentum=0\.9: .* takes none"),
    ):
        with pytest.raises(InputError, match=message):
            sweeping.run(base(**{"optimizer.name": "adam"}), given, tmp_path / "run")
        with pytest.raises(InputError, match=message):
            sweep_plan.dry_run(base(**{"optimizer.name": "adam"}), given)
    assert not (tmp_path / "run").exists()


def test_the_plan_of_a_sweep_is_a_row_for_each_combination_and_method():
    config = base(methods=("ist", "local_sgd"))
    told = sweep_plan.dry_run(config, {"workers": (2, 4), "data.batch": (8, 16)})
    assert told.startswith("4 combinations of 2 methods with 2 seeds: 16 nets")
    rows = [[c.strip() for c in row.split("|")[1:-1]] for row in told.splitlines()[2:]]
    assert [row[:4] for row in rows[2:4]] == [["2", "8", "ist", "4"], ["2", "8", "local_sgd", "4"]]
    assert rows[-1][:3] == ["4", "16", "local_sgd"]


def test_every_combination_is_the_run_that_it_would_be_alone(swept, tmp_path):
    assert {path.name for path in swept.iterdir()} == {
        *("sweep.json", "lr=0.05", "lr=1e+20", "lr=0.2", "best-ist")
    }
    told = json.loads((swept / "sweep.json").read_text())
    assert told["values"] == {"optimizer.lr": [0.05, 1e20, 0.2]}
    assert [one["folder"] for one in told["order"]] == ["lr=0.05", "lr=1e+20", "lr=0.2"]
    training.run(base(**{"optimizer.lr": 0.2}), tmp_path / "alone")
    assert timeless(lines(tmp_path / "alone")) == timeless(lines(swept / "lr=0.2"))
    assert json.loads((swept / "lr=0.2/summary.json").read_text())["command"] == "a command"


def test_one_that_diverges_is_told_and_the_others_go_on(swept):
    summary = json.loads((swept / "lr=1e+20/summary.json").read_text())
    assert set(summary["diverged"]) == {"ist, seed 0", "ist, seed 1"}
    assert "the loss of worker" in summary["diverged"]["ist, seed 0"]
    told = selection.table(swept)
    assert "ist with optimizer.lr=1e+20: not all seeds reached the last round" in told
    assert selection.pick(selection.of_sweep(swept, sweep.read(swept)))["ist"].label in (
        *("optimizer.lr=0.05", "optimizer.lr=0.2"),
    )


def test_what_is_picked_is_trained_again_on_all_training_data(swept):
    again = json.loads((swept / "best-ist/summary.json").read_text())
    one = json.loads((swept / "lr=0.2/summary.json").read_text())
    best = selection.pick(selection.of_sweep(swept, sweep.read(swept)))["ist"]
    assert again["data"]["train"] == one["data"]["train"] + one["data"]["validation"]
    assert again["config"]["optimizer"]["lr"] == best.settings["optimizer.lr"]
    assert all("accuracy/validation" not in line for line in lines(swept / "best-ist"))
    told = selection.table(swept)
    test = [line["accuracy/test"] for line in lines(swept / "best-ist") if line["round"] == 4]
    (row,) = [row for row in told.splitlines() if row.startswith("| ist, trained again")]
    assert f"{50 * sum(test):.2f} ±" in row
    assert row.rstrip("| ").endswith("all")
    assert "not trained again" not in told


def test_a_sweep_that_is_done_goes_on_doing_nothing_and_may_get_more_values(
    swept, monkeypatch, tmp_path
):
    swept = shutil.copytree(swept, tmp_path / "swept")
    before = {path: path.stat().st_mtime_ns for path in swept.glob("*/*")}
    sweeping.run(base(), LR, swept, resume=True, retrain=True)
    assert {path: path.stat().st_mtime_ns for path in swept.glob("*/*")} == before
    ran = []
    monkeypatch.setattr(training, "run", lambda config, folder, *_, **__: ran.append(folder.name))
    sweeping.run(base(), {"optimizer.lr": (0.05, 0.4, 1e20, 0.2)}, swept, resume=True)
    assert ran == ["lr=0.4"]


def test_a_folder_is_taken_only_for_the_sweep_that_is_in_it(swept, tmp_path):
    more = {"optimizer.lr": (*LR["optimizer.lr"], 0.4)}
    with pytest.raises(InputError, match=r"holds a finished sweep\. Choose another --workdir"):
        sweeping.run(base(), more, swept)
    with pytest.raises(InputError, match=r"holds a sweep of optimizer\.lr, not of workers"):
        sweeping.run(base(), {"workers": (2,)}, swept, resume=True)
    with pytest.raises(InputError, match=r"holds a sweep with optimizer\.lr=1e\+20, which is not"):
        sweeping.run(base(), {"optimizer.lr": (0.05, 0.2)}, swept, resume=True)
    with pytest.raises(InputError, match=r"holds a run and no sweep\. Choose a new --workdir"):
        sweeping.run(base(), LR, swept / "lr=0.2", resume=True)
    with pytest.raises(InputError, match=r"holds .* and no run\. Choose a new --workdir"):
        training.run(base(), swept, overwrite=True)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.tex and no sweep"):
        sweeping.run(base(), LR, tmp_path, overwrite=True)
    for text in ("", "{}", '{"values": {}, "order": [{"folder": "../x", "settings": {}}]}'):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(InputError, match=r"sweep\.json does not describe a sweep"):
            sweeping.run(base(), LR, tmp_path, resume=True)
