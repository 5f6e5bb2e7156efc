"""An outer optimizer steps on the merged update, alike on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, on_host, regression_batches, same_bits
from optax import contrib
from training import trainer_of

import ist_jax
from ist_jax import compress, method, named, partition
from ist_jax.checkpoint import Checkpoints
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sharded import placement

DIMS, S, J = (6, 18, 13, 3), 4, 2  # 18 and 13 neurons: not all workers hold as many
WIDTHS = {"h0": DIMS[1], "h1": DIMS[2]}
PARAMS, NAMES = mlp_tree(DIMS)
BATCHES = regression_batches(4, S, J, 8, 6, 3)
ABSENT = np.array([True, False, True, True])
EVERYONE = [np.ones(S, bool)] * 4
NOT_ALL = [np.ones(S, bool), ABSENT, np.zeros(S, bool), ABSENT[::-1]]
NESTEROV = optax.sgd(0.7, 0.6, nesterov=True)


def half(key, context):
    """A third of the neurons to each, drawn apart: some have many holders, some have none."""
    keys = jax.random.split(fold(key, context.number), context.workers)
    third = lambda n: [jnp.sort(jax.random.permutation(k, n)[: n // 3]) for k in keys]
    return {group: jnp.stack(third(n)) for group, n in context.widths.items()}


HOW = {
    "ist": method.ist(),
    "local_sgd": method.local_sgd(),
    "overlapping": method.Method("overlapping", half, disjoint=False),
}


def gradient_of(net, x, y):
    """Of the mean square error of a ReLU net, in NumPy."""
    inputs = [x]
    for layer in range(len(net) - 1):
        inputs.append(np.maximum(inputs[-1] @ net[f"w{layer}"], 0))
    error = 2 * (inputs[-1] @ net[f"w{len(net) - 1}"] - y) / y.size
    found = {}
    for layer in reversed(range(len(net))):
        found[f"w{layer}"] = inputs[layer].T @ error
        error = (error @ net[f"w{layer}"].T) * (inputs[layer] > 0)
    return found


class Nesterov:
    """By hand, with a trace for each entry; entries that are not to move do not."""

    def __init__(self, net, lr=1.0, momentum=0.0):
        self.lr, self.momentum = lr, momentum
        self.trace = {name: np.zeros_like(leaf) for name, leaf in net.items()}

    def step(self, net, gradient, trained):
        new = {}
        for name, old in net.items():
            trace = gradient[name] + self.momentum * self.trace[name]
            stepped = old - self.lr * (gradient[name] + self.momentum * trace)
            new[name] = np.where(trained[name], stepped, old)
            self.trace[name] = np.where(trained[name], trace, self.trace[name])
        return new


def by_hand(how, present, inner):
    """All rounds in NumPy, float64; the draws are the library's."""
    net = {name: np.asarray(leaf, np.float64) for name, leaf in PARAMS.items()}
    server, workers, all_of_it = Nesterov(net, 0.7, 0.6), {}, dict.fromkeys(net, True)
    for number, (batch, here) in enumerate(zip(BATCHES, present, strict=True)):
        context = partition.Context(WIDTHS, S, number)
        drawn = how.draw(fold(jax.random.key(3), "draw"), context)
        total = {name: np.zeros_like(leaf) for name, leaf in net.items()}
        count = {name: np.zeros_like(leaf) for name, leaf in net.items()}
        for worker in np.flatnonzero(here):
            ids = {g: np.asarray(of[worker]) for g, of in drawn.items()}
            held = {g: mine[mine < WIDTHS[g]] for g, mine in ids.items()}
            on_axis = lambda group, n, held=held: held.get(group, np.arange(n))
            places = {n: list(map(on_axis, NAMES[n], net[n].shape)) for n in net}
            mine = {name: leaf[np.ix_(*places[name])] for name, leaf in net.items()}
            optimizer = workers.setdefault(worker, inner(mine)) if how.memory else inner(mine)
            for step in range(J):
                x, y = (np.asarray(batch[k][worker, step], np.float64) for k in "xy")
                mine = optimizer.step(mine, gradient_of(mine, x, y), all_of_it)
            for name in net:
                total[name][np.ix_(*places[name])] += mine[name]
                count[name][np.ix_(*places[name])] += 1
        trained = {name: count[name] > 0 for name in net}
        update = {n: net[n] - total[n] / np.maximum(count[n], 1) for n in net}
        net = server.step(net, update, trained)
    return net, server.trace


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("present", [EVERYONE, NOT_ALL], ids=["all", "some"])
@pytest.mark.parametrize("kind", HOW)
def test_it_is_nesterov_on_the_merged_update(kind, present, devices):
    """Uneven widths, absent workers, a round without any, neurons that nobody holds."""
    how = method.with_server(HOW[kind], NESTEROV)
    expected, trace = by_hand(how, present, functools.partial(Nesterov, lr=0.1))
    trainer = trainer_of(PARAMS, NAMES, how, S, mesh=placement.mesh(S, devices))
    state = trainer.init(PARAMS, jax.random.key(3))
    for batch, here in zip(BATCHES, present, strict=True):
        state, _ = trainer.round(state, batch, here)
    found = trainer.whole(state)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found.params[name], leaf, atol=2e-6)
        np.testing.assert_allclose(found.server[0].trace[name], trace[name], atol=2e-6)
        assert np.abs(trace[name]).max() > 1e-3


