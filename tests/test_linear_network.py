"""The analysis and the training code speak of the same algorithm: one linear layer, trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quadratic_oracle as oracle
from quadratic_cases import problem
from test_sketches import close

import ist_jax
from ist_jax import method, partition
from ist_jax.core.keys import fold
from ist_jax.sketch import iterate, sketches


def as_network(given, assign, key, rounds, local_steps, step_size):
    """One linear layer under squared loss, trained by the library; the weights of every round."""
    n, d = given.n, given.d
    x = np.sqrt(d) * np.linalg.cholesky(given.L).swapaxes(1, 2)  # L_i = x'x / d
    y = d * np.linalg.solve(x.swapaxes(1, 2), given.b[..., None])[..., 0]  # b_i = x'y / d

    def loss(net, batch, key):
        return jnp.mean(jnp.square(batch["x"] @ net["w"] - batch["y"])) / 2

    with jax.enable_x64(True):
        params, names = {"w": jnp.ones(d)}, {"w": ("coordinates",)}
        trainer = ist_jax.build(
            loss, optax.sgd(step_size), params, names, method=method.ist(assign), workers=n
        )
        state, weights, held = trainer.init(params, key), [], []
        for _ in range(rounds):
            who = np.asarray(state.assignment["coordinates"])
            held.append(who)
            seen = np.take_along_axis(x, who[:, None, :], axis=2)
            batch = {"x": seen, "y": y}
            steps = {k: np.repeat(v[:, None], local_steps, axis=1) for k, v in batch.items()}
            state, _ = trainer.round(state, steps)
            weights.append(np.asarray(trainer.whole(state).params["w"]))
    return weights, held


@pytest.mark.parametrize("local_steps", [1, 3])
def test_the_library_trains_a_linear_layer_to_the_same_iterates(local_steps, key):
    given, sketch = problem(3, 6), sketches.perm(3, 6, scale=1.0)
    mine = fold(key, 0)
    assign = sketches.as_draw(sketch, "coordinates")
    weights, _ = as_network(given, assign, mine, 6, local_steps, 0.3)
    found = iterate.run(
        *(given, sketch, np.ones(6), key),
        steps=6,
        step_size=0.3,
        rule="copy",
        local_steps=local_steps,
        every=1,
    )
    close(np.stack(weights), found.measured[1:, 0], rtol=1e-12)


def test_the_librarys_own_permutation_takes_the_steps_of_algorithm_1(key):
    """Each round is the oracle's dense step with C_i = P_i for the neurons that were dealt out."""
    given, x = problem(3, 6), np.ones(6)
    weights, held = as_network(given, partition.permutation, key, 5, 2, 0.3)
    for who, after in zip(held, weights, strict=True):
        C = [oracle.project(ids, 6) for ids in who]
        x = oracle.step(given.L, given.b, C, x, 0.3, "copy", 2)
        close(after, x, rtol=1e-12)
