"""The printed theorems as functions: the rate, the error region, and the conditions they ask for.

All but LoFT's read: expected error after k rounds <= rate^k (error at the start) + region. A region
stands behind an O(.) in print, a condition behind an O, Omega or Theta (read as a least width).
Those constants are given nowhere, so they are arguments (``Constants``), 1 by default. With 1, a
region is a curve whose shape can be compared, not a bound that was proved; and the conditions ask
for widths that nobody trains.

lambda_0 and lambda_max are the ends of the spectrum of H^inf (``kernels.spectrum``), delta is the
probability that the statement fails. Sources: with each function.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ist_jax.theory.ranges import check


class Setting(NamedTuple):
    """What every theorem speaks of, with the letters the papers use."""

    examples: int  # n
    workers: int  # p, S, or GIST's m
    rounds: int  # K, or T
    step: float  # eta
    width: int  # m, or GIST's d_1
    local_steps: int = 1  # tau, l, or zeta
    delta: float = 0.1


class Constants(NamedTuple):
    """The unknown factors: of the region, of the largest step, of the least width."""

    region: float = 1.0
    step: float = 1.0
    width: float = 1.0


class Bound(NamedTuple):
    """rate^k (error at the start) + region, where region = constant * (sum of the named terms).

    conditions: whether each that is printed holds, constants as given.
    """

    rate: float
    region: float
    terms: Mapping[str, float]
    conditions: Mapping[str, bool]

    def after(self, rounds: int, start: float) -> float:
        """The right-hand side after so many rounds.

        Example:
          >>> Bound(0.5, 1.0, {}, {}).after(rounds=2, start=8.0)
          3.0
        """
        return self.rate**rounds * start + self.region


UNKNOWN = Constants()


def active(xi: float, workers: int) -> float:
    """theta = 1 - (1 - xi)^p: the chance that a neuron has a holder under Bernoulli masks."""
    return 1 - (1 - xi) ** workers


def corollary_3(s: Setting, *, lambda_0: float, xi: float, constants: Constants = UNKNOWN) -> Bound:
    """Bernoulli masks: rate 1 - step theta tau lambda_0 / 4.

    region = (1 - xi)^2 / (n K) + (theta - xi^2) / p + (1 - 1/tau) theta^2 (1 - xi). Neither kappa
    nor the width shows in it. All three constants are unknown.
    Source: Liao & Kyrillidis (TMLR 2022), corollary 3.

    Example:
      >>> s = Setting(examples=10, workers=4, rounds=100, step=0.1, width=512)
      >>> bound = corollary_3(s, lambda_0=0.1, xi=1.0)
      >>> bound.region, round(bound.rate, 6)
      (0.0, 0.9975)
    """
    check(**s._asdict(), lambda_0=lambda_0, xi=xi)
    n, tau, theta = s.examples, s.local_steps, active(xi, s.workers)
    terms = {
        "masks of the run": (1 - xi) ** 2 / (n * s.rounds),
        "masks of a round": (theta - xi**2) / s.workers,
        "local steps": (1 - 1 / tau) * theta**2 * (1 - xi),
    }
    most = lambda_0 / (n * tau * max(n, s.workers))
    least = n**5 * s.rounds / (xi * theta * lambda_0**4 * s.delta)
    return _bound(s, 1 - s.step * theta * tau * lambda_0 / 4, terms, most, least, constants)


def theorem_4(
    s: Setting,
    *,
    lambda_0: float,
    lambda_max: float,
    kappa: float | None = None,
    constants: Constants = UNKNOWN,
) -> Bound:
    """Categorical masks: rate gamma + (1 - gamma)(1 - step lambda_0 / 2)^tau.

    gamma = (1 - 1/p)^(1/3); region = gamma tau n kappa^2 lambda_max / lambda_0^2. The theorem sets
    kappa = sqrt(n lambda_max) / lambda_0, the default; the region is then
    gamma tau n^2 lambda_max^2 / lambda_0^4. It does *not* fall with the width, which only enters a
    condition. Measured errors do fall with it. All three constants are unknown.
    Source: Liao & Kyrillidis (TMLR 2022), theorem 4.

    Example:
      >>> s = Setting(examples=10, workers=1, rounds=100, step=0.1, width=512)
      >>> theorem_4(s, lambda_0=0.1, lambda_max=2.0).region
      0.0
    """
    check(**s._asdict(), lambda_0=lambda_0, lambda_max=lambda_max)
    n, tau, gamma = s.examples, s.local_steps, _gamma(s.workers)
    stated = math.sqrt(n * lambda_max) / lambda_0
    kappa = stated if kappa is None else kappa
    check(kappa=kappa)
    terms = {"masks": gamma * tau * n * kappa**2 * lambda_max / lambda_0**2}
    slowed = s.workers / (gamma**2 * tau) if gamma else math.inf
    most = lambda_0 / n**2 * min(slowed, 1)
    least = n**5 * tau**2 * s.rounds * lambda_max / (lambda_0**6 * s.delta)
    bound = _bound(s, _mixed(s, gamma, lambda_0), terms, most, least, constants)
    as_stated = {"kappa": math.isclose(kappa, stated)}
    return bound._replace(conditions={**bound.conditions, **as_stated})


def gist_theorem_2(
    s: Setting,
    *,
    lambda_0: float,
    dimension: int,
    norm_a2: float,
    constants: Constants = UNKNOWN,
) -> Bound:
    """GIST, a one-hidden-layer GCN in m = ``workers`` subnets: the rate of theorem 4.

    region = (m - 1)^2 zeta |A^2|_1,1 n d / (gamma m^2 d_1): it falls with the width d_1, and is 0
    at m = 1 (its limit; gamma is 0 there, and the condition on the width cannot hold as printed).
    gamma is not defined where the theorem is printed, and taken from theorem 4. ``norm_a2`` is the
    sum of the sizes of the entries of A_bar^2; the printed condition on the step has A^2 without
    the bar, read as A_bar^2. All three constants are unknown. Source: Wolfe
    et al., GIST (2023), theorem 2.
    """
    check(**s._asdict(), lambda_0=lambda_0, dimension=dimension, norm_a2=norm_a2)
    n, m, gamma = s.examples, s.workers, _gamma(s.workers)
    region, least = 0.0, math.inf
    if m > 1:
        region = (m - 1) ** 2 * s.local_steps * norm_a2 * n * dimension
        region /= gamma * m**2 * s.width
        least = n**3 * (s.local_steps * s.rounds / s.delta) ** 2 * (n + dimension / m**2 * norm_a2)
        least /= gamma * (1 - gamma) ** 2 * lambda_0**4
    most = lambda_0 / (n**2 * norm_a2)
    return _bound(s, _mixed(s, gamma, lambda_0), {"masks": region}, most, least, constants)


def loft_theorem_3(
    s: Setting,
    *,
    lambda_0: float,
    dimension: int,
    xi: float,
    kappa: float,
    constants: Constants = UNKNOWN,
) -> Bound:
    """LoFT against ordinary training: |W_T - What_T|_F^2 + step sum_t |f(W_t) - f(What_t)|^2.

    Both start from the same weights, so the rate is 0: the region is all there is,
    n^2 sqrt(d) / (lambda_0^2 kappa m^(1/4) sqrt(delta)) + 2 step^2 T theta^2 (1 - xi) lambda_0 / S.
    The first term does not fall as xi -> 1, the second does not fall with the width. The K of the
    printed condition is taken for T. All three constants are unknown, and one stands before both
    terms. Source: Wang et al., LoFT (2022), theorem 3 (one-hidden-layer CNNs).
    """
    check(**s._asdict(), lambda_0=lambda_0, dimension=dimension, xi=xi, kappa=kappa)
    n, theta = s.examples, active(xi, s.workers)
    by_width = n**2 * math.sqrt(dimension) / (lambda_0**2 * kappa * s.width**0.25)
    by_masks = 2 * s.step**2 * s.rounds * theta**2 * (1 - xi) * lambda_0 / s.workers
    terms = {"width": by_width / math.sqrt(s.delta), "masks": by_masks}
    least = n**4 * s.rounds**2 / (lambda_0**4 * s.delta**2) * max(n, dimension)
    return _bound(s, 0.0, terms, lambda_0 / n**2, least, constants)


def resist_theorem_b1(
    s: Setting, *, lambda_min: float, depth: int, constants: Constants = UNKNOWN
) -> Bound:
    """ResIST, a ResNet of ``depth`` H: the loss falls by 1 - step l lambda_min / 2 a round, to 0.

    There is no region. lambda_min is that of the kernel K^(H) of the last hidden layer. The
    constants of step and width are unknown. Source: Dun et al., ResIST (UAI 2022),
    theorem B.1.
    """
    check(**s._asdict(), lambda_min=lambda_min, depth=depth)
    n, ratio = s.examples, s.examples / lambda_min
    most = lambda_min * depth**2 / (n**2 * s.local_steps**2 * s.workers)
    by_ratio = (ratio**4 / depth**6, ratio**2 / depth**2, ratio**2 * math.log(depth * n / s.delta))
    least = max(*by_ratio, n / s.delta)
    rate = 1 - s.step * s.local_steps * lambda_min / 2
    return _bound(s, rate, {}, most, least, constants)


def asynchronous(
    s: Setting,
    *,
    lambda_0: float,
    xi: float,
    kappa: float,
    dimension: int,
    delay: float,
    constant: float = 1.0,
) -> Bound:
    """Masked training with stale updates: rate 1 - theta step lambda_0 / 4, and seven terms.

    They are named after their place in the printed sum and what drives them. ``delay`` is its E,
    which is not defined there; theta is taken for ``active``. No conditions are printed beside it,
    local steps do not show, and the constant, one for all terms, is unknown.
    Source: the bound for asynchronous training of Dun et al. (AsyncDrop).
    """
    check(**s._asdict(), lambda_0=lambda_0, xi=xi, kappa=kappa, dimension=dimension, delay=delay)
    n, m, theta, k2 = s.examples, s.width, active(xi, s.workers), kappa**2
    masks, moved = (xi * (1 - xi)) ** 2, theta * s.step
    terms = {
        "1 delay": moved * lambda_0**3 * xi**2 * k2 * delay**2 / n**2,
        "2 masks, 1/m": masks * moved * n**3 * k2 * dimension / (m * lambda_0),
        "3 delay, 1/m^4": moved**2 * n * k2 * lambda_0 * xi**4 * delay**2 / m**4,
        "4 masks, 1/m^3": masks * moved**2 * n**2 * k2 * dimension / (m**3 * lambda_0),
        "5 masks and delay, 1/m^3": masks * moved**2 * k2 * lambda_0 * delay**2 / m**3,
        "6 masks, 1/m^2": masks * moved**2 * n**2 * k2 * dimension / (m**2 * lambda_0),
        "7 masks, 1/S": n * k2 * (theta - xi**2) / s.workers,
    }
    return Bound(1 - moved * lambda_0 / 4, constant * sum(terms.values()), terms, {})


def _gamma(workers: int) -> float:
    return (1 - 1 / workers) ** (1 / 3)


def _mixed(s: Setting, gamma: float, lambda_0: float) -> float:
    return gamma + (1 - gamma) * (1 - s.step * lambda_0 / 2) ** s.local_steps


def _bound(
    s: Setting, rate: float, terms: dict[str, float], most: float, least: float, c: Constants
) -> Bound:
    """``most`` is the largest step, ``least`` the least width, up to their constants."""
    conditions = {"step": s.step <= c.step * most, "width": s.width >= c.width * least}
    return Bound(rate, c.region * sum(terms.values()), terms, conditions)
