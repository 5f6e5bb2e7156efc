"""How long runs of the sketch analysis take: over their bare products, and over NumPy loops.

    python -m benchmarks.sketch                 # d = 1000, n = 10, 10,000 steps, 100 runs: minutes
    python -m benchmarks.sketch --steps=500

One call of ``iterate.run`` (Perm-100 of scale 1, rule ``copy``: IST as practised) is timed beside

* *products*: what a worker needs of L_i C_i x for all workers and runs, and nothing else (draws are
  made beforehand), a tenth as many steps before the call and as many after it;
* *products, whole*: all of L_i C_i x, as one matrix product for all runs;
* *NumPy, whole*: a loop over runs, steps and workers that multiplies L_i (C_i x): the same
  products, one vector at a time;
* *NumPy, blocks*: the same loop, which multiplies only the block of L_i that a worker holds.

The loops are timed over a few steps of one run. All figures are for one step of all runs.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jax import lax

from ist_jax.sharded import placement
from ist_jax.sketch import iterate, quadratics, sketches, step

STEP_SIZE = 0.2


def products(problem: quadratics.Quadratics, runs: int, steps: int, whole: bool) -> float:
    """Seconds a step of L_i z_i for all workers and runs; each step's results go into the next."""
    sketch = sketches.perm(problem.n, problem.d, scale=1.0)
    with jax.enable_x64(True):
        L = jnp.asarray(problem.L)
        keys = jax.random.split(jax.random.key(0), (10, runs))
        drawn = jax.jit(jax.vmap(jax.vmap(lambda key: sketch.draw(key).ids)))(keys)
        ids = drawn.swapaxes(1, 2)  # [10, n, runs, m]
        z = jnp.ones((problem.n, runs, problem.d if whole else ids.shape[3]))

        def one(L, ids, z):
            return z @ L if whole else step.times(L, ids, z)

        @jax.jit
        def loop(L, ids, z):
            each = lambda k, z: placement.each(one)(L, ids[k % 10], z)
            return lax.fori_loop(0, steps, each, z)

        compiled = loop.lower(L, ids, z).compile()
        jax.block_until_ready((L, ids, z))
        started = time.perf_counter()
        jax.block_until_ready(compiled(L, ids, z))
        return (time.perf_counter() - started) / steps


def call(problem: quadratics.Quadratics, runs: int, steps: int) -> float:
    """Seconds a step of one call of the library, compilation and all."""
    sketch = sketches.perm(problem.n, problem.d, scale=1.0)
    started = time.perf_counter()
    iterate.run(
        *(problem, sketch, np.zeros(problem.d), jax.random.key(1)),
        steps=steps,
        step_size=STEP_SIZE,
        runs=runs,
        rule="copy",
    )
    return (time.perf_counter() - started) / steps


def numpy_loop(problem: quadratics.Quadratics, steps: int, blocks: bool) -> float:
    """Seconds a step of one run: the same algorithm, written as one would in NumPy."""
    draw, n = np.random.default_rng(0), problem.n
    x = np.zeros(problem.d)
    started = time.perf_counter()
    for _ in range(steps):
        order = draw.permutation(problem.d).reshape(n, -1)
        new = x.copy()
        for worker in range(n):
            held = order[worker]
            if blocks:
                own = problem.L[worker][np.ix_(held, held)] @ x[held]
            else:
                seen = np.zeros_like(x)
                seen[held] = x[held]
                own = (problem.L[worker] @ seen)[held]
            new[held] = x[held] - STEP_SIZE * (own - problem.b[worker][held])
        x = new
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, default in (("steps", 10_000), ("runs", 100), ("dimension", 1000), ("workers", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    runs, steps = options.runs, options.steps
    problem = quadratics.random(jax.random.key(0), options.workers, options.dimension)
    kernels = sorted({str(p.get("architecture")) for p in threadpoolctl.threadpool_info()})
    print(
        f"d = {problem.d}, n = {problem.n}, {runs} runs, {steps} steps; jax {jax.__version__}, "
        f"NumPy {np.__version__} (BLAS for {', '.join(kernels)})"
    )
    few = max(steps // 10, 1)
    bare = lambda: np.array([products(problem, runs, few, whole) for whole in (False, True)])
    before, took, after = bare(), call(problem, runs, steps), bare()
    loops = {
        f"NumPy, {name}": runs * numpy_loop(problem, 30, name == "blocks")
        for name in ("whole", "blocks")
    }
    print(
        f"one call: {took * steps:.1f} s\n\n| | ms a step | call over it |\n| --- | ---: | ---: |"
    )
    print(f"| call | {1e3 * took:.2f} | |")
    for name, first, last in zip(("products", "products, whole"), before, after, strict=True):
        seconds = (first + last) / 2
        each = f"{name} ({1e3 * first:.2f} before, {1e3 * last:.2f} after)"
        print(f"| {each} | {1e3 * seconds:.2f} | {took / seconds:.2f} |")
    for name, seconds in loops.items():
        print(f"| {name} | {1e3 * seconds:.0f} | 1/{seconds / took:.1f} |")


if __name__ == "__main__":
    main()
