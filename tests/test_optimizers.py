"""Every optimizer of optax and optax.contrib: carried exactly, or refused.

*Exactly* is what is written down here: every worker runs the bare optimizer for J steps on its
subnet, in a plain loop; then the subnets, and what outlives the round of the optimizer's state, are
put together. Which that is, is said here by a table of state types and by the ends of paths, and
not by the library's rule.
"""

import functools
import inspect
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import same_bits
from optax import contrib

import ist_jax
from ist_jax import axes, method
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.optimizer_state import carry, checks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

S, J, B, ROUNDS = 2, 4, 8, 3
KEY = jax.random.key(3)
SCHEDULE = optax.linear_schedule(0.1, 0.01, 9)
SOME = {"a": True, "b": False, "s": True}
HALF = lambda tree: jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "b", tree)
ADAM = optax.adam(0.01)


def net():
    draw = np.random.default_rng(0)
    shapes = {"a": (3, 8), "b": (8, 2), "s": (2,)}
    params = {k: jnp.asarray(draw.normal(size=n) / 2, jnp.float32) for k, n in shapes.items()}
    return params, {"a": (None, "h"), "b": ("h", None), "s": (None,)}


def loss(net, batch, key):
    return jnp.mean((jnp.tanh(batch["x"] @ net["a"]) @ net["b"] + net["s"] - batch["y"]) ** 2)


def batches(number):
    x = np.random.default_rng(number).normal(size=(S, J, B, 3)).astype(np.float32)
    return {"x": x, "y": np.stack([x.sum(-1), x[..., 0]], -1)}