@pytest.mark.parametrize("devices", [1, 4])
def test_diloco_by_hand(devices):
    """Every worker's momentum stays its own, and Nesterov's is on what they have become."""
    inner, how = functools.partial(Nesterov, lr=0.1, momentum=0.5), method.diloco(0.7, 0.6)
    expected, trace = by_hand(how, NOT_ALL, inner)
    optimizer = optax.sgd(0.1, 0.5, nesterov=True)
    trainer = trainer_of(PARAMS, NAMES, how, S, optimizer, mesh=placement.mesh(S, devices))
    state = trainer.init(PARAMS, jax.random.key(3))
    for batch, here in zip(BATCHES, NOT_ALL, strict=True):
        state, _ = trainer.round(state, batch, here)
    found = trainer.whole(state)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found.params[name], leaf, atol=2e-6)
        np.testing.assert_allclose(found.server[0].trace[name], trace[name], atol=2e-6)
        assert found.opt_state[0].trace[name].shape == (S, *leaf.shape)


CASES = {  # net, method, outer optimizer, and options
    "ist": ("two hidden", method.ist(), NESTEROV, {}),
    "ist kept": (
        "one hidden",
        method.ist(),
        optax.adam(0.1),
        {"optimizer": optax.adam(0.01), "optimizer_state": "keep"},
    ),
    "ist in codes": ("two hidden", method.ist(), NESTEROV, {"code": compress.rounded(8)}),
    "resist": ("blocks", method.resist(2), optax.yogi(0.1), {"exact": True}),
    "clipped": (
        "cnn",
        method.local_sgd(),
        optax.chain(optax.clip_by_global_norm(0.01), NESTEROV),
        {"exact": True},
    ),
    "diloco": (
        "one hidden",
        method.diloco(),
        None,
        {"exact": True, "optimizer": optax.adamw(0.01), "code": compress.named("4bit+feedback")},
    ),
}


@pytest.mark.optimized
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_on_any_number_of_devices_saved_and_resumed_on_another(case, tmp_path):
    net, how, server, options = CASES[case]
    params, _, _, batches = nets.net(net)
    how = how if server is None else method.with_server(how, server)
    options = {"optimizer": optax.sgd(0.05), **options}
    straight, kept, given = None, Checkpoints(tmp_path), batches(4, S, J)
    for devices, then in ((1, 1), (2, 4), (4, 2)):
        make = lambda count: nets.trainer(net, how, S, mesh=placement.mesh(S, count), **options)
        trainer = make(devices)
        state = trainer.init(params, jax.random.key(3))
        for batch, here in zip(given[:2], (None, ABSENT), strict=True):
            state, _ = trainer.round(state, batch, here)
        kept.save(trainer.unsharded(state), {}, wait=True)
        kept.close()
        trainer = make(then)
        state = trainer.resume(kept.restore(kept.check(2), trainer.shapes))
        for batch in given[2:]:
            state, _ = trainer.round(state, batch)
        found = on_host(trainer.whole(state))
        moments = [leaf for leaf in jax.tree.leaves(found.server) if np.ndim(leaf)]
        assert moments
        assert all(np.asarray(leaf).any() for leaf in moments)
        straight = straight or found
        assert same_bits(found, straight)
        kept.delete()


