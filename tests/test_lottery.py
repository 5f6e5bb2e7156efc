"""Filters ranked, compared, pruned and trained on; the net that is left is really smaller."""

import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, drawn, tiny

from experiments.pages import making
from ist_jax import pruning
from ist_jax.core.errors import InputError
from ist_jax.models.resnet import ResNet
from ist_jax.run import lottery as command
from ist_jax.run import training

X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)
MODEL = ResNet({"filters2_1": 8}, 3, blocks=(1, 2), base=4, normalise="none", bias=True)


@pytest.fixture(scope="module")
def net():
    return drawn(MODEL, X)


def test_the_distance_is_the_papers_by_hand():
    ln = math.log
    assert pruning.distance([5, 2, 9], [5, 2, 9]) == 0
    expected = ln(2) + (ln(3) - ln(2)) / 2 + ln(3) / 3
    assert pruning.distance([5, 2, 9], [9, 5, 2]) == pytest.approx(expected)
    gone = ln(2) / 2 + (ln(4) - ln(3)) / 3  # 2 is 1st now, and 9 counts as 4th
    assert pruning.distance([5, 2, 9], [2, 7, 5]) == pytest.approx(ln(3) + gone)
    swaps = [
        pruning.distance(range(9), order) for order in ([1, 0, *range(2, 9)], [*range(7), 8, 7])
    ]
    assert swaps[0] > 10 * swaps[1], "the first ranks count most"


def test_filters_are_ranked_by_the_norm_of_the_kernel_that_gives_them_out(net):
    params, names = net
    kernel = np.asarray(params["params"]["stage2_1"]["in"]["kernel"])
    assert names["params"]["stage2_1"]["in"]["kernel"][-1] == "filters2_1"
    found = pruning.norms(params, names)
    np.testing.assert_allclose(
        found["filters2_1"], [np.linalg.norm(kernel[..., n]) for n in range(8)], rtol=1e-6
    )
    order = pruning.ranking(params, names)["filters2_1"]
    assert (np.diff(found["filters2_1"][order]) <= 0).all()


@pytest.mark.parametrize(("share", "count"), [(0.0, 8), (0.3, 6), (0.5, 4), (0.8, 2)])
def test_pruning_keeps_the_largest_and_gives_a_smaller_net(net, share, count):
    """It computes what the whole net does with the other filters at zero."""
    params, names = net
    stay = pruning.largest(params, names, {"filters2_1": share})
    norms = pruning.norms(params, names)["filters2_1"]
    kept = stay["filters2_1"][0]
    assert len(kept) == count
    others = np.setdiff1d(np.arange(8), kept)
    assert norms[kept].min() > norms[others].max(initial=0)
    small, widths = pruning.prune(params, names, stay)
    assert widths == {"filters2_1": count}
    ours = MODEL.clone(widths=widths).apply(small, X, train=False)
    kernel = params["params"]["stage2_1"]["in"]["kernel"].at[..., others].set(0)
    block = {**params["params"]["stage2_1"], "in": {"kernel": kernel}}
    zeroed = {"params": {**params["params"], "stage2_1": block}}
    np.testing.assert_allclose(ours, MODEL.apply(zeroed, X, train=False), atol=1e-5)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, small)]
    assert sizes[0] - sizes[1] == 2 * 9 * 8 * (8 - count)


def test_at_random_as_many_stay_and_others_each_time():
    shares = {"a": 0.5, "b": 0.25}
    draws = [pruning.at_random(jax.random.key(n), {"a": 8, "b": 4}, shares) for n in range(50)]
    assert {d["a"].shape for d in draws} == {(1, 4)}
    assert {d["b"].shape for d in draws} == {(1, 3)}
    counts = np.bincount(np.concatenate([d["a"][0] for d in draws]), minlength=8)
    assert counts.min() > 10
    assert counts.max() < 40


def test_what_cannot_be_pruned_is_told(net):
    params, names = net
    for share in (1.0, 0.99, -0.1, math.nan):
        with pytest.raises(InputError, match=r"of the 8 neurons of 'filters2_1' must leave some"):
            pruning.largest(params, names, {"filters2_1": share})
    with pytest.raises(InputError, match=r"no group 'filters9_1'; there are .'filters2_1'"):
        pruning.largest(params, names, {"filters9_1": 0.5})
    with pytest.raises(InputError, match="no kernel gives out the neurons of 'h'"):
        pruning.norms({"scale": np.ones(3)}, {"scale": ("h",)})


