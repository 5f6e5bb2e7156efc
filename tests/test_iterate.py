"""Runs against a loop over dense matrices, against exact moments, and on devices."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadratic_oracle as oracle
from conftest import same_bits
from quadratic_cases import family, problem
from test_sketches import close

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sharded import placement
from ist_jax.sketch import iterate, moments, recursion, sketches, step
from ist_jax.sketch.quadratics import UnstableStep


def loop(given, sketch, x0, key, steps, step_size, rule, local_steps, run):
    """The same draws, dense, one after another."""
    x = np.array(x0)
    for k in range(steps):
        drawn = sketch.draw(fold(key, run, "draw", k))
        C = sketches.dense(drawn, sketch.d)
        x = oracle.step(given.L, given.b, C, x, step_size, rule, local_steps)
    return x


@pytest.mark.parametrize(
    ("name", "rule", "local_steps"),
    [
        *itertools.product(["Perm-2", "Bernoulli", "block preconditioned"], step.RULES, [1, 3]),
        ("identity", "step", 2),
        ("n = 2 d", "copy", 2),
        ("Rand-2", "merge", 1),
        ("preconditioned", "step", 1),
    ],
)
def test_runs_are_the_dense_loop_with_the_same_draws(name, rule, local_steps, key):
    given, sketch, _ = family(name)
    x0 = np.arange(1.0, given.d + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableStep)  # some merges are not stable
        found = iterate.run(
            *(given, sketch, x0, key),
            steps=7,
            step_size=0.05,
            runs=2,
            rule=rule,
            local_steps=local_steps,
        )
    for run in range(2):
        expected = loop(given, sketch, x0, key, 7, 0.05, rule, local_steps, run)
        close(found.x[run], expected, rtol=1e-12)


@pytest.mark.parametrize(("n", "d", "local_steps"), [(20, 20, 1), (20, 40, 2)])
def test_workers_that_hold_little_read_their_own_blocks_with_the_same_results(
    n, d, local_steps, key
):
    given, sketch = problem(n, d), sketches.perm(n, d, scale=1.0)
    found = iterate.run(
        *(given, sketch, np.ones(d), key),
        steps=5,
        step_size=0.3,
        rule="copy",
        local_steps=local_steps,
    )
    expected = loop(given, sketch, np.ones(d), key, 5, 0.3, "copy", local_steps, 0)
    close(found.x[0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["Perm-2", "n = 2 d", "Rand-2", "Bernoulli", "preconditioned"])
def test_runs_scatter_as_the_exact_moments_say(name, key):
    """Means and variances within 4 standard errors, with noise in the local gradients."""
    given, sketch, _ = family(name)
    x0, runs = np.arange(1.0, given.d + 1), 8000
    found = iterate.run(given, sketch, x0, key, steps=10, step_size=0.2, runs=runs, noise=0.5)
    means, covariances = moments.trajectory(given, sketch, x0, 0.2, 10, noise=0.5)
    off = found.x - means[-1]
    assert (np.abs(off.mean(0)) < 4 * off.std(0) / runs**0.5).all()
    error = (off**2).std(0) / runs**0.5
    assert (np.abs((off**2).mean(0) - np.diag(covariances[-1])) < 4 * error).all()


def test_local_steps_with_noise_scatter_as_the_recursion_says(key):
    given, sketch, _ = family("Perm-2, s = 1")
    how = {"rule": "copy", "local_steps": 3, "noise": 0.5}
    found = iterate.run(given, sketch, np.ones(4), key, steps=5, step_size=0.2, runs=8000, **how)
    means, covariances = recursion.trajectory(given, sketch, np.ones(4), 0.2, 5, **how)
    off = found.x - means[-1]
    assert (np.abs(off.mean(0)) < 4 * off.std(0) / 8000**0.5).all()
    error = (off**2).std(0) / 8000**0.5
    assert (np.abs((off**2).mean(0) - np.diag(covariances[-1])) < 4 * error).all()


@pytest.mark.filterwarnings("ignore::ist_jax.sketch.quadratics.UnstableStep")
def test_the_merge_is_the_step_just_where_the_sketches_average_to_the_identity(key):
    def both(name):
        given, sketch, _ = family(name)
        return [
            iterate.run(given, sketch, np.ones(given.d), key, steps=3, step_size=0.1, rule=rule).x
            for rule in ("merge", "step")
        ]

    for name in ("Perm-1", "n = 2 d"):
        close(*both(name), rtol=1e-12)
    for name in ("preconditioned", "Bernoulli"):
        merge, stepped = both(name)
        assert np.abs(merge - stepped).max() > 1e-3


@pytest.mark.parametrize("name", ["Perm-2", "preconditioned", "block preconditioned"])
def test_copying_blocks_with_gamma_over_n_is_the_gradient_step(name, key):
    """A worker returns x_I - (gamma / n) [C_i grad f_i(C_i x)]_I, and its block is copied."""
    given, sketch, _ = family(name)
    run = lambda rule, step_size: iterate.run(
        given, sketch, np.ones(given.d), key, steps=4, step_size=step_size, rule=rule
    )
    close(run("copy", 0.3 / given.n).x, run("step", 0.3).x, rtol=1e-12)
    C = sketches.dense(sketch.draw(key), given.d)
    x = np.arange(1.0, given.d + 1)
    copied = x.copy()
    for matrix, L, b in zip(C, given.L, given.b, strict=True):
        held = np.diag(matrix) > 0
        copied[held] = (x - 0.3 / given.n * matrix @ (L @ matrix @ x - b))[held]
    close(copied, oracle.step(given.L, given.b, C, x, 0.3), rtol=1e-12)


@pytest.mark.parametrize("name", ["n = 2 d", "preconditioned"])
def test_workers_on_devices_give_the_same_bits(name, key):
    given, sketch, _ = family(name)

    def on(devices):
        mesh = placement.mesh(given.n, devices) if devices else None
        return iterate.run(
            *(given, sketch, np.ones(given.d), key),
            steps=20,
            step_size=0.1,
            runs=3,
            local_steps=2,
            noise=0.1,
            every=5,
            mesh=mesh,
        )

    alone = on(None)
    for devices in (1, 2, given.n):
        spread = on(devices)
        assert same_bits((alone.x, alone.measured), (spread.x, spread.measured)), devices


def test_what_is_measured_and_when(key):
    given, sketch, _ = family("Perm-2")
    run = lambda **how: iterate.run(
        given, sketch, np.ones(6), key, steps=12, step_size=0.1, runs=3, **how
    )
    found = run(every=4, measure=lambda x: {"size": jnp.sum(x**2)})
    assert found.steps.tolist() == [0, 4, 8, 12]
    assert found.measured["size"].shape == (4, 3)
    assert found.measured["size"][0].tolist() == [6.0] * 3
    close(found.measured["size"][-1], (found.x**2).sum(1))
    assert run().measured.shape == (2, 3, 6)
    close(run().x, found.x)
    one = iterate.run(given, sketch, np.ones(6), key, steps=12, step_size=0.1)
    close(one.x[0], found.x[0], rtol=1e-12)
    starts = np.arange(18.0).reshape(3, 6)
    begun = iterate.run(given, sketch, starts, key, steps=1, step_size=0.1, runs=3)
    assert same_bits(begun.measured[0], starts)


def test_runs_are_float64_and_leave_the_setting_alone(key):
    given, sketch, _ = family("Perm-2")
    found = iterate.run(given, sketch, np.ones(6), key, steps=2, step_size=0.1)
    assert found.x.dtype == found.measured.dtype == np.float64
    assert not jax.config.jax_enable_x64
    assert jnp.ones(1).dtype == jnp.float32


@pytest.mark.parametrize(("n", "d", "q"), [(4, 400, None), (40, 40, None), (4, 400, 30)])
def test_memory_of_a_run_grows_with_n_d_and_never_with_d_squared(n, d, q):
    sketch = sketches.perm(n, d) if q is None else sketches.rand(n, d, q)
    setting = iterate.Setting(sketch, "step", 1, False, None)

    def temporary(runs):
        with jax.enable_x64(True):
            shapes = [(n, d, d), (n, d), (runs, d)]
            L, b, x = (jax.ShapeDtypeStruct(shape, np.float64) for shape in shapes)
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), runs))
            program = iterate._run.lower(setting, jnp.sum, 1, 1, L, b, x, keys, 0.1, 0.0)
        return program.compile().memory_analysis().temp_size_in_bytes

    a_run = (temporary(48) - temporary(16)) / 32
    assert a_run <= 8 * 8 * n * d
    assert a_run < 8 * d * d / 2 or n * d >= d * d
    assert temporary(16) <= 16 * 8 * 8 * n * d + 2 * 8 * n * d * d  # and the L_i


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"step_size": -0.1}, "step size must be a positive number, found -0.1"),
        ({"step_size": np.nan}, "positive number, found nan"),
        ({"x0": np.ones(5)}, r"x0 must be \[6\] or \[1, 6\], found \(5,\)"),
        ({"x0": np.full(6, np.inf)}, "x0 holds a number that is not finite"),
        ({"rule": "mean"}, "unknown rule 'mean'; known: step, merge, copy"),
        ({"steps": 0}, "steps must be at least 1, found 0"),
        ({"runs": 0}, "runs must be at least 1"),
        ({"local_steps": 0}, "local_steps must be at least 1"),
        ({"every": 3}, "every must divide the number of steps, 4; found 3"),
        ({"noise": -1.0}, "at least 0; found -1"),
        ({"sketch": sketches.perm(2, 4)}, "sketch is for n=2, d=4, the problem has n=3, d=6"),
    ],
)
def test_bad_runs_are_refused(changes, told, key):
    given, sketch, _ = family("Perm-2")
    how = {"sketch": sketch, "x0": np.ones(6), "steps": 4, "step_size": 0.1, **changes}
    with pytest.raises(InputError, match=told):
        iterate.run(given, key=key, **how)