@pytest.mark.parametrize("kind", HOW)
def test_with_rate_one_and_no_momentum_it_is_the_method_without(kind):
    found = []
    for server in (None, method.server("sgd", 1.0)):
        trainer = trainer_of(PARAMS, NAMES, HOW[kind]._replace(server=server), S)
        state = trainer.init(PARAMS, jax.random.key(3))
        for batch, here in zip(BATCHES, NOT_ALL, strict=True):
            state, _ = trainer.round(state, batch, here)
        found.append(trainer.whole(state).params)
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 4])
def test_counts_of_steps_go_on_where_nobody_trains(devices):
    """With Adam: neither a value nor a moment moves in a round without workers, but the count."""
    how = method.with_server(method.ist(), optax.adam(0.1))
    trainer = trainer_of(PARAMS, NAMES, how, S, mesh=placement.mesh(S, devices))
    state, _ = trainer.round(trainer.init(PARAMS, jax.random.key(3)), BATCHES[0])
    before = trainer.whole(state)
    state, _ = trainer.round(state, BATCHES[1], np.zeros(S, bool))
    after = trainer.whole(state)
    assert same_bits(after.params, before.params)
    assert same_bits(after.server[0].mu, before.server[0].mu)
    assert (int(before.server[0].count), int(after.server[0].count)) == (1, 2)


def test_moments_of_rows_that_travel_count_and_others_cost_nothing():
    """F for each moment of a leaf with one cut axis; nothing for the inner layer, or a mean."""
    moved = lambda how: trainer_of(PARAMS, NAMES, how, S).moved.a_round.sum()
    adam = optax.adam(0.1)
    rows = 4 * (DIMS[0] * DIMS[1] + DIMS[2] * DIMS[3])
    ist = method.ist()
    assert moved(method.with_server(ist, adam)) - moved(ist) == 2 * rows
    for how in (HOW["overlapping"], HOW["local_sgd"]):
        assert moved(method.with_server(how, adam)) == moved(how)
    assert moved(method.diloco()) == moved(method.local_sgd())


def test_states_of_workers_own_begin_anew_with_other_workers(tmp_path):
    make = lambda workers: trainer_of(PARAMS, NAMES, method.diloco(), workers, optax.adam(0.01))
    trainer = make(S)
    state, _ = trainer.round(trainer.init(PARAMS, jax.random.key(3)), BATCHES[0])
    kept = Checkpoints(tmp_path)
    kept.save(trainer.unsharded(state), {}, wait=True)
    before = trainer.whole(state)
    for workers in (2, S):
        other = make(workers)
        for saved in (kept.restore(kept.check(1), other.shapes), trainer.unsharded(state)):
            found = other.whole(other.resume(saved))
            assert same_bits(found.params, before.params)
            assert same_bits(found.server, before.server)
            if workers == S:
                assert same_bits(found.opt_state, before.opt_state)
            else:
                assert found.opt_state[0].mu["w0"].shape == (2, *PARAMS["w0"].shape)
                assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(found.opt_state))
            first = jax.tree.map(lambda leaf, workers=workers: leaf[:workers], BATCHES[1])
            other.round(other.resume(saved), first)
    kept.close()