# How each optimizer is made; those that are not here are made with the learning rate alone.
RATE = 0.05
MAKE = {
    "adaptive_grad_clip": lambda: optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(RATE)),
    "add_decayed_weights": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE)),
    "add_noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(1)), optax.sgd(RATE)),
    "apply_every": lambda: optax.chain(optax.apply_every(2), optax.sgd(RATE)),
    "apply_if_finite": lambda: optax.apply_if_finite(ADAM, 3),
    "chain": lambda: optax.chain(optax.clip(1.0), optax.trace(0.9), optax.scale(-RATE)),
    "clip": lambda: optax.chain(optax.clip(0.1), optax.sgd(RATE)),
    "clip_by_block_rms": lambda: optax.chain(optax.clip_by_block_rms(0.1), optax.sgd(RATE)),
    "clip_by_global_norm": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(RATE)),
    "conditionally_mask": lambda: optax.conditionally_mask(ADAM, lambda step, **_: step < 6),
    "conditionally_transform": lambda: optax.conditionally_transform(
        ADAM, lambda step, **_: step < 6
    ),
    "ema": lambda: optax.chain(optax.ema(0.9), optax.scale(-RATE)),
    "flatten": lambda: optax.flatten(ADAM),
    "freeze": lambda: optax.chain(optax.sgd(RATE), optax.freeze({"freeze": SOME})),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(SCHEDULE),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.adam)(SCHEDULE),
    "keep_params_nonnegative": lambda: optax.chain(
        optax.sgd(RATE), optax.keep_params_nonnegative()
    ),
    "lbfgs": lambda: optax.lbfgs(RATE),
    "lookahead": lambda: optax.lookahead(ADAM, 2, 0.5),
    "masked": lambda: optax.chain(optax.masked(optax.trace(0.9), HALF), optax.scale(-RATE)),
    "measure_with_ema": lambda: optax.chain(
        optax.measure_with_ema(optax.tree.norm, 0.9), optax.sgd(RATE)
    ),
    "monitor": lambda: optax.chain(
        optax.monitor({"norm": optax.measure_with_ema(optax.tree.norm, 0.9)}), optax.sgd(RATE)
    ),
    "multi_transform": lambda: optax.multi_transform(
        {True: ADAM, False: optax.sgd(RATE, momentum=0.9)}, HALF
    ),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(1.0)), ("adam", ADAM)),
    "partition": lambda: optax.partition({True: ADAM, False: optax.sgd(SCHEDULE, 0.9)}, HALF),
    "polyak_sgd": lambda: optax.polyak_sgd(RATE),
    "scale": lambda: optax.scale(-RATE),
    "scale_by_backtracking_linesearch": lambda: optax.chain(
        optax.sgd(RATE), optax.scale_by_backtracking_linesearch(5)
    ),
    "scale_by_learning_rate": lambda: optax.scale_by_learning_rate(SCHEDULE),
    "scale_by_schedule": lambda: optax.scale_by_schedule(lambda count: -SCHEDULE(count)),
    "scale_by_zoom_linesearch": lambda: optax.chain(
        optax.sgd(RATE), optax.scale_by_zoom_linesearch(5)
    ),
    "selective_transform": lambda: optax.selective_transform(
        ADAM, freeze_mask={"selective_transform": SOME}
    ),
    "snapshot": lambda: optax.chain(optax.snapshot("norm", optax.tree.norm), optax.sgd(RATE)),
    "stateless": lambda: optax.stateless(
        lambda updates, params: jax.tree.map(lambda u: -RATE * u, updates)
    ),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(lambda u, p: -RATE * u),
    "trace": lambda: optax.chain(optax.trace(0.9), optax.scale(-RATE)),
    "with_extra_args_support": lambda: optax.with_extra_args_support(ADAM),
    "noisy_sgd": lambda: optax.noisy_sgd(RATE, eta=0.1, key=jax.random.key(1)),
    "MultiSteps": lambda: optax.MultiSteps(ADAM, 2).gradient_transformation(),
    "contrib.differentially_private_aggregate": lambda: optax.chain(
        contrib.differentially_private_aggregate(1.0, 0.1, jax.random.key(1)), optax.sgd(RATE)
    ),
    "contrib.dpsgd": lambda: contrib.dpsgd(RATE, 1.0, 0.1, seed=1),
    "contrib.mechanize": lambda: contrib.mechanize(ADAM),
    "contrib.reduce_on_plateau": lambda: optax.chain(
        ADAM, contrib.reduce_on_plateau(factor=0.5, patience=1)
    ),
    "contrib.sam": lambda: contrib.sam(optax.sgd(RATE), optax.sgd(0.01), sync_period=2),
    "contrib.schedule_free": lambda: contrib.schedule_free(optax.sgd(RATE), RATE),
    "contrib.galore": lambda: contrib.galore(RATE, rank=2),
    "contrib.hutchinson_estimator_diag_hessian": lambda: optax.chain(
        contrib.hutchinson_estimator_diag_hessian(), optax.sgd(RATE)
    ),
    "contrib.scale_by_madgrad": lambda: contrib.scale_by_madgrad(RATE),
    "contrib.split_real_and_imaginary": lambda: contrib.split_real_and_imaginary(ADAM),
}


def made(name):
    """An optimizer that moves the net, by its name."""
    if name in MAKE:
        return MAKE[name]()
    function = getattr(contrib if name.startswith("contrib.") else optax, name.split(".")[-1])
    if "learning_rate" in inspect.signature(function).parameters:
        return function(learning_rate=RATE)
    return optax.chain(function(), optax.scale(-RATE))


# Functions that do not say what they return, and make no optimizer.
NO_OPTIMIZERS = {
    "matrix_inverse_pth_root",
    "schedule_free_eval_params",
    "sigmoid_binary_cross_entropy",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
}


def names():
    """All of optax and contrib that makes a gradient transformation."""
    found = ["MultiSteps"]
    for module, prefix in ((optax, ""), (contrib, "contrib.")):
        for name in vars(module):
            function = getattr(module, name)
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            gives = str(inspect.signature(function).return_annotation)
            if "GradientTransformation" in gives or (
                "empty" in gives and name not in NO_OPTIMIZERS
            ):
                found.append(prefix + name)
    return sorted(found)


def bundled(names):
    """Many optimizers as one, each with a net of its own: a program for all of them."""
    if len(names) == 1:
        return made(names[0])
    return optax.partition({name: made(name) for name in names}, {name: name for name in names})


