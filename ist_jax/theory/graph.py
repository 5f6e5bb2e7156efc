"""GIST's theorem on a small graph: a one-hidden-layer GCN, its features cut into m subnets.

yhat = (xi / sqrt d_1) A_bar relu(A_bar X W) a, with a_r = +-1 fixed and A_bar the adjacency with
self loops, normalised on both sides. Hidden feature r contributes a_r A_bar relu(A_bar X w_r), a
function of w_r alone; masks and rounds are therefore those of ``additive``: every feature goes to
one of m subnets, drawn uniformly in each round (xi = 1/m), zeta local iterations, and back.

With m = 1 a subnet is the network and the error goes to exactly zero; with more, what is left
after many rounds falls as d_1 grows (``rates.gist_theorem_2``).

Source: Wolfe et al., "GIST: Distributed Training for Large-Scale Graph Convolutional Networks"
(2023), theorem 2. That the whole network carries the factor xi = 1/m and a subnet does not is as
in ``additive``; the theorem's m, d_1, zeta are ``subnets``, ``width``, ``local_steps`` here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.theory import additive, ranges
from ist_jax.theory.additive import Problem


def features(
    weights: Float[Array, "N d"],
    signs: Float[Array, " N"],
    inputs: tuple[Float[Array | np.ndarray, "n n"], Float[Array | np.ndarray, "n d"]],
) -> Float[Array, "n N"]:
    """What each hidden feature contributes; ``inputs`` are A_bar and A_bar X."""
    spread, x = inputs
    return jnp.asarray(spread) @ (jax.nn.relu(x @ weights.T) * signs)


def normalised(adjacency: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """A_bar = D^(-1/2) (A + I) D^(-1/2), where D holds the row sums of A + I.

    Raises:
      InputError: A is not symmetric, or has entries that are negative or on the diagonal.

    Example:
      >>> normalised(np.array([[0.0, 1.0], [1.0, 0.0]]))
      array([[0.5, 0.5],
             [0.5, 0.5]])
    """
    if (adjacency != adjacency.T).any() or (adjacency < 0).any() or adjacency.diagonal().any():
        raise InputError(
            "the adjacency must be symmetric, with entries >= 0 and zeros on its diagonal (self "
            "loops are added here)"
        )
    looped = adjacency + np.eye(len(adjacency))
    degree = looped.sum(axis=1)
    return looped / np.sqrt(degree[:, None] * degree[None, :])


def norm_a2(spread: Float[np.ndarray, "n n"]) -> float:
    """|A_bar^2|_1,1: the sum of the sizes of the entries of A_bar squared."""
    return float(np.abs(spread @ spread).sum())


def ring(key: Key[Array, ""], nodes: int, chords: int) -> Float[np.ndarray, "n n"]:
    """The adjacency of a small graph to try: a ring, and chords between random pairs.

    Example:
      >>> ring(jax.random.key(0), nodes=12, chords=0).sum(axis=1).tolist() == [2.0] * 12
      True
    """
    if nodes < 3 or chords < 0:
        raise InputError(f"a ring has at least 3 nodes; found nodes={nodes}, chords={chords}")
    adjacency = np.roll(np.eye(nodes), 1, axis=1)
    ends = np.asarray(jax.random.randint(fold(key, "chords"), (2, chords), 0, nodes))
    adjacency[ends[0], ends[1]] = 1.0
    np.fill_diagonal(adjacency, 0.0)
    return np.maximum(adjacency, adjacency.T)


def train(
    key: Key[Array, ""],
    adjacency: Float[np.ndarray, "n n"],
    x: Float[Array | np.ndarray, "rows d"],
    y: Float[Array | np.ndarray, " targets"],
    *,
    subnets: int,
    width: int = 256,
    kappa: float = 1.0,
    local_steps: int = 1,
    rounds: int = 200,
    step: float = 0.5,
    seeds: int = 8,
) -> Float[np.ndarray, "seeds rounds1"]:
    """The error |y - yhat(t)|^2 of the whole network after t = 0, ..., ``rounds`` rounds.

    In float64, many seeds at once, as ``masked.train``.

    Args:
      key: of starts and masks.
      adjacency: the graph, symmetric, without self loops.
      x: features of the nodes.
      y: targets of the nodes.
      subnets: m.
      width: d_1, hidden features.
      local_steps: zeta.

    Raises:
      InputError: numbers out of range; arrays that do not fit the graph.

    Example:
      >>> graph = ring(jax.random.key(0), nodes=5, chords=1)
      >>> error = train(jax.random.key(1), graph, np.eye(5), np.ones(5), subnets=2, seeds=3)
      >>> error.shape
      (3, 201)
    """
    ranges.check(workers=subnets, width=width, kappa=kappa, local_steps=local_steps)
    ranges.check(rounds=rounds, step=step, seeds=seeds)
    spread, inputs = normalised(np.asarray(adjacency, np.float64)), np.asarray(x, np.float64)
    targets = np.asarray(y, np.float64)
    ranges.check_shapes(len(spread), {"x": inputs.shape, "y": targets.shape})
    with jax.enable_x64(True):
        return np.asarray(
            additive.run(
                key,
                Problem((spread, spread @ inputs), targets),
                1 / subnets,
                kappa,
                step,
                contributions=features,
                draw=additive.categorical,
                workers=subnets,
                shape=(width, inputs.shape[1]),
                local_steps=local_steps,
                rounds=rounds,
                seeds=seeds,
            )
        )
