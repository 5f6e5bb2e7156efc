"""What each method does, against plain loops in optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mlp_loss, mlp_tree, regression_batches, same_bits
from training import run, trainer_of

from ist_jax import decompose, local, method, named, partition
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.method import Method

DIMS = (6, 12, 8, 3)
KEY = jax.random.key(0)


def everything(key, context):
    rows = lambda n: jnp.tile(jnp.arange(n, dtype=jnp.int32), (context.workers, 1))
    return {g: rows(n) for g, n in context.widths.items()}


def test_full_overlap_with_one_plain_step_is_data_parallel():
    """Oracle 5, second half: mean of (w - lr g_s) and w - lr mean(g_s); equal up to rounding."""
    params, names = mlp_tree(DIMS)
    batches = regression_batches(3, 4, 1, 8, 6, 3)
    full = Method("full", everything, disjoint=False)
    states = [
        run(params, names, how, batches)[0]
        for how in (full, method.local_sgd(), method.data_parallel())
    ]
    for state in states[1:]:
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            states[0].params,
            state.params,
        )
    assert not same_bits(states[0].params, params)


def test_data_parallel_is_the_mean_gradient_at_every_step():
    params, names = mlp_tree(DIMS)
    batches = regression_batches(2, 4, 3, 8, 6, 3)
    optimizer = optax.adam(1e-2)
    state, _ = run(params, names, method.data_parallel(), batches, optimizer=optimizer)
    net, opt_state = params, optimizer.init(params)
    for batch in batches:
        for step in range(3):
            grads = [
                jax.grad(mlp_loss)(net, jax.tree.map(lambda b, w=w, j=step: b[w, j], batch), None)
                for w in range(4)
            ]
            mean = jax.tree.map(lambda *g: sum(g) / 4, *grads)
            updates, opt_state = optimizer.update(mean, opt_state, net)
            net = optax.apply_updates(net, updates)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), state.params, net
    )


def test_subnets_that_rotate_are_those_of_an_ensemble_that_sees_other_data():
    """With the same batches for all workers it does not matter who trains which."""
    params, names = mlp_tree(DIMS)
    batches = regression_batches(4, 4, 2, 8, 6, 3)
    batches = [jax.tree.map(lambda leaf: jnp.tile(leaf[:1], (4, 1, 1, 1)), b) for b in batches]
    states = [run(params, names, how, batches)[0] for how in (method.rotate(), method.ensemble())]
    one, other = (state.params for state in states)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one, other)
    assert not same_bits(run(params, names, method.ist(), batches)[0].params, one)


def test_an_ensemble_is_subnets_trained_apart_with_their_own_optimizers():
    params, names = mlp_tree(DIMS)
    batches = regression_batches(3, 4, 2, 8, 6, 3)
    optimizer = optax.sgd(0.1, 0.9)
    state, reports = run(params, names, method.ensemble(), batches, optimizer=optimizer)
    who = partition.fixed(fold(jax.random.key(3), "draw"), {"h0": 12, "h1": 8}, 4)
    nets = decompose.gather(state.params, names, who)
    for worker in range(4):
        net = decompose.gather_one(params, names, who, worker)
        opt_state = optimizer.init(net)
        for batch in batches:
            mine = jax.tree.map(lambda b, w=worker: b[w], batch)
            net, opt_state, _ = local.train(
                jax.value_and_grad(mlp_loss), optimizer, net, opt_state, mine, jax.random.key(0)
            )
        jax.tree.map(
            lambda a, b, w=worker: np.testing.assert_allclose(a[w], b, rtol=1e-5, atol=1e-6),
            nets,
            net,
        )
    assert (reports[0].bytes_sent == 0).all()


def test_bytes_are_those_of_the_subnet_and_of_kept_moments():
    params, names = mlp_tree(DIMS)
    batches = regression_batches(1, 4, 2, 8, 6, 3)
    subnet = 4 * (6 * 12 // 4 + 12 * 8 // 16 + 8 * 3 // 4)
    whole = 4 * (6 * 12 + 12 * 8 + 8 * 3)
    adam = optax.adam(1e-2)
    for how, options, expected in (
        (method.ist(), {}, subnet),
        (method.ist(), {"optimizer": adam, "optimizer_state": "keep"}, 3 * subnet + 4),
        (method.local_sgd(), {}, whole),
        (method.data_parallel(), {"optimizer": adam}, 2 * whole),
        (method.ensemble(), {}, 0),
    ):
        _, (report,) = run(params, names, how, batches, **options)
        assert report.bytes_sent.tolist() == [expected] * 4, how.name
        assert report.bytes_received.tolist() == [expected] * 4, how.name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda p, n: trainer_of(p, n, method.ist(), 9),
            "'h1' has 8 neurons, too few for 9 workers",
        ),
        (
            lambda p, n: trainer_of(p, {"w0": None}, method.ist(), 4),
            "does not match the parameters",
        ),
        (
            lambda p, n: trainer_of(p, n, method.ist(), 4, optimizer_state="drop"),
            "'reset', 'keep' or 'own'",
        ),
        (
            lambda p, n: trainer_of(p, n, method.single(), 4),
            "single is for 1 worker, found workers=4",
        ),
        (
            lambda p, n: trainer_of(p, n, method.ist(), 0),
            "workers must be an integer >= 1, found 0",
        ),
        (
            lambda p, n: trainer_of(p, n, method.ist()._replace(exchange="steps"), 4),
            "exchange must be 'round', 'step' or 'never', found 'steps'",
        ),
        (
            lambda p, n: trainer_of(p, dict.fromkeys(p), method.ist(), 4),
            "ist has nothing to cut",
        ),
        (
            lambda p, n: trainer_of(p, {**n, "w2": None}, method.ensemble(), 4),
            r"ensemble: leaf \['w2'\] has no axis to cut",
        ),
        (
            lambda p, n: trainer_of(p, n, method.ist(), 4).init(mlp_tree((6, 16, 8, 3))[0], KEY),
            r"leaf \['w0'\] .* built for float32\[6, 12\], found float32\[6, 16\]",
        ),
        (lambda p, n: named.find("isst"), "no 'isst'; did you mean 'ist'"),
        (lambda p, n: named.find("ist", assignment="random"), "unknown assignment 'random'"),
        (
            lambda p, n: named.find("ist", assignment="balanced", shares=(1, 2)),
            "shares need assignment='permutation'",
        ),
        (
            lambda p, n: named.find("resist", min_dept=2),
            "method 'resist' has no option 'min_dept'; did you mean 'min_depth'",
        ),
        (lambda p, n: named.find("loft", shares=(1, 2)), "'loft' has no option 'shares'; it has"),
    ],
)
def test_bad_builds(build, message):
    with pytest.raises(InputError, match=message):
        build(*mlp_tree(DIMS))


def test_a_draw_that_cuts_nothing_is_known_also_where_it_is_wrapped():
    """It was asked by identity, which a ``partial`` escapes."""
    params, _ = mlp_tree(DIMS)
    wrapped = Method("mine", functools.partial(partition.replicated))
    assert not method.cuts(wrapped, {"h0": 12}, 4)
    assert method.cuts(method.ist(), {"h0": 12}, 4)
    assert not method.cuts(method.ist(), {"h0": 12}, 1)
    trainer_of(params, dict.fromkeys(params), wrapped, 4)
    cutting = Method("mine", functools.partial(partition.permutation))
    with pytest.raises(InputError, match="mine has nothing to cut"):
        trainer_of(params, dict.fromkeys(params), cutting, 4)


def test_a_new_thing_to_look_at_changes_no_draw():
    """A draw takes one object; the library's take its parts as well."""
    who = partition.permutation(KEY, {"h0": 12}, workers=4, number=3)
    context = partition.Context({"h0": 12}, 4, number=3)
    assert same_bits(who, partition.permutation(KEY, context))
    with pytest.raises(InputError, match="needs the number of workers"):
        partition.permutation(KEY, {"h0": 12})