def nets_of(names):
    return {name: net()[0] for name in names}, {name: net()[1] for name in names}


def total_loss(nets, batch, key):
    return sum(loss(one, batch, key) for one in nets.values())


def is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def groups_of(path, leaf):
    """The groups of a leaf's axes: a parameter's, if its path ends as that one's, and it fits."""
    params, names = net()
    for name, parameter in params.items():
        if path.endswith(f"['{name}']") and leaf.shape == parameter.shape:
            return names[name]
    return (None,) * leaf.ndim


def where(path, leaf, who, worker):
    """Where a worker's part of a leaf is."""
    groups = groups_of(jax.tree_util.keystr(path), leaf)
    cut = [g in who for g in groups]
    return any(cut), np.ix_(
        *(
            who[g][worker] if is_cut else np.arange(n)
            for g, n, is_cut in zip(groups, leaf.shape, cut, strict=True)
        )
    )


def take(tree, who, worker):
    """A worker's part of a tree of arrays."""

    def one(path, leaf):
        if is_key(leaf) or leaf.ndim == 0:
            return leaf
        return jnp.asarray(np.asarray(leaf)[where(path, leaf, who, worker)[1]])

    return jax.tree_util.tree_map_with_path(one, tree)


def merge(tree, parts, who):
    """The tree with the workers' parts in it: each neuron has one holder, all else all workers."""

    def one(path, leaf, *pieces):
        if is_key(leaf) or not where(path, leaf, who, 0)[0]:
            floats = not is_key(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
            mean = lambda: jnp.asarray(np.mean(pieces, axis=0, dtype=np.float64), leaf.dtype)
            return mean() if floats else pieces[0]
        out = np.array(leaf)
        for worker, piece in enumerate(pieces):
            out[where(path, leaf, who, worker)[1]] = piece
        return jnp.asarray(out)

    return jax.tree_util.tree_map_with_path(one, tree, *parts)


# Types of states that have no moments: what ``reset`` carries.
CARRIED = {
    "AddNoiseState",
    "ApplyIfFiniteState",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "InjectStatefulHyperparamsState",
    "ReduceLROnPlateauState",
    "ScaleByScheduleState",
    "WrappedScheduleState",
}


def owner_of_each(tree, owner=""):
    """The type of the state that each leaf stands in."""
    if jax.tree_util.all_leaves([tree]):
        return [owner]
    children = jax.tree.leaves(tree, is_leaf=lambda child: child is not tree)
    owner = type(tree).__name__ if hasattr(tree, "_fields") else owner
    return [name for child in children for name in owner_of_each(child, owner)]


def begin(optimizer, policy, mine, state, key):
    """The state with which a worker begins a round."""
    fresh = jax.tree.leaves(optimizer.init(mine))
    out = []
    owners = zip(fresh, jax.tree.leaves(state), owner_of_each(state), strict=True)
    for n, (new, old, owner) in enumerate(owners):
        if is_key(new):
            out.append(jax.random.fold_in(old, jax.random.bits(fold(key, "optimizer", n))))
        else:
            out.append(old if policy == "keep" or owner in CARRIED else new)
    return jax.tree.unflatten(jax.tree.structure(state), out)


def by_hand(optimizer, params, policy, assignments):
    """The net after some rounds, in plain loops over the bare optimizer."""

    @jax.jit
    def train(params, state, batches):
        def step(carry, batch):
            params, state = carry
            value, gradient = jax.value_and_grad(total_loss)(params, batch, None)
            if told:
                value_fn = lambda params: total_loss(params, batch, None)
                more = {"value": value, "grad": gradient, "value_fn": value_fn}
                updates, state = optimizer.update(gradient, state, params, **more)
            else:
                updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), batches)[0]

    told = "extra_args" in inspect.signature(optimizer.update).parameters
    state = optimizer.init(params)
    for number, who in enumerate(assignments):
        of_round, key = batches(number), fold(KEY, "train", number)
        done = []
        for worker in range(S):
            mine = take(params, who, worker)
            start = begin(optimizer, policy, mine, take(state, who, worker), fold(key, worker))
            done.append(train(mine, start, jax.tree.map(lambda leaf, w=worker: leaf[w], of_round)))
        nets, states = zip(*done, strict=True)
        params, state = merge(params, nets, who), merge(state, states, who)
    return params


