"""The sketches C_1 .. C_n of one step: who holds which coordinates, and with which factor.

Every C_i here scales the coordinates that worker i holds and drops the others. A draw is therefore
``ids [n, m]`` (d marks an empty slot) and ``scales [n, m]``; for the block form each worker's
scale is a matrix, ``[n, m, m]``. A d x d matrix is made by ``dense`` only, to check with.

==========================  ============================================  ==========================
sketch                      who holds what                                C_i
==========================  ============================================  ==========================
``identity``                everybody everything: gradient descent, (25)  I
``perm``, d = q n           a permutation dealt out in blocks of q, (5)   n P_i
``perm``, n = q d           every coordinate is given to q workers        d e e'
``rand``                    q coordinates each, drawn independently       (d/q) P_i
``bernoulli``               each with a chance, independently             P_i / chance
``preconditioned``          as ``perm``, (12) and (32)                    n^1/2 P_i D_i^-1/2
``block_preconditioned``    as ``perm``                                   n^1/2 (P_i L_i P_i)^-1/2
==========================  ============================================  ==========================

``scale=s`` puts s P_i for the factor that makes a sketch unbiased; s = 1 is IST as practised.
Homogeneous preconditioning, (29), is ``perm`` on ``quadratics.preconditioned(problem)``.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.partition import Assignment, Context, Draw
from ist_jax.sketch import supports
from ist_jax.sketch.quadratics import Integer, Quadratics, Real, inverse_root
from ist_jax.sketch.supports import Support

MANY = 100_000  # outcomes; more are not enumerated


class Drawn(NamedTuple):
    """One draw: which coordinates each worker holds, and their factors."""

    ids: Int[Array | np.ndarray, "*draws m"]
    scales: Float[Array | np.ndarray, "*draws m"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sketch:
    """A family C_1 .. C_n of random matrices.

    Attributes:
      name: what tables and figures call it.
      n: workers.
      d: coordinates.
      support: who holds which coordinates.
      scales: ``ids -> [n, m]`` or ``[n, m, m]``, their factors.
      weights: the factor of each worker's coordinates ``[n, d]``, whenever it holds them; None if
        it depends on what else it holds.
    """

    name: str
    n: int
    d: int
    support: Support
    scales: Callable[[Int[Array, "n m"]], Float[Array, "n m *block"]]
    weights: Float[np.ndarray, "n d"] | None

    def draw(self, key: Key[Array, ""]) -> Drawn:
        """One draw of all n sketches, a pure function of the key.

        Raises:
          InputError: it is compiled by the caller without float64.

        Example:
          >>> drawn = perm(n=2, d=6).draw(jax.random.key(0))
          >>> sorted(drawn.ids.ravel().tolist()), drawn.scales[0].tolist()
          ([0, 1, 2, 3, 4, 5], [2.0, 2.0, 2.0])
        """
        if isinstance(key, jax.core.Tracer) and jnp.result_type(float) != jnp.float64:
            raise InputError("sketches are float64: compile them under jax.enable_x64(True)")
        with jax.enable_x64(True):
            ids = self.support.ids(key)
            return Drawn(ids, self.scales(ids))

    def outcomes(self) -> tuple[Float[np.ndarray, " K"], Drawn]:
        """The probability of every possible draw, and all of them: ids ``[K, n, m]``.

        Raises:
          InputError: there are too many.
        """
        return self._outcomes

    def factored(self, problem: Quadratics) -> Float[np.ndarray, "n d d"]:
        """W_i L_i W_i, where factors are fixed: C_i L_i C_i is its projection."""
        if self.weights is None:
            raise InputError(f"the factors of {self.name} are not fixed")
        return self.weights[:, :, None] * problem.L * self.weights[:, None, :]

    @functools.cached_property
    def _outcomes(self):
        if self.support.outcomes > MANY:
            raise InputError(
                f"{self.name} with n = {self.n}, d = {self.d} has {size(self.support.outcomes)} "
                f"outcomes; at most {MANY} are enumerated"
            )
        chances, ids = zip(*self.support.possible(), strict=True)
        with jax.enable_x64(True):
            stacked = jnp.asarray(np.array(ids, np.int32))
            scales = np.asarray(jax.vmap(self.scales)(stacked))
        return np.array(chances), Drawn(np.asarray(stacked), scales)


def size(count: int) -> str:
    """A number that may have more digits than a float can hold."""
    return str(count) if count < 10**9 else f"about 10^{math.log10(count):.0f}"


def identity(n: Integer, d: Integer) -> Sketch:
    """C_i = I."""
    n, d = _counts(n, d)
    return _scaled("gradient descent", n, d, supports.everything(n, d), 1.0)


def perm(n: Integer, d: Integer, q: Integer | None = None, scale: Real | None = None) -> Sketch:
    """Perm-q, (5). d = q n: a worker holds q coordinates, all of them are held once; n = q d: a
    worker holds one, each is held by q workers.

    Raises:
      InputError: neither q n = d nor n = q d.
    """
    n, d = _counts(n, d)
    found = max(d // n, n // d) if q is None else operator.index(q)
    if found * n == d:
        support, unbiased = supports.dealt(n, d, found), n
    elif found * d == n:
        support, unbiased = supports.shuffled(n, d, found), d
    else:
        asked = "" if q is None else f"q={q}, "
        raise InputError(f"Perm-q needs q n = d or n = q d; found {asked}n={n}, d={d}")
    return _scaled(f"Perm-{found}", n, d, support, unbiased if scale is None else scale)


def rand(n: Integer, d: Integer, q: Integer, scale: Real | None = None) -> Sketch:
    """Rand-q: every worker draws q of the coordinates for itself.

    Raises:
      InputError: q is not between 1 and d.
    """
    n, d = _counts(n, d)
    support = supports.rand(n, d, operator.index(q))
    return _scaled(f"Rand-{q}", n, d, support, d / q if scale is None else scale)


def bernoulli(n: Integer, d: Integer, chance: Real, scale: Real | None = None) -> Sketch:
    """Every worker holds every coordinate with a chance, all independently.

    Raises:
      InputError: a chance outside (0, 1].
    """
    n, d = _counts(n, d)
    support = supports.bernoulli(n, d, chance)
    return _scaled(f"Bernoulli {chance:g}", n, d, support, 1 / chance if scale is None else scale)


def preconditioned(problem: Quadratics, q: Integer | None = None) -> Sketch:
    """Perm-q whose factors are n^1/2 D_i^-1/2, (12) and (32). For q = 1, Bbar = I in every draw.

    Raises:
      InputError: q n is not d; a diagonal entry that is zero (it names worker and coordinate).
    """
    base = _in_blocks(problem, q)
    weights = np.sqrt(problem.n) * inverse_root(problem.D)
    return _weighted(f"preconditioned {base.name}", problem.n, problem.d, base.support, weights)


def block_preconditioned(problem: Quadratics, q: Integer | None = None) -> Sketch:
    """Perm-q whose factor is n^1/2 times the inverse root of the worker's own block of L_i.

    Bbar = I in every draw, for any q; q = 1 is ``preconditioned``.

    Raises:
      InputError: q n is not d, or L of a worker is singular (it is named), so that a block may be.
    """
    base = _in_blocks(problem, q)
    lowest = np.linalg.eigvalsh(problem.L)[:, 0]
    worker = int(lowest.argmin())
    if lowest[worker] <= 0:
        raise InputError(
            f"L of worker {worker} is singular (smallest eigenvalue {lowest[worker]:.3g}): a block "
            "of it may have no inverse root"
        )

    def scales(ids):
        blocks = jax.vmap(lambda L, held: L[held[:, None], held])(jnp.asarray(problem.L), ids)
        values, vectors = jnp.linalg.eigh(blocks)
        roots = jnp.sqrt(problem.n / values)
        return (vectors * roots[..., None, :]) @ vectors.swapaxes(-1, -2)

    name = f"block preconditioned {base.name}"
    return Sketch(name, problem.n, problem.d, base.support, scales, None)


def fitting(problem: Quadratics, sketch: Sketch | Integer) -> Sketch:
    """A sketch for this problem; a number q stands for Perm-q.

    Raises:
      InputError: the sketch is for other numbers of workers or coordinates.
    """
    if not isinstance(sketch, Sketch):
        return perm(problem.n, problem.d, sketch)
    if (sketch.n, sketch.d) != (problem.n, problem.d):
        raise InputError(
            f"the sketch is for n={sketch.n}, d={sketch.d}, the problem has n={problem.n}, "
            f"d={problem.d}"
        )
    return sketch


def dense(drawn: Drawn, d: int) -> Float[np.ndarray, "*draws n d d"]:
    """The matrices C_i of a draw."""
    ids, scales = np.asarray(drawn.ids), np.asarray(drawn.scales)
    hot = (ids[..., None] == np.arange(d)).astype(float)
    blocks = scales[..., None] * np.eye(ids.shape[-1]) if scales.ndim == ids.ndim else scales
    return hot.swapaxes(-1, -2) @ blocks @ hot


def as_draw(sketch: Sketch, group: str) -> Draw:
    """The same draws as an assignment of one group, for ``ist_jax.build`` under float64.

    In round k a trainer with key K trains the coordinates that ``iterate.run`` draws in step k of a
    run with key K.
    """

    def draw(key: Key[Array, ""], context: Context) -> Assignment:
        return {group: jnp.sort(sketch.draw(fold(key, context.number)).ids, axis=1)}

    return draw


def _counts(n: Integer, d: Integer) -> tuple[int, int]:
    """As Python's own integers, which do not overflow."""
    n, d = operator.index(n), operator.index(d)
    if min(n, d) < 1:
        raise InputError(f"need at least one worker and one coordinate, found n={n}, d={d}")
    return n, d


def _scaled(name: str, n: int, d: int, support: Support, scale: Real) -> Sketch:
    if not 0 < scale < np.inf:
        raise InputError(f"the scale of a sketch must be positive and finite, found {scale}")
    return _weighted(name, n, d, support, np.full((n, d), float(scale)))


def _weighted(name: str, n: int, d: int, support: Support, weights: np.ndarray) -> Sketch:
    table = np.pad(weights, ((0, 0), (0, 1)))  # an empty slot has the factor 0
    scales = lambda ids: jnp.take_along_axis(jnp.asarray(table), ids, axis=1)
    return Sketch(name, n, d, support, scales, weights)


def _in_blocks(problem: Quadratics, q: Integer | None) -> Sketch:
    base = perm(problem.n, problem.d, q)
    if base.n > base.d:
        raise InputError(f"preconditioning needs q n = d; found n={base.n} workers, d={base.d}")
    return base
