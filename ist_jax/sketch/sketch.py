"""A sketch: random matrices C_1 .. C_n, drawn or enumerated. ``sketches`` makes them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ist_jax.core.errors import InputError
from ist_jax.sketch.quadratics import Quadratics
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
          >>> from ist_jax.sketch import sketches
          >>> drawn = sketches.perm(n=2, d=6).draw(jax.random.key(0))
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
                f"{self.name} with n = {self.n}, d = {self.d} has "
                f"{in_words(self.support.outcomes)} outcomes; at most {MANY} are enumerated"
            )
        chances, ids = zip(*self.support.possible(), strict=True)
        with jax.enable_x64(True):
            stacked = jnp.asarray(np.array(ids, np.int32))
            scales = np.asarray(jax.vmap(self.scales)(stacked))
        return np.array(chances), Drawn(np.asarray(stacked), scales)


def in_words(count: int) -> str:
    """A number that may have more digits than a float can hold."""
    return str(count) if count < 10**9 else f"about 10^{math.log10(count):.0f}"
