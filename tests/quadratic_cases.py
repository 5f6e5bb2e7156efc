"""Small problems and every sketch, the library's beside the oracle's."""

import jax
import numpy as np
import quadratic_oracle as oracle

from ist_jax.sketch import quadratics, sketches


def problem(n, d, seed=0, **options):
    return quadratics.random(jax.random.key(seed), n, d, **options)


def precondition(problem):
    return np.sqrt(problem.n) * np.diagonal(problem.L, axis1=1, axis2=2) ** -0.5


# name: (n, d, the library's sketch of a problem, the oracle's)
FAMILY = {
    "identity": (2, 3, lambda p: sketches.identity(2, 3), lambda p: [(1.0, [np.eye(3)] * 2)]),
    "Perm-1": (4, 4, lambda p: sketches.perm(4, 4), lambda p: oracle.perm(4, 4, 4.0)),
    "Perm-2": (3, 6, lambda p: sketches.perm(3, 6), lambda p: oracle.perm(3, 6, 3.0)),
    "Perm-3": (2, 6, lambda p: sketches.perm(2, 6, q=3), lambda p: oracle.perm(2, 6, 2.0)),
    "Perm-2, s = 1": (
        2,
        4,
        lambda p: sketches.perm(2, 4, scale=1.0),
        lambda p: oracle.perm(2, 4, 1.0),
    ),
    "n = 2 d": (6, 3, lambda p: sketches.perm(6, 3), lambda p: oracle.shuffled(6, 3, 3.0)),
    "Rand-1": (3, 3, lambda p: sketches.rand(3, 3, 1), lambda p: oracle.rand(3, 3, 1, 3.0)),
    "Rand-2": (2, 4, lambda p: sketches.rand(2, 4, 2), lambda p: oracle.rand(2, 4, 2, 2.0)),
    "Bernoulli": (
        2,
        4,
        lambda p: sketches.bernoulli(2, 4, 0.3),
        lambda p: oracle.bernoulli(2, 4, 0.3, 1 / 0.3),
    ),
    "preconditioned": (
        4,
        4,
        lambda p: sketches.preconditioned(p),
        lambda p: oracle.perm(4, 4, None, precondition(p)),
    ),
    "preconditioned, q = 3": (
        2,
        6,
        lambda p: sketches.preconditioned(p, 3),
        lambda p: oracle.perm(2, 6, None, precondition(p)),
    ),
    "block preconditioned": (
        2,
        4,
        lambda p: sketches.block_preconditioned(p),
        lambda p: oracle.blocks_preconditioned(p.L, 2, 4),
    ),
}


def family(name):
    """A problem, the library's sketch for it, and the oracle's list of outcomes."""
    n, d, ours, theirs = FAMILY[name]
    given = problem(n, d)
    return given, ours(given), list(theirs(given))