METHODS = {"ist": method.ist, "local_sgd": method.local_sgd}
ESTIMATE = "would lose what this optimizer learns"
SHAPE = "cannot travel with the neurons"
STEP = "cannot take a step"
BEGIN = "cannot begin on these parameters"
UNTOLD = "cannot be told which numbers of this optimizer are moments"

# Why an optimizer is refused, by the policy, and by the method where that matters.
REFUSED = {
    "adafactor": {"keep ist": SHAPE},
    "contrib.dadapt_adamw": {"reset": ESTIMATE},
    "contrib.differentially_private_aggregate": {"reset": STEP, "keep": STEP},
    "contrib.dog": {"reset": ESTIMATE},
    "contrib.dowg": {"reset": ESTIMATE},
    "contrib.dpsgd": {"reset": STEP, "keep": STEP},
    "contrib.galore": {"keep ist": SHAPE},
    "contrib.hutchinson_estimator_diag_hessian": {"reset": STEP, "keep": STEP},
    "contrib.mechanize": {"reset": ESTIMATE},
    "contrib.momo": {"reset": ESTIMATE},
    "contrib.momo_adam": {"reset": ESTIMATE},
    "contrib.prodigy": {"reset": ESTIMATE},
    "contrib.scale_by_galore": {"keep ist": SHAPE},
    "contrib.scale_by_muon": {"reset": STEP, "keep": STEP},  # alone it cannot take vectors
    "contrib.schedule_free": {"reset": ESTIMATE},
    "contrib.schedule_free_adamw": {"reset": ESTIMATE},
    "contrib.schedule_free_sgd": {"reset": ESTIMATE},
    "contrib.sophia": {"reset": STEP, "keep": STEP},  # it wants more than the loss
    "flatten": {"reset": UNTOLD, "keep ist": SHAPE},
    "lbfgs": {"reset": UNTOLD, "keep ist": SHAPE},
    "lookahead": {"reset": STEP, "keep": STEP},  # it wants parameters of a type of its own
    "measure_with_ema": {"reset": "gives updates of", "keep": "gives updates of"},  # for monitor
    "monitor": {"reset": "gives a state of", "keep": "gives a state of"},
    "novograd": {"keep ist": SHAPE},
    "optimistic_adam": {"reset": ESTIMATE},
    "optimistic_adam_v2": {"reset": ESTIMATE},
    "optimistic_gradient_descent": {"reset": ESTIMATE},
    "scale_by_backtracking_linesearch": {"reset": UNTOLD, "keep ist": SHAPE},
    "scale_by_distance_over_gradients": {"reset": ESTIMATE, "keep ist": SHAPE},
    "scale_by_factored_rms": {"keep ist": SHAPE},
    "scale_by_lbfgs": {"reset": ESTIMATE, "keep ist": SHAPE},
    "scale_by_novograd": {"keep ist": SHAPE},
    "scale_by_optimistic_gradient": {"reset": ESTIMATE},
    "scale_by_sm3": {"keep ist": SHAPE},
    "scale_by_zoom_linesearch": {"reset": UNTOLD, "keep ist": SHAPE},
    "sm3": {"keep ist": SHAPE},
    "zero_nans": {"keep ist": SHAPE},
}
ALONE = (
    "contrib.sam",
    "freeze",
    "selective_transform",
    "flatten",
    "lbfgs",
    "scale_by_backtracking_linesearch",
    "scale_by_zoom_linesearch",
)  # in no bundle
FROZEN = ("freeze", "selective_transform")  # some of their leaves


def why_refused(name, policy, how):
    reasons = REFUSED.get(name, {})
    return reasons.get(policy) or reasons.get(f"{policy} {how}")


