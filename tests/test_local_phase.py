"""No worker hears of another between exchanges: the program of the round itself is looked at.

Every loop around the J local steps counts as the local phase, so that what is done for each worker
before its first step and after its last one counts too.
"""

from unittest import mock

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
import test_external
from jax import lax
from jax.sharding import PartitionSpec

from ist_jax import compress, local, method
from ist_jax.cost.program import _inner
from ist_jax.sharded import placement
from ist_jax.sharded.leaf_layout import DATA, WORKER

J = 7  # no other loop of these programs is as long
LOOPS = ("scan", "while")


def equations(jaxpr):
    """Every equation of a program, and of all that is called and repeated in it."""
    for equation in jaxpr.eqns:
        yield equation
        yield from within(equation)


def within(equation):
    for sub in _inner(equation.params):
        yield from equations(sub)


def talk(found, axis):
    """Names of the equations in which devices along an axis exchange something.

    Whatever names the axis is one of them, also what a later JAX may call otherwise; that a device
    asks for its own number is none.
    """
    named = [(e.primitive.name, e.params.get("axes"), e.params.get("axis_name")) for e in found]
    of_axis = {name for name, *axes in named if any(axis in (given or ()) for given in axes)}
    return of_axis - {"axis_index"}


def local_phases(jaxpr):
    """The outermost loops around the J local steps."""
    for equation in jaxpr.eqns:
        of_steps = (e.params.get("length") == J for e in (equation, *within(equation)))
        if any(of_steps) and equation.primitive.name in LOOPS:
            yield equation
        else:
            for sub in _inner(equation.params):
                yield from local_phases(sub)


def looked_at(trainer, params, *arguments):
    """Who talks along an axis, ``(axis) -> names``: in a round's local phase, and in all of it."""
    state = trainer.init(params, jax.random.key(0))
    with mock.patch.object(jax.stages.Traced, "lower", lambda traced: traced):
        whole = trainer.lower(state, *arguments).jaxpr.jaxpr
    (on_a_device,) = (e for e in equations(whole) if e.primitive.name == "shard_map")
    (body,) = _inner(on_a_device.params)
    (phase,) = local_phases(body)
    return lambda axis: (talk(within(phase), axis), talk(equations(body), axis))


def trained(how, net, *, data=1, took_part=None, **options):
    """The same, of a method on a net: 4 workers on 2 devices, or groups of them."""
    mesh = placement.mesh(4, 2 * data, data=data)
    trainer = nets.trainer(net, how, 4, optax.adam(0.1), mesh=mesh, **options)
    params, _, _, batches = nets.net(net)
    return looked_at(trainer, params, batches(1, 4, J)[0], took_part)


@pytest.mark.parametrize(
    ("how", "net", "options"),
    [
        (method.ist(), "small", {}),
        (method.ist(), "small", {"on_nonfinite": "drop"}),
        (method.ist(), "small", {"optimizer_state": "keep", "took_part": np.arange(4) != 1}),
        (method.ist(), "small", {"code": compress.rounded(4), "on_nonfinite": "drop"}),
        (method.ist(), "recurrent", {}),
        (method.resist(2), "blocks", {}),
        (method.resist(2), "blocks", {"on_nonfinite": "drop", "optimizer_state": "keep"}),
        (method.loft(), "filters", {"exact": True}),
        (method.local_sgd(), "recurrent", {"exact": True}),
        (method.local_sgd(), "small", {"on_nonfinite": "drop", "code": compress.largest(0.1)}),
        (method.ensemble(), "small", {}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_no_worker_hears_of_another_while_it_trains(how, net, options):
    in_phase, in_round = trained(how, net, **options)(WORKER)
    assert in_round, "this is the program that exchanges"
    assert not in_phase


@pytest.mark.parametrize("groups", [("features",), ("features", "labels")], ids=str)
def test_no_worker_hears_of_another_while_it_trains_neurons_that_are_given(groups):
    plain, slots = test_external.batches_for(groups)
    trainer, params, _ = test_external.trainer_for(groups, slots, devices=2, on_nonfinite="drop")
    batches = {name: leaf for name, leaf in plain(0).items() if name != "given"}
    longer = jax.tree.map(lambda leaf: np.repeat(leaf[:, :1], J, axis=1), batches)
    in_phase, in_round = looked_at(trainer, params, longer, None, plain(0)["external"])(WORKER)
    assert in_round
    assert not in_phase


@pytest.mark.parametrize("options", [{}, {"on_nonfinite": "drop"}, {"data": 2}], ids=str)
def test_data_parallel_training_is_seen_to_talk_in_every_step(options):
    """The tests above can fail: where workers are meant to talk while they train, it is found."""
    found = trained(method.data_parallel(), "small", **options)
    assert "psum" in found(WORKER)[0]


@pytest.mark.parametrize("how", [method.ist(), method.local_sgd()], ids=lambda m: m.name)
def test_devices_that_share_a_worker_talk_and_workers_do_not(how):
    found = trained(how, "small", data=2)
    assert "psum" in found(DATA)[0]
    assert not found(WORKER)[0]


BROKEN = {
    "every step": (optax, "apply_updates"),
    "the gradient": (placement, "alone"),
    "after the last step": (local, "train"),
}


@pytest.mark.parametrize("place", BROKEN)
@pytest.mark.parametrize("how", [method.ist(), method.local_sgd()], ids=lambda m: m.name)
def test_a_sum_over_workers_in_the_real_local_phase_is_found(monkeypatch, how, place):
    right = getattr(*BROKEN[place])

    def summed(tree):
        try:
            return jax.tree.map(lambda leaf: lax.psum(leaf, WORKER), tree)
        except NameError:  # a trial of the optimizer, where there are no workers
            return tree

    def broken(*arguments):
        found = right(*arguments)
        return (lambda *inner: summed(found(*inner))) if callable(found) else summed(found)

    monkeypatch.setattr(*BROKEN[place], broken)
    assert trained(how, "small")(WORKER)[0] == {"psum"}


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(
    "move",
    [
        lambda x: lax.psum(x, WORKER),
        lambda x: lax.pmean(x, (WORKER,)),
        lambda x: lax.pmax(x, WORKER),
        lambda x: lax.pmin(x, WORKER),
        lambda x: lax.all_gather(x, WORKER),
        lambda x: lax.all_to_all(x, WORKER, 0, 0, tiled=True),
        lambda x: lax.ppermute(x, WORKER, [(0, 1)]),
        lambda x: lax.psum_scatter(x, WORKER, tiled=True),
    ],
)
def test_whatever_moves_between_workers_is_found_and_a_number_of_ones_own_is_not(move, checked):
    def found(function):
        spread = jax.shard_map(
            lambda x: lax.map(lambda row: jnp.sum(function(row)), x)[:, None],
            mesh=placement.mesh(4, 2),
            in_specs=PartitionSpec(WORKER),
            out_specs=PartitionSpec(WORKER),
            check_vma=checked,
        )
        return talk(equations(jax.make_jaxpr(spread)(jnp.ones((4, 4))).jaxpr), WORKER)

    assert found(move)
    assert not found(lambda x: x + lax.axis_index(WORKER))
