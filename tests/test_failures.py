"""Workers that fail: what they would have sent is left out whole, and the rest do not notice."""

import itertools

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_tree, on_host, regression_batches, same_bits, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_main import lines, timeless
from training import run, trainer_of

from ist_jax import axes, data, decompose, method, partition
from ist_jax.checkpoint import Checkpoints
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.run import tally as tallies
from ist_jax.run import training
from ist_jax.sharded import placement
from ist_jax.trainer import Report

DIMS, S = (6, 12, 8, 3), 4
PARAMS, NAMES = mlp_tree(DIMS)
MASKS = list(itertools.product([False, True], repeat=S))


def overlapping(key, context):
    """Every neuron has two holders."""
    who = partition.permutation(key, context)
    return {g: jnp.concatenate([ids, jnp.roll(ids, 1, axis=0)], 1) for g, ids in who.items()}


METHODS = {
    "ist": method.ist(),
    "balanced": method.ist(partition.balanced),
    "overlapping": method.ist(overlapping)._replace(disjoint=False),
    "local_sgd": method.local_sgd(),
    "data_parallel": method.data_parallel(),
}


def spoil(batches, chosen, value=np.nan):
    """A copy in which one number of each chosen worker's first step is ``value``."""
    spoilt = jax.tree.map(np.copy, batches)
    x = spoilt["x"] if isinstance(spoilt["x"], np.ndarray) else spoilt["x"]["features"]
    x[chosen, 0, 0, 0] = value
    return spoilt


@pytest.mark.parametrize("how", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30], ids=str)
@pytest.mark.parametrize("devices", [1, 4])
def test_an_update_that_is_not_finite_is_left_out_whole(how, value, devices):
    """As if the worker had not taken part: parameters and moments, to the last bit.

    (With J = 1, as data parallel training leaves out the gradient of a step, not of a round.)
    """
    options = {
        "optimizer": optax.adam(1e-2),
        "optimizer_state": "keep",
        "mesh": placement.mesh(S, devices),
        "exact": True,
    }
    trainer = trainer_of(PARAMS, NAMES, how, S, on_nonfinite="drop", **options)
    everyone, three = np.ones(S, bool), np.array([True, False, True, True])
    without = trainer.init(PARAMS, jax.random.key(3))
    found = trainer.init(PARAMS, jax.random.key(3))
    for number, batch in enumerate(regression_batches(3, S, 1, 8, 6, 3)):
        there = three if number == 1 else everyone
        without, _ = trainer.round(without, batch, there)
        found, report = trainer.round(found, spoil(batch, ~there, value), everyone)
        assert np.isfinite(report.loss).tolist() == there.tolist()
    assert same_bits(on_host(trainer.whole(found)), on_host(trainer.whole(without)))


def test_the_same_is_averaged_in_if_it_is_not_asked_for():
    """So that the test above can fail."""
    batch = spoil(regression_batches(1, S, 1, 8, 6, 3)[0], [1])
    state, _ = run(PARAMS, NAMES, METHODS["overlapping"], [batch])
    assert not np.isfinite(state.params["w1"]).all()


def test_with_every_update_lost_the_net_stays_as_it_was():
    batch = spoil(regression_batches(1, S, 2, 8, 6, 3)[0], range(S))
    for how in METHODS.values():
        state, (report,) = run(PARAMS, NAMES, how, [batch], on_nonfinite="drop")
        assert np.isnan(report.loss).all()
        if how.exchange != "step":  # there, the second step is fine
            assert same_bits(state.params, PARAMS)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("net", "how"),
    [
        *(("small", how) for how in METHODS.values()),
        ("blocks", method.resist(2)),
        pytest.param("filters", method.loft(), marks=pytest.mark.slow),
        pytest.param("gcn", method.ist(), marks=pytest.mark.slow),
        ("sage", method.ist()),
        pytest.param("gat", method.ist(), marks=pytest.mark.slow),
    ],
    ids=[*METHODS, "resist", "loft", "gcn", "sage", "gat"],
)
def test_who_takes_part_does_not_notice_who_does_not(net, how):
    """For every set of workers: what the others have makes no difference; with none, none is made.

    Where no neuron has two holders, those of an absent worker keep their values, and those of the
    others are what they would be if all were there.
    """
    params, names, _, batches = nets.net(net)
    [batch] = batches(1, S, 2)
    widths = axes.widths(params, names)
    trainer = nets.trainer(net, how, S, optax.sgd(0.1))
    key = jax.random.key(3)
    start = lambda: trainer.init(params, key)
    everyone = trainer.round(start(), batch)[0].params
    who = how.draw(fold(key, "draw"), partition.Context(widths, S))
    pieces = decompose.gather(everyone, names, who, S)
    put_back = jax.jit(lambda mask: decompose.scatter(params, pieces, names, who, mask))
    for mask in map(np.array, MASKS):
        alone, report = trainer.round(start(), batch, mask)
        noisy, _ = trainer.round(start(), spoil(batch, ~mask), mask)
        assert same_bits(alone.params, noisy.params)
        assert ((report.bytes_sent > 0) == mask).all()
        assert same_bits(alone.params, params) == (not mask.any())
        if how.disjoint and how.draw not in (partition.replicated, overlapping):
            leaves = zip(
                axes.walk(put_back(mask), names), jax.tree.leaves(alone.params), strict=True
            )
            for (path, leaf, of_leaf), found in leaves:
                assert same_bits(found, leaf) or not any(of_leaf), path


LOSSES = st.lists(st.sampled_from([0.5, 1.0, 3.0, np.nan, np.inf]), min_size=S, max_size=S)