def built(names, how, policy):
    params, axes = nets_of(names)
    return params, ist_jax.build(
        total_loss, bundled(names), params, axes, method=METHODS[how](), workers=S,
        optimizer_state=policy,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["reset", "keep"])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_carried_is_refused_by_name(name, policy):
    for how in METHODS:
        if reason := why_refused(name, policy, how):
            with pytest.raises(InputError, match=reason):
                built([name], how, policy)


KNOWN = {"names": (128, 869958103), "types": (45, 1354430956)}  # how many, and their digest
COUNT = 3  # bundles of those with a state of their own, and of the others


def shape_of(name):
    return jax.eval_shape(made(name).init, net()[0])


@functools.cache
def firsts():
    """The first name with each set of state types: what is carried is told by those."""
    found = {}
    for name in names():
        if name not in ALONE and not why_refused(name, "keep", "local_sgd"):
            types = frozenset(owner_of_each(shape_of(name)))
            found.setdefault(types, name)
    return set(found.values())


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("policy", ["reset", "keep"])
@pytest.mark.parametrize("how", METHODS)
def test_every_optimizer_is_carried_exactly_or_refused(how, policy, number):
    """Three rounds, beside plain loops; of all that is not refused above, each kind of state."""
    every = [name for name in names() if not why_refused(name, policy, how)]
    exact([name for name in every if name in firsts()][number::COUNT], how, policy)


def test_a_new_name_or_type_of_state_is_looked_at():
    """Of another optax: run the slow tests, then put its names and types in place of these."""
    types = {owner for name in firsts() for owner in owner_of_each(shape_of(name))}
    found = {
        what: (len(some), zlib.crc32(" ".join(sorted(some)).encode()))
        for what, some in (("names", names()), ("types", types))
    }
    assert found == KNOWN


@pytest.mark.slow
@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("policy", ["reset", "keep"])
@pytest.mark.parametrize("how", METHODS)
def test_those_with_the_state_of_another_are_carried_exactly_too(how, policy, number):
    every = [name for name in names() if not why_refused(name, policy, how)]
    others = [name for name in every if name not in firsts() and name not in ALONE]
    exact(others[number::COUNT], how, policy)


@pytest.mark.parametrize("name", ALONE)
def test_those_that_do_not_go_in_a_bundle_are_carried_exactly_or_refused(name):
    for how in METHODS:
        for policy in ("reset", "keep"):
            if not why_refused(name, policy, how):
                exact([name], how, policy)


def exact(names, how, policy):
    params, trainer = built(names, how, policy)
    state = trainer.init(params, KEY)
    assignments = []
    for number in range(ROUNDS):
        assignments.append(jax.tree.map(np.asarray, dict(state.assignment)))
        state, _ = trainer.round(state, batches(number))
    expected = by_hand(bundled(names), params, policy, assignments)
    for name in names:
        for leaf in params[name]:
            np.testing.assert_allclose(
                state.params[name][leaf], expected[name][leaf], rtol=2e-4, atol=2e-6, err_msg=name
            )
            still = same_bits(state.params[name][leaf], params[name][leaf])
            frozen = name == "set_to_zero" or (name in FROZEN and SOME[leaf])
            assert still == frozen, f"{name} moved {leaf}: {not still}"


@pytest.mark.parametrize("policy", ["reset", "keep"])
def test_noise_differs_from_worker_to_worker_and_from_round_to_round(policy):
    """Of deviation 1 in every worker: the mean over four has 1/2, and rounds are not alike."""
    params, names = {"w": jnp.zeros((200, 4))}, {"w": (None, "h")}
    noise = optax.add_noise(1.0, 0.0, jax.random.key(0))
    still = lambda net, batch, key: 0.0 * (net["w"].sum() + batch.sum())
    trainer = ist_jax.build(
        still, optax.chain(noise, optax.scale(1.0)), params, names, method=method.local_sgd(),
        workers=4, optimizer_state=policy,
    )  # fmt: skip
    state, moves = trainer.init(params, jax.random.key(1)), []
    for _ in range(4):
        before = np.asarray(trainer.whole(state).params["w"])
        state, _ = trainer.round(state, np.zeros((4, 1, 1), np.float32))
        moves.append(np.asarray(trainer.whole(state).params["w"]) - before)
    assert np.std(moves) == pytest.approx(0.5, rel=0.05)
    alike = np.corrcoef([move.ravel() for move in moves]) - np.eye(4)
    assert np.abs(alike).max() < 0.15