def test_a_run_is_pruned_and_trained_on(tmp_path, monkeypatch):
    """Of any net whose groups have kernels: here the hidden layers of a small one."""
    config = tiny(**{"eval_every": 3, "checkpoint.every": 3, "seeds": (0, 1)})
    config.lottery.pruned, config.lottery.epochs = (0.5,), 0.5
    training.run(config, tmp_path / "run")
    lines = command.run(config, tmp_path / "run")
    written = (tmp_path / "run/lottery.jsonl").read_text().splitlines()
    assert lines == list(map(json.loads, written))
    for seed in config.seeds:
        mine = [x for x in lines if (x.get("method"), x.get("seed")) == ("ist", seed)]
        curve = [x for x in mine if "round" in x]
        assert [x["round"] for x in curve] == [0, 3, 6]
        assert curve[0]["distance"] is None
        assert curve[0]["distance_to_last"] > curve[1]["distance_to_last"] > 0
        assert curve[1]["distance_to_last"] == curve[2]["distance"]
        nets = [(x["pruned"], x["by"]) for x in mine if "pruned" in x]
        assert nets == [(0.0, "norms"), (0.5, "norms"), (0.5, "random")]
        whole, half, other = (x for x in mine if "pruned" in x)
        assert half["parameters"] == other["parameters"] == 64 * 32 + 32 * 32 + 32 * 10 + 4 * 32
        assert half["flops"] < whole["flops"]
        assert half["accuracy_tuned"] > max(half["accuracy"], 0.5)
    times = [x for x in lines if "timed" in x]
    assert [x["timed"] for x in times] == [0.0, 0.5]
    assert all(len(x["step_s"]) == command.TURNS and min(x["step_s"]) > 0 for x in times)
    assert command.table(lines).count("| ist") == 3
    page = making.made("loft", [tmp_path / "run"], tmp_path / "loft.md", draw=True)
    assert command.table(lines) in page
    assert (tmp_path / "loft.png").stat().st_size > 10_000
    again = []
    monkeypatch.setattr(command.Tickets, "trained_on", lambda *_: again.append(_[3:6]) or {})
    monkeypatch.setattr(command.Tickets, "times", lambda *_: times)
    assert command.run(config, tmp_path / "run") == lines, "all of it was there"
    assert not again
    lost = next(
        n for n, x in enumerate(lines) if tuple(map(x.get, ("seed", "by"))) == (1, "random")
    )
    (tmp_path / "run/lottery.jsonl").write_text("\n".join(written[:lost]) + "\n")
    with pytest.raises(InputError, match="has not all pruned nets yet"):
        making.made("loft", [tmp_path / "run"], tmp_path / "loft.md")
    command.run(config, tmp_path / "run")
    assert again == [(1, 0.5, "random")], "the net whose line was not there"
    config.seeds = (0,)  # the other seed's lines are not this command's to drop
    (tmp_path / "run/lottery.jsonl").write_text("\n".join(written) + "\n")
    command.run(config, tmp_path / "run")
    nets = lambda rows: sorted(row for row in rows if "pruned" in row)
    assert nets((tmp_path / "run/lottery.jsonl").read_text().splitlines()) == nets(written)
    written = (tmp_path / "run/lottery.jsonl").read_text().splitlines()
    for share, message in (
        (1.0, "above 0 and below 1"),
        (0.999, "neurons of 'hidden0' must leave some"),
    ):
        config.lottery.pruned = (0.5, share)
        with pytest.raises(InputError, match=message):
            command.run(config, tmp_path / "run")
    config.lottery.pruned = (0.25,)  # another look at the same run
    config.checkpoint.folder = str(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="elsewhere/ist_0 holds no checkpoint"):
        command.run(config, tmp_path / "run")
    assert (tmp_path / "run/lottery.jsonl").read_text().splitlines() == written
    (tmp_path / "run/summary.json").unlink()
    with pytest.raises(InputError, match="a run that is not finished"):
        command.run(config, tmp_path / "run")
    config.optimizer.lr = 0.2
    with pytest.raises(InputError, match=r"another experiment: config\.optimizer\.lr was 0\.1"):
        command.run(config, tmp_path / "run")


def test_the_command_tells_mistakes(tmp_path):
    call = lambda *flags: subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.lottery",
            "--config=configs/fashion_loft.py:tiny",
            *flags,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    done = call(f"--workdir={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds no run" in done.stderr


def test_a_warm_up_has_rankings_too_and_a_run_that_is_replaced_takes_its_lines_along(tmp_path):
    config = tiny(**{"warm_up": 2, "eval_every": 2, "checkpoint.every": 2, "checkpoint.last": 9})
    config.lottery.pruned, config.lottery.epochs = (), 0.1
    training.run(config, tmp_path / "run")
    lines = command.run(config, tmp_path / "run")
    assert [x["round"] for x in lines if "round" in x] == [0, 2, 4, 6]
    config.optimizer.lr = 1e-6
    training.run(config, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run/lottery.jsonl").exists()
    again = command.run(config, tmp_path / "run")
    accuracy = lambda rows: [x["accuracy"] for x in rows if "pruned" in x]
    assert accuracy(again) != accuracy(lines)
