"""A saved net is asked without its training data, and goes on with no other data than its own."""

import json
import re
import shutil
import tarfile

import jax
import numpy as np
import pytest
from conftest import ROOT, on_host, same_bits, tiny
from test_distributed import TINY, run_all
from test_graph_data import planetoid
from test_main import lines
from test_resume import newest

from ist_jax import checkpoint, data
from ist_jax.checkpoint import Checkpoints, reading
from ist_jax.checkpoint import about as descriptions
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.data.clusters import clustered
from ist_jax.models.mlp import MLP
from ist_jax.models.resnet import ResNet
from ist_jax.run import assemble, lottery, planning, team, training

DIGITS = data.load("digits")
OTHER = DIGITS._replace(test_y=DIGITS.test_y[::-1].copy(), sha256="").checked()
ROUNDS = {"eval_every": 3, "checkpoint.every": 3, "checkpoint.last": 9}


def asked(folder, model, number=None, **told):
    """Logits of all test examples at once, and of some one by one."""
    kept = Checkpoints(folder)
    params, statistics = kept.net(number or kept.rounds()[0])
    answer = jax.jit(lambda x: model.apply({**params, **statistics}, x, train=False))
    some = [answer(DIGITS.test_x[n : n + 1]) for n in range(40)]
    return np.asarray(answer(DIGITS.test_x)), np.concatenate(some), statistics


def right(logits):
    return float(np.mean(logits.argmax(1) == DIGITS.test_y))


def test_a_saved_net_says_of_one_example_what_it_said_in_the_run(tmp_path):
    """As the documentation has it; though nothing else was to be saved. One by one: rounding."""
    config = tiny()
    training.run(config, tmp_path / "run")
    text = (ROOT / "docs" / "checkpoints.md").read_text()
    code = re.search(r"```python\n(import jax\n.*?)```", text, re.S)[1]
    code = code.replace("runs/quickstart", str(tmp_path / "run")).replace("1024", "64")
    found = {}
    exec(code, found)
    predict = found["predict"]
    together = np.asarray(predict(DIGITS.test_x))
    assert right(together) == lines(tmp_path / "run")[-1]["accuracy/test"] > 0.8
    for n in range(40):
        np.testing.assert_allclose(predict(DIGITS.test_x[n : n + 1])[0], together[n], atol=2e-5)
    job = assemble.build(config, DIGITS, "ist", {})
    params, statistics = Checkpoints(tmp_path / "run/checkpoints/ist_0").net(6)
    assert same_bits(on_host(job.statistics(job.trainer.init(params, jax.random.key(0)))),
                     statistics), "of the training data, to the last bit"  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"checkpoint.permanent": 4}, {4, 6}),
        ({"checkpoint.best": 1}, {2, 4, 6}),
        ({"normalise": "none"}, set()),
        ({"normalise": "scale"}, set()),
    ],
    ids=str,
)
def test_checkpoints_that_stay_hold_statistics_where_the_net_needs_them(tmp_path, changes, held):
    saving = {"checkpoint.every": 1, "checkpoint.last": 9}
    training.run(tiny(**saving, **changes), tmp_path / "run")
    kept = Checkpoints(tmp_path / "run/checkpoints/ist_0")
    assert kept.rounds()[0] == 6
    held &= set(kept.rounds())  # one that is due while another is being written is skipped
    assert {n for n in kept.rounds() if kept.net(n)[1]} == held
    assert {n for n in kept.rounds() if (kept.folder / str(n) / "statistics").exists()} == held
    model = MLP({"hidden0": 64, "hidden1": 64}, 10, changes.get("normalise", "standardise"))
    together, one_by_one, _ = asked(kept.folder, model)
    assert right(together) == lines(tmp_path / "run")[-1]["accuracy/test"]
    np.testing.assert_allclose(one_by_one, together[:40], atol=2e-5)
    if held:
        with pytest.raises(InputError, match=r"no statistics for norm_hidden0: .*Checkpoints.net"):
            asked(kept.folder, model, 1)