def test_a_key_beside_moments_goes_on_though_they_are_renewed():
    class Noisy(NamedTuple):
        mu: dict
        key: jax.Array

    begin = lambda params: Noisy(jax.tree.map(jnp.zeros_like, params), jax.random.key(3))
    optimizer = optax.GradientTransformation(begin, lambda updates, state, params: (updates, state))
    memory, params = carry.Memory(optimizer, "reset"), {"w": jnp.ones(4)}
    used = Noisy({"w": jnp.ones(4)}, jax.random.key(7))
    state = memory.resume(params, memory.carry(used))
    assert state.mu["w"].tolist() == [0, 0, 0, 0]
    assert same_bits(jax.random.key_data(state.key), jax.random.key_data(used.key))


@pytest.mark.parametrize("policy", ["reset", "keep"])
def test_noise_of_one_worker_is_that_of_ordinary_training(policy):
    params, names = {"w": jnp.zeros((5, 4))}, {"w": (None, "h")}
    noise = lambda: optax.add_noise(1.0, 0.0, jax.random.key(0))
    still = lambda net, batch, key: 0.0 * (net["w"].sum() + batch.sum())
    trainer = ist_jax.build(
        still, noise(), params, names, method=method.local_sgd(), workers=1, optimizer_state=policy
    )
    state = trainer.init(params, jax.random.key(1))
    expected, opt_state = params, noise().init(params)
    for _ in range(3):
        state, _ = trainer.round(state, np.zeros((1, 2, 1), np.float32))
        for _ in range(2):
            zeros = jax.tree.map(jnp.zeros_like, params)
            updates, opt_state = noise().update(zeros, opt_state)
            expected = optax.apply_updates(expected, updates)
    np.testing.assert_allclose(state.params["w"], expected["w"], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "steps", "lost"),
    [
        (lambda: optax.MultiSteps(optax.sgd(0.1), 8).gradient_transformation(), 4, True),
        (lambda: optax.MultiSteps(optax.sgd(0.1), 8).gradient_transformation(), 12, True),
        (lambda: optax.MultiSteps(optax.sgd(0.1), 8).gradient_transformation(), 16, False),
        (lambda: optax.MultiSteps(optax.adam(0.1), 500).gradient_transformation(), 4, True),
        (lambda: optax.chain(optax.apply_every(8), optax.sgd(0.1)), 4, True),
        (lambda: optax.chain(optax.apply_every(8), optax.sgd(0.1)), 8, False),
        (lambda: optax.adam(optax.linear_schedule(0.0, 0.1, 50)), 1, False),
        (lambda: optax.adam(optax.join_schedules([lambda c: 0.0, lambda c: 0.1], [30])), 4, False),
        (lambda: optax.adam(0.0), 4, False),
        (lambda: optax.adam(0.1), 300, False),
        (lambda: optax.signum(0.1), 7, False),
        (lambda: optax.lion(0.1), 7, False),
        (lambda: optax.rprop(0.1), 7, False),
    ],
)  # fmt: skip
def test_gradients_that_wait_for_a_later_round_are_not_lost_in_silence(make, steps, lost):
    """Under ``reset``; a rate that begins at zero, or stays there, is no reason to refuse."""
    params, names = net()
    optimizer = make()
    memory = carry.Memory(optimizer, "reset")
    ask = lambda: checks.check_steps(optimizer, memory, axes.describe(params, names), steps)
    if not lost:
        return ask()
    with pytest.raises(InputError, match=f"(MultiStepsState|ApplyEvery) .*the {steps} local steps"):
        ask()
