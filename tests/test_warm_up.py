"""Local SGD for some rounds, then subnets; an ensemble of whole nets on the same round."""

from unittest import mock

import jax
import numpy as np
import optax
import pytest
from conftest import drawn, on_host, tiny
from test_main import lines, timeless
from test_resume import newest

import ist_jax
from ist_jax import axes, method
from ist_jax.core.errors import InputError
from ist_jax.models import normalise
from ist_jax.models.ensemble import MEMBERS, Ensemble
from ist_jax.models.mlp import MLP
from ist_jax.models.resnet import ResNet
from ist_jax.run import training
from ist_jax.run.job import Job
from ist_jax.run.schedule import Schedule
from ist_jax.sharded.state import State
from ist_jax.tasks import classification


def job_of(flops, warm_up_job=None):
    """A job that costs so many FLOPs and trains nothing."""
    job = mock.Mock(spec=Job, warm_up_job=warm_up_job)
    job.costs.flops, job.trainer.resume.return_value = flops, mock.Mock(spec=State)
    return job


def test_the_schedule_says_who_trains_who_measures_and_hands_over_once():
    warm, before = job_of(2), mock.Mock(spec=State)
    job = job_of(3, warm)
    schedule = Schedule(job, 2)
    assert [schedule.training_job(n) for n in range(4)] == [warm, warm, job, job]
    assert [schedule.active_job(n) for n in range(4)] == [warm, warm, warm, job]
    assert [schedule.hand_over(n, before) for n in (0, 1, 3)] == [before] * 3
    assert schedule.hand_over(2, before) is job.trainer.resume.return_value
    warm.trainer.unsharded.assert_called_once_with(before)
    job.trainer.resume.assert_called_once_with(warm.trainer.unsharded.return_value)
    assert [schedule.flops(n) for n in range(5)] == [0, 2, 4, 7, 10]
    alone = Schedule(job_of(3), 2)
    assert [alone.active_job(n) for n in range(3)] == [alone.job] * 3
    assert alone.hand_over(2, before) is before
    assert alone.flops(3) == 9


@pytest.mark.parametrize("name", ["ist", "resist"])
def test_a_warm_up_is_local_sgd_and_then_the_method(tmp_path, name):
    """Also where it is looked at: ResIST scales what adds up, local SGD does not."""
    changes = {"rounds": 6, "eval_every": 1, "optimizer.schedule": "cosine"}
    training.run(tiny(methods=(name, "local_sgd"), warm_up=2, **changes), tmp_path / "warm")
    training.run(tiny(methods=(name,), **changes), tmp_path / "cold")
    rows = timeless(lines(tmp_path / "warm"))
    warm, local = ([r for r in rows if r["method"] == n] for n in (name, "local_sgd"))
    without = lambda row: {k: v for k, v in row.items() if k != "method"}
    assert list(map(without, warm[:3])) == list(map(without, local[:3]))
    cold = timeless(lines(tmp_path / "cold"))
    for key in ("comm/bytes_sent", "comm/bytes_received", "compute/flops"):
        assert warm[6][key] == local[2][key] + cold[4][key]
    assert warm[3]["accuracy/test"] != local[3]["accuracy/test"]


@pytest.mark.parametrize(
    ("stop", "devices"),
    [(2, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 1), (2, 2), (3, 1)))],
)
def test_a_run_goes_on_from_any_round_of_a_warm_up(tmp_path, stop, devices):
    """At its end, before it and after."""
    changes = {
        "warm_up": 2,
        "eval_every": 1,
        "checkpoint.every": 1,
        "checkpoint.permanent": 1,
        "mesh.workers": devices,
        "optimizer.momentum": 0.9,
        "optimizer_state": "keep",
    }
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    training.run(tiny(rounds=5, **changes), straight)
    training.run(tiny(rounds=5, **changes), halves)
    for folder in (halves / "checkpoints/ist_0").iterdir():  # as if it had been stopped then
        if folder.name.isdecimal() and int(folder.name) > stop:
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            folder.rmdir()
    kept = (halves / "metrics.jsonl").read_text().splitlines()[: stop + 1]
    (halves / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    training.run(tiny(rounds=5, **changes), halves, resume=True)
    assert newest(halves) == newest(straight)
    assert timeless(lines(halves)) == timeless(lines(straight))


def test_a_warm_up_that_leaves_no_round_is_refused(tmp_path):
    with pytest.raises(InputError, match="warm_up=6 rounds of local SGD leave none of 6 for ist"):
        training.run(tiny(warm_up=6), tmp_path / "run")
    training.run(tiny(warm_up=6, methods=("data_parallel",)), tmp_path / "other")


def test_an_ensemble_asks_its_members_and_takes_the_mean_of_their_probabilities():
    member = ResNet({}, 3, blocks=(1, 2), base=2, preactivate=True, bias=True, logits=False)
    model = Ensemble(member, {MEMBERS: 3})
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    params, names = drawn(model, x)
    assert all(of_leaf[0] == MEMBERS for _, _, of_leaf in axes.walk(params, names))
    apart = [
        member.apply(
            {"params": jax.tree.map(lambda leaf, n=n: leaf[n], params["params"]["member"])},
            x,
            train=True,
        )
        for n in range(3)
    ]
    expected = np.mean([jax.nn.softmax(logits) for logits in apart], axis=0)
    np.testing.assert_allclose(np.exp(model.apply(params, x, train=True)), expected, atol=1e-6)
    assert np.abs(apart[0] - apart[1]).max() > 1e-3, "each begins elsewhere"


def test_members_of_an_ensemble_train_apart_as_if_alone():
    member = MLP({"hidden0": 4}, 3)
    model = Ensemble(member, {MEMBERS: 2})
    draw = np.random.default_rng(0)
    batches = {
        "x": draw.normal(size=(2, 3, 8, 5)).astype(np.float32),
        "y": draw.integers(0, 3, (2, 3, 8)).astype(np.int32),
    }
    params, names = drawn(model, batches["x"][0, 0])
    loss = classification.cross_entropy(normalise.subnet(model, {MEMBERS: 1}))
    how, sgd = method.shallow_ensemble(), optax.sgd(0.1)
    trainer = ist_jax.build(loss, sgd, params, names, method=how, workers=2)
    state, report = trainer.round(trainer.init(params, jax.random.key(1)), batches)
    assert report.bytes_sent.tolist() == [0, 0]
    found = on_host(trainer.whole(state)).params["params"]["member"]
    alone = classification.cross_entropy(member)
    for number in range(2):
        mine = {"params": jax.tree.map(lambda leaf, n=number: leaf[n], params["params"]["member"])}
        for step in range(3):
            batch = jax.tree.map(lambda leaf, n=number, s=step: leaf[n, s], batches)
            slope = jax.grad(alone)(mine, batch, jax.random.key(0))
            mine = jax.tree.map(lambda a, b: a - 0.1 * b, mine, slope)
        theirs = jax.tree.map(lambda leaf, n=number: leaf[n], found)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), theirs, mine["params"]
        )
