"""LoFT's question: do filters trained under masks stay near those of ordinary training?

The network is one hidden layer of N filters and a fixed second layer, over P patches phi_j(x):
f(x, W) = (xi / sqrt N) sum_r sum_j a_rj relu(<w_r, phi_j(x)>), a_rj = +-1, sum_j |phi_j|^2 = 1. A
filter is a neuron that contributes to all places, so its masks and rounds are those of
``additive``. Masks are Bernoulli, with one gradient step in a round.

Ordinary training is gradient descent on the same f from the same start. Its step is
step theta / xi, for then it moves every filter as a masked round does on average as long as the
surrogates agree with f: theta = 1 - (1 - xi)^S is the chance that a filter has a holder, and the
gradient of f has a factor xi that a surrogate's has not. At xi = 1 the two are one, up to rounding.

Source: Wang et al., "LoFT: Finding Lottery Tickets through Filter-wise Training" (2022), the
theorem of one-hidden-layer CNNs (``rates.loft_theorem_3``). What is printed there leaves the step
of ordinary training open; the paragraph above is our reading.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, masked, ranges, rates
from ist_jax.theory.additive import Problem


class Apart(NamedTuple):
    """Masked against ordinary training, one number a seed.

    weights: |W_T - What_T|_F^2.
    outputs: sum over t = 0 .. T - 1 of |f(W_t) - f(What_t)|^2.
    travelled: |What_T - W_0|_F^2, to compare ``weights`` with.
    """

    weights: Float[np.ndarray, " seeds"]
    outputs: Float[np.ndarray, " seeds"]
    travelled: Float[np.ndarray, " seeds"]


def filters(
    weights: Float[Array, "N d"],
    signs: Float[Array, "N P"],
    x: Float[Array | np.ndarray, "n P d"],
) -> Float[Array, "n N"]:
    """What each filter contributes: sum_j a_rj relu(<w_r, phi_j>)."""
    return jnp.einsum("npr,rp->nr", jax.nn.relu(jnp.einsum("npd,rd->npr", x, weights)), signs)


def patches(images: Float[np.ndarray, "n h w c"], size: int) -> Float[np.ndarray, "n P d"]:
    """All size x size windows of every image, scaled so that all those of an image have norm 1.

    Raises:
      InputError: windows larger than the image, or an image of zeros (named).

    Example:
      >>> patches(np.ones((2, 4, 5, 3)), size=3).shape
      (2, 6, 27)
    """
    if not 1 <= size <= min(images.shape[1:3]):
        raise InputError(
            f"windows must be 1 to {min(images.shape[1:3])} pixels wide, as the images are "
            f"{images.shape[1]} x {images.shape[2]}; found size={size}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    cut = np.moveaxis(windows, 3, -1).reshape(len(images), -1, size * size * images.shape[3])
    norm = np.sqrt(np.square(cut).sum(axis=(1, 2), keepdims=True))
    if not norm.all():
        raise InputError(f"image {int(np.argmin(norm))} is all zeros, and cannot have norm 1")
    return cut / norm


def apart(
    key: Key[Array, ""],
    x: Float[Array | np.ndarray, "n P d"],
    y: Float[Array | np.ndarray, " targets"],
    *,
    workers: int,
    xi: float,
    width: int = 256,
    kappa: float = 1.0,
    rounds: int = 100,
    step: float = 0.5,
    seeds: int = 8,
) -> Apart:
    """Trains both ways from the same start, many seeds at once, in float64.

    Args:
      key: of starts and masks, as in ``masked.train``.
      x: patches of each example, of norm 1 together (``patches``).
      y: targets.
      workers: S.
      xi: mean of a worker's masks.
      width: m, the number of filters.

    Raises:
      InputError: numbers out of range, examples that are not of norm 1.

    Example:
      >>> x = patches(np.random.default_rng(0).normal(size=(4, 4, 4, 1)), size=3)
      >>> far = apart(jax.random.key(0), x, np.ones(4), workers=2, xi=1.0, rounds=5, seeds=2)
      >>> far.weights.round(12)
      array([0., 0.])
    """
    ranges.check(workers=workers, xi=xi, width=width, kappa=kappa, rounds=rounds)
    ranges.check(step=step, seeds=seeds)
    problem, ordinary = masked.unit_problem(x, y), step * rates.active(xi, workers) / xi
    with jax.enable_x64(True):
        seen = _apart(key, problem, xi, kappa, step, ordinary, workers, width, rounds, seeds)
        return Apart(*(np.asarray(numbers) for numbers in seen))


@functools.partial(jax.jit, static_argnames=("workers", "width", "rounds", "seeds"))
def _apart(
    key: Any,
    problem: Problem,
    xi: Any,
    kappa: Any,
    step: Any,
    ordinary_step: Any,
    workers: int,
    width: int,
    rounds: int,
    seeds: int,
) -> Any:
    _, places, dimension = problem.inputs.shape
    outputs = lambda net, _: additive.output(filters, net, problem.inputs, scale=xi)

    def masked_round(net, masks):
        return additive.one_round(filters, net, problem, masks, 1, step)

    def ordinary_round(net, _):
        return net._replace(
            weights=additive.local(filters, net, problem, None, 1, ordinary_step, scale=xi)
        )

    def of_seed(seed):
        mine = fold(key, "seed", seed)
        net = additive.start(mine, (width, dimension), kappa, (places,))
        masks_of = lambda number: additive.bernoulli(
            fold(mine, "masks", number), workers, width, xi
        )
        return _distances((masked_round, ordinary_round), outputs, net, masks_of, rounds)

    return jax.vmap(of_seed)(jnp.arange(seeds))


def _distances(both: Any, outputs: Any, net: Any, masks_of: Any, rounds: int) -> Any:
    """How far two kinds of rounds are apart in the end and on the way, and the second moved."""
    ends, curves = zip(
        *(additive.rollout(one_round, outputs, net, masks_of, rounds) for one_round in both),
        strict=True,
    )
    square = lambda a, b: jnp.square(a - b).sum()
    return (
        square(ends[0].weights, ends[1].weights),
        square(curves[0][:-1], curves[1][:-1]),
        square(ends[1].weights, net.weights),
    )