@settings(deadline=None)
@given(st.lists(st.tuples(LOSSES, st.sampled_from(MASKS)), min_size=1, max_size=4))
def test_metrics_are_means_over_those_who_took_part(rounds):
    some = np.arange(S)
    reports = [
        Report(
            loss=np.array(loss),
            bytes_sent=some,
            bytes_received=some,
            took_part=np.array(there),
            chunks={},
        )
        for loss, there in rounds
    ]
    tally = tallies.Tally()
    took = [[x for x, there in zip(*pair, strict=True) if there] for pair in rounds]
    good = [[x for x in there if np.isfinite(x)] for there in took]
    line = tallies.add_up(reports, tally, "ist, seed 0", len(reports), True)
    assert line["workers/took_part"] == len(good[-1])
    assert line["workers/missed"] == sum(S - len(there) for there in took)
    assert line["workers/rejected"] == sum(map(len, took)) - sum(map(len, good))
    assert line.get("loss/train") == (pytest.approx(np.mean(good[-1])) if good[-1] else None)


@pytest.mark.parametrize("length", [9, 10])
def test_many_rounds_in_a_row_of_which_nothing_is_left_end_the_run(length):
    report = Report(
        loss=np.full(S, np.nan),
        bytes_sent=np.arange(S),
        bytes_received=np.arange(S),
        took_part=np.ones(S, bool),
        chunks={},
    )
    tally = tallies.Tally()
    tallies.add_up([report] * (length - 1), tally, "ist, seed 0", length - 1, True)
    if length == tallies.MOST_ROUNDS_WITHOUT_UPDATE:
        with pytest.raises(InputError, match="the loss of worker 0 is nan in round 9"):
            tallies.add_up([report], tally, "ist, seed 0", length, True)
    else:
        tallies.add_up([report], tally, "ist, seed 0", length, True)
        good = report._replace(loss=np.array([np.nan, 1, 1, 1]))
        tallies.add_up([good, report], tally, "ist, seed 0", length + 2, True)
        assert tally.rounds_without_update == 1


def test_the_sums_in_a_checkpoint_keep_the_names_they_always_had():
    tally = tallies.Tally(1, 2, 3, 4, 5, 6.5)
    names = ("sent", "received", "missed", "rejected", "barren", "seconds")
    assert tally.stored() == dict(zip(names, (1, 2, 3, 4, 5, 6.5), strict=True))
    assert tallies.Tally.from_stored(tally.stored()) == tally


def final(folder):
    kept = Checkpoints(folder / "checkpoints" / "ist_0")
    return {path: leaf["digest"] for path, leaf in kept.check(kept.rounds()[0])["leaves"].items()}


DROP = {"on_worker_failure": "drop", "on_nonfinite": "drop", "checkpoint.every": 6}


def test_a_spoilt_batch_is_as_a_worker_that_is_missing_and_is_counted_apart(tmp_path):
    for faults in ("nan:2@1;nan:0@4", "drop:2@1;drop:0@4"):
        training.run(tiny(**DROP, faults=faults), tmp_path / faults[:3])
    assert final(tmp_path / "nan") == final(tmp_path / "dro")
    spoilt, missing = lines(tmp_path / "nan")[-1], lines(tmp_path / "dro")[-1]
    assert (spoilt["workers/rejected"], spoilt["workers/missed"]) == (2, 0)
    assert (missing["workers/rejected"], missing["workers/missed"]) == (0, 2)
    assert spoilt["loss/train"] == missing["loss/train"]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ("drop:2@3", r"worker 2 failed in round 3 \(config.faults\).*on_worker_failure='drop'"),
        ("nan:1@2", r"the loss of worker 1 is nan in round 2"),
    ],
)
def test_unless_told_otherwise_a_failure_ends_the_run_and_says_whose_it_is(
    tmp_path, faults, message
):
    with pytest.raises(InputError, match=message):
        training.run(tiny(faults=faults), tmp_path / "run")


def test_faults_are_replayed(tmp_path):
    changes = DROP | {"faults": "drop:30%;nan:10%;slow:1x3", "eval_every": 1}
    for name in ("one", "two"):
        training.run(tiny(**changes), tmp_path / name)
    assert final(tmp_path / "one") == final(tmp_path / "two")
    assert timeless(lines(tmp_path / "one")) == timeless(lines(tmp_path / "two"))
    assert lines(tmp_path / "one")[-1]["workers/missed"] > 0


def test_a_slow_worker_takes_its_time_and_changes_nothing_else(tmp_path):
    for name, faults in (("fast", ""), ("slow", "slow:1x40")):
        training.run(tiny(**DROP, faults=faults), tmp_path / name)
    assert final(tmp_path / "fast") == final(tmp_path / "slow")
    fast, slow = (lines(tmp_path / name)[-1]["time/train_s"] for name in ("fast", "slow"))
    assert slow > 5 * fast


class Torn(np.ndarray):
    """Examples of which one cannot be read."""

    def __getitem__(self, chosen):
        if np.ndim(chosen) and (np.asarray(chosen) == 7).any():
            raise OSError("example 7 cannot be read")
        return np.asarray(super().__getitem__(chosen))


def test_a_worker_whose_data_cannot_be_read_is_lost_for_the_round(tmp_path, monkeypatch):
    digits = data.load("digits")
    torn = digits._replace(train_x=digits.train_x.view(Torn))
    monkeypatch.setattr("ist_jax.data.load", lambda *_, **__: torn)
    with pytest.raises(InputError, match=r"worker \d failed in round \d+ \(example 7 cannot be"):
        training.run(tiny(), tmp_path / "stops")
    training.run(tiny(on_worker_failure="drop"), tmp_path / "goes on")
    assert lines(tmp_path / "goes on")[-1]["workers/missed"] > 0