def test_one_worker_with_an_outer_step_is_snoo():
    """The worker's own optimizer goes on, so that with rate 1 it is ordinary training."""
    adam, found = optax.adam(0.01), []
    one = [jax.tree.map(lambda leaf: leaf[:1], batch) for batch in BATCHES]
    for how in (method.single(), method.snoo(1.0, 0.0), method.snoo(0.7, 0.9)):
        trainer = trainer_of(PARAMS, NAMES, how, 1, adam)
        state = trainer.init(PARAMS, jax.random.key(3))
        for batch in one:
            state, _ = trainer.round(state, batch)
        found.append(trainer.whole(state).params["w0"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-3


FACTORED = optax.scale_by_factored_rms(min_dim_size_to_factor=4)
BEYOND = "does not work entry by entry: what it does to"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)), BEYOND),
        (optax.lamb(0.1), BEYOND),
        (contrib.muon(0.1), BEYOND),
        (optax.adafactor(0.1), "has no entry for each entry of"),
        (optax.chain(FACTORED, optax.scale(-0.1)), "has no entry for each entry of"),
        (optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(1.0)), BEYOND),
        (optax.lbfgs(), "the outer optimizer cannot take a step"),
    ],
    ids=["clip", "lamb", "muon", "adafactor", "factored", "noise", "lbfgs"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_outer_optimizer_that_looks_at_other_neurons_is_refused(server, said):
    with pytest.raises(InputError, match=said):
        trainer_of(PARAMS, NAMES, method.with_server(method.ist(), server), S)


def test_where_nothing_is_cut_any_outer_optimizer_will_do():
    for server in (optax.lamb(0.1), contrib.muon(0.1), optax.adafactor(0.1)):
        how = method.with_server(method.local_sgd(), server)
        found = []
        for devices in (1, 4):
            options = {"mesh": placement.mesh(S, devices), "exact": True}
            trainer = trainer_of(PARAMS, NAMES, how, S, **options)
            state = trainer.init(PARAMS, jax.random.key(3))
            for batch in BATCHES[:2]:
                state, _ = trainer.round(state, batch)
            found.append(on_host(trainer.whole(state)))
        for one, other in zip(*(jax.tree.leaves(of.params) for of in found), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_does_not_go_together_is_said():
    with_server = functools.partial(method.with_server, server=NESTEROV)
    for how, said in (
        (with_server(method.data_parallel()), "data_parallel does in every step"),
        (with_server(method.ensemble()), "ensemble never does"),
        (with_server(method.single()), "single never does"),
    ):
        with pytest.raises(InputError, match=f"an outer optimizer steps where .* {said}"):
            trainer_of(PARAMS, NAMES, how, how.workers or S)
    own = functools.partial(trainer_of, PARAMS, NAMES, optimizer_state="own")
    with pytest.raises(InputError, match=r"'own': a worker holds other neurons of .*w0"):
        own(method.ist(), S)
    with pytest.raises(InputError, match="data_parallel does in every step"):
        own(method.data_parallel(), S)
    with pytest.raises(InputError, match="single never does"):
        own(method.single(), 1)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("diloco", {"lr": 0.0}, "a learning rate above 0, found 0.0"),
        ("fedadam", {"lr": float("inf")}, "a learning rate above 0, found inf"),
        ("snoo", {"momentum": 1.0}, "a momentum from 0 to below 1, found 1.0"),
        ("ist", {"server": "nesterov", "server_momentum": -0.1}, "from 0 to below 1, found -0.1"),
        (
            "ist",
            {"server": "nestrov"},
            "unknown outer optimizer 'nestrov'; did you mean 'nesterov'",
        ),
        ("data_parallel", {"server": "sgd"}, "'data_parallel' has no option 'server'"),
    ],
)
def test_an_outer_optimizer_by_name(name, options, said):
    with pytest.raises(InputError, match=said):
        named.find(name, **options)


def test_every_method_by_name_trains():
    served = {"server": "yogi", "server_lr": 0.1, "server_momentum": 0.9}
    ones = [("ist", served), ("local_sgd", served), ("loft", served)]
    ones += [(name, {}) for name in ("diloco", "fedavgm", "fedadam", "fedyogi", "snoo")]
    for name, options in ones:
        how = named.find(name, **options)
        assert how.server is not None
        workers = how.workers or S
        trainer = ist_jax.build(
            mlp_loss, optax.sgd(0.1), PARAMS, NAMES, method=how, workers=workers
        )
        batch = jax.tree.map(lambda leaf, workers=workers: leaf[:workers], BATCHES[0])
        state, report = trainer.round(trainer.init(PARAMS, jax.random.key(0)), batch)
        assert np.isfinite(report.loss).all()
        assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.server))