def test_gains_of_a_net_that_is_scaled_where_it_is_asked_are_told(tmp_path):
    """ResIST's: residual branches are multiplied by the share of the blocks that a worker had."""
    changes = {"rounds": 4, "eval_every": 4, "local_steps": 8, "data.batch": 32}
    config = tiny("fashion_resist", methods=("resist",), **changes)
    training.run(config, tmp_path / "run")
    kept = Checkpoints(tmp_path / "run/checkpoints/resist_0")
    gains = kept.check(4)["about"]["gains"]
    assert list(gains) == ["stage2"]
    model = ResNet(dict(config.model.widths), 10, logits=False, gains=gains, **config.model.options)
    found = lines(tmp_path / "run")[-1]["accuracy/test"]
    together, one_by_one, _ = asked(kept.folder, model)
    assert right(together) == found
    np.testing.assert_allclose(one_by_one, together[:40], atol=2e-5)
    assert not np.allclose(asked(kept.folder, model.clone(gains={}))[0], together, atol=0.1)


@pytest.mark.parametrize("processes", [1, 2])
def test_statistics_of_a_net_over_several_devices_are_those_of_the_whole_net(tmp_path, processes):
    shared = [*TINY, "--config.mesh.workers=4", f"--workdir={tmp_path / 'run'}"]
    if processes == 1:
        training.run(tiny(**{"mesh.workers": 4}), tmp_path / "run")
    else:
        command = ["-m", "experiments.launch", f"--processes={processes}", "--", *shared]
        [(code, text)] = run_all([command])
        assert code == 0, text
    kept = Checkpoints(tmp_path / "run/checkpoints/ist_0")
    assert kept.check(6)["statistics"]
    together, _, statistics = asked(kept.folder, MLP({"hidden0": 64, "hidden1": 64}, 10))
    assert right(together) == pytest.approx(lines(tmp_path / "run")[-1]["accuracy/test"], abs=0.01)
    job = assemble.build(tiny(), DIGITS, "ist", {})
    dense = job.statistics(job.trainer.init(kept.net(6)[0], jax.random.key(0)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
                 statistics, on_host(dense))  # fmt: skip


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Three rounds, which may go on."""
    folder = tmp_path_factory.mktemp("half") / "run"
    training.run(tiny(rounds=3, **ROUNDS), folder)
    return folder


def every_file(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_does_not_go_on_with_other_data_whatever_method_it_goes_on_with(
    half, tmp_path, monkeypatch
):
    """Nor is a finished one said to be of other data than it was."""
    run = shutil.copytree(half, tmp_path / "run")
    before = every_file(run)
    monkeypatch.setattr(planning, "load", lambda config: OTHER)
    told = f"ist_0: round 3 was trained on other data: .*{DIGITS.sha256}, now it is {OTHER.sha256}"
    for changes in ({"rounds": 6}, {"rounds": 3}, {"rounds": 6, "methods": ("local_sgd",)}):
        with pytest.raises(InputError, match=told):
            training.run(tiny(**ROUNDS, **changes), run, resume=True)
    with pytest.raises(InputError, match=told):
        lottery.run(tiny(rounds=3, **ROUNDS), run)
    assert every_file(run) == before
    monkeypatch.undo()
    training.run(tiny(**ROUNDS), run, resume=True)
    assert lines(run)[-1]["round"] == 6


def test_the_same_data_may_lie_elsewhere(tmp_path, capsys):
    graph = {"of": "wordnet_sage", "data.name": "planetoid", "workers": 2, "data.batch": 1}
    graph |= {"data.options.clusters": 1, "seeds": (0,), **ROUNDS}
    for place in ("here", "there", "other"):
        planetoid(tmp_path / place)
    (tmp_path / "other/ind.toy.test.index").write_text("9\n10\n11\n")  # two nodes change places
    start = lambda place, rounds, **more: training.run(
        tiny(**graph, **{"data.path": str(tmp_path / place), "rounds": rounds}),
        tmp_path / "run",
        **more,
    )
    start("here", 3)
    start("there", 6, resume=True)
    with pytest.raises(InputError, match="round 6 was trained on other data"):
        start("other", 9, resume=True)
    assert "does not say" not in capsys.readouterr().err
    kept = Checkpoints(tmp_path / "run/checkpoints/ist_0")
    assert kept.net(6)[1] == {}, "a graph net needs no statistics"


def test_a_team_that_was_given_different_data_does_not_train(tmp_path, monkeypatch):
    theirs = lambda self, topic, mine, patience=None: [mine, *["b" * 64] * ("digest" in topic)]
    monkeypatch.setattr(team.Team, "share", theirs)
    told = rf"not given the same data: .* {DIGITS.sha256} in process 0 and bbbb.* in process 1"
    with pytest.raises(InputError, match=told):
        training.run(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_saved_by_an_earlier_version_goes_on_to_the_same_bits(tmp_path, capsys):
    """Three rounds of it, in the format without statistics or a digest of the data."""
    with tarfile.open(ROOT / "tests/saved/format_1.tar.gz") as file:
        file.extractall(tmp_path / "run", filter="data")
    changes = {"optimizer.momentum": 0.9, "optimizer_state": "keep", **ROUNDS}
    config = tiny(**changes, **{"model.widths.hidden0": 8, "model.widths.hidden1": 8})
    about = tmp_path / "run/checkpoints/ist_0/3/about/metadata"
    told = json.loads(about.read_text())
    del told["seal"]
    assert told["format"] == 1
    told["about"]["config"] = config.to_json_best_effort()  # whatever keys have come since
    about.write_text(json.dumps(told | {"seal": descriptions.seal(told)}))
    kept = Checkpoints(tmp_path / "run/checkpoints/ist_0")
    params, statistics = kept.net(3)
    assert (params["params"]["hidden0"]["kernel"].shape, statistics) == ((64, 8), {})
    job = assemble.build(config, DIGITS, "ist", {})
    state = job.trainer.resume(kept.restore(kept.check(3), job.trainer.shapes))
    batches = job.batches(0)
    for number in range(3, 6):
        state, _ = job.trainer.round(state, **job.place(batches(number)))
    training.run(config, tmp_path / "run", resume=True)
    assert "ist_0: the checkpoint of round 3 does not say what data" in capsys.readouterr().err
    assert newest(tmp_path / "run") == (6, reading.digests(job.trainer.unsharded(state)))
    assert kept.net(6)[1]
    longer = tiny(rounds=9, **changes, **{"model.widths.hidden0": 8, "model.widths.hidden1": 8})
    training.run(longer, tmp_path / "run", resume=True)
    assert "does not say" not in capsys.readouterr().err, "it does now"


def test_a_run_that_is_over_and_has_no_checkpoint_is_not_trained_again(half, tmp_path, capsys):
    """As earlier versions left it where none were wanted."""
    run = shutil.copytree(half, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    training.run(tiny(**ROUNDS | {"checkpoint.every": 0, "rounds": 3}), run, resume=True)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert "ist, seed 0 is over, and its net was not saved" in capsys.readouterr().err


def test_a_format_that_is_not_known_is_named(half, tmp_path):
    run = shutil.copytree(half, tmp_path / "run")
    about = run / "checkpoints/ist_0/3/about/metadata"
    told = json.loads(about.read_text())
    told = {key: value for key, value in told.items() if key != "seal"} | {"format": 3}
    about.write_text(json.dumps(told | {"seal": descriptions.seal(told)}))
    [kept] = checkpoint.within(run / "checkpoints")
    with pytest.raises(CheckpointError, match="its format is 3, and this library reads 1 or 2"):
        kept.check(3)


def test_the_digest_of_a_graph_covers_its_clusters(tmp_path, monkeypatch):
    from ist_jax.data import clusters
    from ist_jax.data.sources import graph_files

    planetoid(tmp_path / "graph")
    load = clustered(graph_files.planetoid)
    whole = load(str(tmp_path / "graph"))
    assert whole.sha256 == whole.graph.sha256
    found = set()
    for cut in ([0, 1] * 6, [0] * 6 + [1] * 6):
        monkeypatch.setattr(clusters, "metis", lambda *_, cut=cut: np.array(cut, np.int32))
        found.add(load(str(tmp_path / "graph"), clusters=2).sha256)
    assert len(found | {whole.sha256}) == 3
