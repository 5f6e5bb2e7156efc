"""The convolutional and the graph network: their formulas, and what their theorems claim."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, convolution, graph

pytestmark = pytest.mark.usefixtures("strict_types")

IMAGES = np.random.default_rng(0).normal(size=(8, 5, 5, 1))
PATCHES = convolution.patches(IMAGES, size=3)
LABELS = np.random.default_rng(1).normal(size=8)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def far(key, **changes):
    given = {"workers": 4, "xi": 0.5, "width": 128, "rounds": 100, "step": 0.3, "seeds": 4}
    return convolution.apart(key, PATCHES, LABELS, **{**given, **changes})


def test_filters_are_a_convolution_with_a_fixed_second_layer(key, x64):
    """Against loops over filters, rows and columns; an image's windows have norm 1."""
    net = additive.start(key, (6, 9), 1.0, (9,))
    weights, signs, places = np.asarray(net.weights), np.asarray(net.signs), range(3)
    found = additive.output(convolution.filters, net, PATCHES)
    for image, f in zip(IMAGES, found, strict=True):
        windows = [[image[i : i + 3, j : j + 3].ravel() for j in places] for i in places]
        expected = sum(
            signs[r, 3 * i + j] * max(0.0, windows[i][j] @ weights[r])
            for r, i, j in itertools.product(range(6), places, places)
        )
        norm = np.linalg.norm(windows)
        assert float(f) == pytest.approx(expected / norm / 6**0.5, rel=1e-12)


def test_ordinary_training_is_gradient_descent_on_the_whole_network(key, x64):
    """One round from the same start travels step theta / xi times the gradient of 1/2 |y - f|^2."""
    net = additive.start(fold(key, "seed", 0), (128, 9), 1.0, (9,))

    def whole(weights):
        each = jnp.einsum("npr,rp->n", jax.nn.relu(PATCHES @ weights.T), net.signs)
        return 0.5 * jnp.square(0.5 / 128**0.5 * each - LABELS).sum()

    moved = 0.3 * (1 - 0.5**4) / 0.5 * jax.grad(whole)(net.weights)
    found = far(key, rounds=1, seeds=1).travelled[0]
    assert found == pytest.approx(float(jnp.square(moved).sum()), rel=1e-12)


def test_what_is_apart_after_a_round_is_what_the_rounds_make_of_the_start(key, x64):
    """Weights after one round; outputs over two, the first of which begins with equal ones."""
    mine, problem = fold(key, "seed", 0), additive.Problem(PATCHES, LABELS)
    net = additive.start(mine, (128, 9), 1.0, (9,))
    masks = additive.bernoulli(fold(mine, "masks", 0), 4, 128, 0.5)
    ours = additive.one_round(convolution.filters, net, problem, masks, 1, 0.3)
    step = 0.3 * (1 - 0.5**4) / 0.5
    theirs = additive.local(convolution.filters, net, problem, None, 1, step, scale=0.5)
    square = lambda a, b: float(jnp.square(a - b).sum())
    found = far(key, rounds=1, seeds=1).weights[0]
    assert found == pytest.approx(square(ours.weights, theirs), rel=1e-12)
    f = lambda net: additive.output(convolution.filters, net, PATCHES, scale=0.5)
    found = far(key, rounds=2, seeds=1).outputs[0]
    assert found == pytest.approx(square(f(ours), f(net._replace(weights=theirs))), rel=1e-12)


def test_masked_filters_stay_nearer_to_ordinary_ones_as_the_width_grows_and_as_xi_goes_to_one(key):
    """Means over 4 seeds; at xi = 1 the two are one. Outputs by width only, at a small start."""
    by_width = [far(key, width=m).weights.mean() for m in (32, 128, 512)]
    assert by_width[0] > 1.5 * by_width[1] > 2.25 * by_width[2], by_width
    by_xi = [far(key, xi=xi).weights.mean() for xi in (0.5, 0.75, 0.9, 1.0)]
    assert by_xi[0] > 2 * by_xi[1] > 4 * by_xi[2] > 1e-2, by_xi
    assert by_xi[3] < 1e-20
    outputs = [far(key, width=m, kappa=0.1).outputs.mean() for m in (32, 128, 512)]
    assert outputs[0] > 2 * outputs[1] > 4 * outputs[2], outputs


RING = graph.ring(jax.random.key(0), nodes=7, chords=0)
NODES = np.random.default_rng(3).normal(size=7)


def test_the_graph_network_is_the_formula(key, x64):
    """A path of three nodes: A_bar by hand, and yhat = A_bar relu(A_bar X W) a / sqrt d_1."""
    spread = graph.normalised(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    side = 1 / 6**0.5
    np.testing.assert_allclose(
        spread, [[1 / 2, side, 0], [side, 1 / 3, side], [0, side, 1 / 2]], atol=1e-15
    )
    assert graph.norm_a2(spread) == pytest.approx((spread @ spread).sum())
    net, x = additive.start(key, (5, 2), 1.0), np.array([[1.0, 2], [-3, 4], [5, -6]])
    yhat = spread @ np.maximum(spread @ x @ np.asarray(net.weights).T, 0) @ net.signs / 5**0.5
    found = additive.output(graph.features, net, (spread, spread @ x))
    np.testing.assert_allclose(found, yhat, rtol=1e-12)

    spread = graph.normalised(RING)
    net = additive.start(fold(key, "seed", 0), (5, 7), 1.0)
    yhat = spread @ np.maximum(spread @ np.asarray(net.weights).T, 0) @ net.signs / 5**0.5
    error = graph.train(key, RING, np.eye(7), NODES, subnets=2, width=5, rounds=1, seeds=1)
    assert error[0, 0] == pytest.approx(np.square(NODES - yhat / 2).sum(), rel=1e-12)


def test_gists_floor_vanishes_with_one_subnet_and_falls_as_the_width_grows(key):
    given = {"local_steps": 2, "step": 4.0, "seeds": 4}
    train = lambda **sizes: graph.train(key, RING, np.eye(7), NODES, **given, **sizes)[:, -1].mean()
    assert train(subnets=1, width=128, rounds=4000) < 1e-18
    floors = [train(subnets=2, width=width, rounds=1000) for width in (32, 128, 512)]
    assert floors[0] > 3 * floors[1] > 9 * floors[2] > 1e-2, floors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: far(k, xi=0.0), "xi=0"),
        (lambda k: convolution.apart(k, 2 * PATCHES, LABELS, workers=1, xi=0.5), "norm 2"),
        (lambda k: convolution.patches(IMAGES, 6), "1 to 5 pixels wide.*found size=6"),
        (lambda k: convolution.patches(0 * IMAGES, 3), "image 0 is all zeros"),
        (lambda k: graph.normalised(np.eye(3)), "must be symmetric"),
        (lambda k: graph.ring(k, 2, 0), "found nodes=2"),
        (lambda k: graph.train(k, RING, np.eye(6), NODES, subnets=2), "x must have 7 rows"),
        (lambda k: graph.train(k, RING, np.eye(7), NODES, subnets=0), "workers=0"),
    ],
)
def test_bad_input(key, call, message):
    with pytest.raises(InputError, match=message):
        call(key)
