"""Tangent kernels of the masked shallow network: of infinite width, of a net, of a worker.

The gradient of (1/sqrt m) sum_r a_r relu(<w_r, x>) at w_r is (a_r / sqrt m) 1{<w_r, x> > 0} x, so
the kernel <grad f(x_i), grad f(x_j)> is x_i'x_j times the share of neurons that are active on both
examples; a_r^2 = 1 and xi do not enter. As the width grows, the share becomes a probability: a
Gaussian w is uniform in direction, and it has positive products with two vectors at angle phi
unless it falls into one of two wedges or behind both, which leaves (pi - phi) / (2 pi):

    H^inf_ij = x_i'x_j (pi - arccos x_i'x_j) / (2 pi),   |x| = 1, for every kappa.

With loss 1/2 |y - f|^2, gradient flow is d(y - u)/dt = -H (y - u): lambda_0, the least eigenvalue,
is the rate. A worker sums over its own neurons only, so its kernel is xi H on average; where every
neuron has one holder, the mean over the workers is xi H exactly.

Source: Liao & Kyrillidis (TMLR 2022), whose theorem 4 speaks of the spectrum of H^inf; H^inf itself
is of Du et al., "Gradient Descent Provably Optimizes Over-parameterized Neural Networks" (2019).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ist_jax.theory import masked


class Spectrum(NamedTuple):
    """The ends of a kernel's spectrum."""

    lambda_0: float
    lambda_max: float


class Distances(NamedTuple):
    """|H / xi - H^inf|_F / |H^inf|_F, ``[seeds, rounds + 1]``.

    of_worker: root mean square over the workers of their own distances.
    of_mean: distance of the mean of the workers' kernels.
    """

    of_worker: Float[np.ndarray, "seeds rounds1"]
    of_mean: Float[np.ndarray, "seeds rounds1"]


def infinite(x: Float[Array | np.ndarray, "n d"]) -> Float[Array | np.ndarray, "n n"]:
    """H^inf of examples of norm 1, in their type.

    Example:
      >>> np.round(infinite(np.eye(2)), 3)  # an example with itself: half of all neurons
      array([[0.5, 0. ],
             [0. , 0.5]])
    """
    numpy: Any = np if isinstance(x, np.ndarray) else jnp
    cosine = numpy.clip(x @ x.T, -1.0, 1.0)
    return cosine * (np.pi - numpy.arccos(cosine)) / (2 * np.pi)


def spectrum(kernel: Float[Array | np.ndarray, "n n"]) -> Spectrum:
    """lambda_0 and lambda_max, in float64."""
    values = np.linalg.eigvalsh(np.asarray(kernel, np.float64))
    return Spectrum(float(values[0]), float(values[-1]))


def finite(
    weights: Float[Array, "N d"], x: Float[Array | np.ndarray, "n d"]
) -> Float[Array, "n n"]:
    """The kernel of a net of finite width: (x_i'x_j / m) sum_r 1{<w_r, x_i>, <w_r, x_j> > 0}."""
    return worker(weights, x, jnp.ones(len(weights), bool))


def worker(
    weights: Float[Array, "N d"],
    x: Float[Array | np.ndarray, "n d"],
    mask: Bool[Array, " N"],
) -> Float[Array, "n n"]:
    """The kernel of a worker's surrogate: the same sum over its neurons (xi times it, in mean)."""
    active = (x @ weights.T > 0).astype(weights.dtype)
    share = (active * mask.astype(active.dtype)) @ active.T / len(weights)
    return jnp.asarray(x @ x.T) * share


def distances(
    key: Key[Array, ""],
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, " targets"],
    **how: Any,
) -> Distances:
    """How far the masked kernels of the very runs of ``masked.train`` stray from H^inf.

    Round k's kernels are those of its masks on the weights it starts from. Same arguments and
    errors as ``masked.train``.

    Example:
      >>> x, y = masked.sample(jax.random.key(0), examples=4, dimension=3)
      >>> far = distances(jax.random.key(1), x, y, workers=2, width=256, rounds=5, seeds=3)
      >>> bool((far.of_mean < far.of_worker).all())
      True
    """
    return Distances(*masked.train(key, x, y, observe=_observe, **how))


def _observe(contributions, net, masks, problem, xi):
    limit = infinite(problem.inputs)
    each = jax.vmap(lambda mask: worker(net.weights, problem.inputs, mask))(masks) / xi
    size = jnp.linalg.norm(limit)
    apart = jnp.square(each - limit).sum(axis=(1, 2)).mean()
    return jnp.sqrt(apart) / size, jnp.linalg.norm(each.mean(axis=0) - limit) / size
