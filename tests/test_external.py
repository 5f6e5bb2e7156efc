"""Groups whose neurons are told in every round: what a worker's examples touch, and no more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import on_host, same_bits
from test_wire import program_bytes

import ist_jax
from ist_jax import axes, decompose, method, partition
from ist_jax.core.errors import InputError
from ist_jax.cost import wire
from ist_jax.data import Batches, sparse
from ist_jax.models import normalise
from ist_jax.models.xmc import XMC
from ist_jax.optimizer_state import carried, carry
from ist_jax.sharded import layout, placement
from ist_jax.tasks import many_labels

FEATURES, HIDDEN, LABELS, S, J, B = 60, 16, 11, 4, 3, 4
WIDTHS = {"features": FEATURES, "hidden0": HIDDEN, "labels": LABELS}


def examples(seed=0, n=80):
    """Examples of up to 5 features and 3 labels."""
    draw = np.random.default_rng(seed)

    def rows(width, most, values):
        counts = draw.integers(1, most + 1, n)
        starts = np.append(0, np.cumsum(counts))
        ids = np.concatenate([draw.permutation(width)[:c] for c in counts]).astype(np.int32)
        numbers = draw.normal(size=len(ids)).astype(np.float32) if values else None
        return sparse.Rows(starts, ids, numbers, width)

    return rows(FEATURES, 5, True), rows(LABELS, 3, False)


X, Y = examples()


def trainer_for(groups, slots, optimizer=None, devices=1, policy="reset", data=1, **options):
    model = XMC(WIDTHS, external=groups)
    params, names = axes.of(model.init(jax.random.key(3), X[:1], train=True))
    draw = np.random.default_rng(1)  # the labels' kernel begins at zero, which hides mistakes
    kernel = draw.normal(size=(HIDDEN, LABELS)).astype(np.float32)
    params["params"]["of_labels"] = jnp.asarray(kernel)
    cut = partition.sub_widths(partition.permutation, {"hidden0": HIDDEN}, S) | slots
    loss = many_labels.loss(normalise.subnet(model, cut), LABELS, block=4)
    trainer = ist_jax.build(
        loss,
        optimizer or optax.sgd(0.3),
        params,
        names,
        method=method.ist(),
        workers=S,
        mesh=placement.mesh(S, devices * data, data=data),
        optimizer_state=policy,
        exact=True,
        external=slots,
        **options,
    )
    return trainer, params, names


def batches_for(groups, of=None):
    plain = Batches(X, Y, workers=S, batch=B, local_steps=J, seed=5, of=of)
    if not groups:
        return plain, {}
    whole = Batches(X, Y, workers=S, batch=B, local_steps=J, seed=5)
    sampled = 2 if "labels" in groups else 0
    slots = sparse.slots(whole, X, Y, 3, sampled)
    return sparse.Touched(plain, FEATURES, LABELS, slots, sampled), slots


def train(groups, number=3, devices=1, took_part=None, **options):
    batches, slots = batches_for(groups)
    trainer, params, _ = trainer_for(groups, slots, devices=devices, **options)
    state = trainer.init(params, jax.random.key(2))
    reports = []
    for r in range(number):
        found = batches(r)
        external = found.pop("external", None)
        state, report = trainer.round(state, found, took_part, external)
        reports.append(report)
    return on_host(trainer.whole(state)), reports, slots


@pytest.mark.optimized
def test_touched_rows_give_what_all_rows_give_to_the_last_bit():
    """Rows that no example of a worker has get no gradient: leaving them out changes nothing."""
    touched, reports, slots = train(("features",))
    whole, of_all, _ = train(())
    assert slots["features"] < FEATURES
    assert same_bits(touched.params, whole.params)
    for one, other in zip(reports, of_all, strict=True):
        np.testing.assert_array_equal(one.loss, other.loss)
        assert (one.bytes_sent < other.bytes_sent).all()


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("groups", "policy"), [(("features",), "reset"), (("features", "labels"), "keep")], ids=str
)
def test_the_same_bits_on_1_2_and_4_devices(groups, policy):
    options = {"optimizer": optax.adam(0.1), "policy": policy}
    present = np.arange(S) != 2
    alone = train(groups, took_part=present, **options)[0]
    for devices in (2, 4):
        assert same_bits(alone, train(groups, devices=devices, took_part=present, **options)[0])


def test_rows_that_nobody_touches_and_labels_that_nobody_holds_stay_as_they_were():
    batches, slots = batches_for(("features", "labels"))
    trainer, params, _ = trainer_for(("features", "labels"), slots)
    state = trainer.init(params, jax.random.key(2))
    who = {g: np.asarray(ids) for g, ids in state.assignment.items()}
    found = batches(0)
    external = found.pop("external")
    state, _ = trainer.round(state, found, None, external)
    new = on_host(trainer.whole(state)).params["params"]
    for leaf, group, width in (
        ("of_features", "features", FEATURES),
        ("of_labels", "labels", LABELS),
    ):
        held = np.zeros((HIDDEN, width + 1), bool)
        for neurons, columns in zip(who["hidden0"], external[group], strict=True):
            held[np.ix_(neurons, columns)] = True
        old = np.asarray(params["params"][leaf])
        assert not held[:, :-1].all()
        assert (new[leaf][~held[:, :-1]] == old[~held[:, :-1]]).all()
        assert (new[leaf] != old).any()


def test_bytes_reported_are_bytes_gathered():
    """Empty slots do not travel: counted worker by worker, round by round."""
    batches, slots = batches_for(("features",))
    trainer, params, names = trainer_for(("features",), slots)
    state = trainer.init(params, jax.random.key(2))
    for r in range(3):
        who = {g: np.asarray(ids) for g, ids in state.assignment.items()}
        found = batches(r)
        external = found.pop("external")
        state, report = trainer.round(state, found, None, external)
        for worker in range(S):
            real = {g: ids[worker][ids[worker] < WIDTHS[g]] for g, ids in (who | external).items()}
            mine = {g: ids[None] for g, ids in real.items()}
            one = decompose.gather_one(params, names, mine, 0)
            assert report.bytes_sent[worker] == sum(x.nbytes for x in jax.tree.leaves(one))


@pytest.mark.parametrize(("devices", "data"), [(4, 1), (2, 2)])
def test_the_closed_form_is_what_the_compiled_program_moves(devices, data):
    groups = ("features", "labels")
    batches, slots = batches_for(groups)
    trainer, params, names = trainer_for(groups, slots, devices=devices, data=data)
    state = trainer.init(params, jax.random.key(1))
    who = jax.tree.map(np.asarray, dict(state.assignment))
    found = batches(0)
    external = found.pop("external")
    text = trainer.lower(state, found, None, external).compile().as_text()
    state, report = trainer.round(state, found, None, external)
    memory = carry.Memory(optax.sgd(0.3), "reset")
    spread = layout.spread_out(
        carried.describe(axes.describe(params, names), optax.sgd(0.3), memory).net,
        slots={group: ids.shape[1] for group, ids in who.items()} | slots,
        workers=S,
        devices=devices,
        disjoint=True,
        exact=True,
        external=slots,
    )
    chunks = wire.chunks(spread, who | external, state.assignment)
    assert {name: int(n) for name, n in report.chunks.items()} == chunks
    closed = wire.received(spread, chunks, steps=J, data=data, external=sum(slots.values()))
    assert closed == trainer.wire(report, J)
    assert closed == pytest.approx(program_bytes(text, chunks, J, devices, data), abs=0.5)


def test_the_second_round_compiles_nothing(compilations):
    batches, slots = batches_for(("features",))
    trainer, params, _ = trainer_for(("features",), slots)
    state = trainer.init(params, jax.random.key(0))
    for r in range(3):
        found = batches(r)
        external = found.pop("external")
        compilations()
        state, report = trainer.round(state, found, None, external)
        jax.block_until_ready(report.loss)
        assert (compilations() == 0) == (r > 0)


def test_what_cannot_be_given_is_refused():
    batches, slots = batches_for(("features",))
    with pytest.raises(InputError, match="no axis is of the external group 'labels'"):
        trainer_for(("features",), slots | {"labels": 3})
    trainer, params, _ = trainer_for(("features",), slots)
    state = trainer.init(params, jax.random.key(0))
    found = batches(0)
    external = found.pop("external")
    with pytest.raises(InputError, match="must come as int32 arrays of shapes"):
        trainer.round(state, found)
    with pytest.raises(InputError, match="must come as int32 arrays of shapes"):
        trainer.round(state, found, None, {"features": external["features"][:, :-1]})
    twice = external["features"].copy()
    twice[1, 1] = twice[1, 0]
    with pytest.raises(InputError, match="'features' gives worker 1"):
        trainer.round(state, found, None, {"features": twice})
    names = {"w": ("features", "hidden0")}
    with pytest.raises(InputError, match=r"first cut axis of leaf .*'features'.* must come before"):
        ist_jax.build(
            lambda net, batch, key: 0.0,
            optax.sgd(0.1),
            {"w": jnp.zeros((8, 8))},
            names,
            method=method.ist(),
            workers=2,
            external={"features": 4},
        )
