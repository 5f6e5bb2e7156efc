"""Networks that are a sum over their neurons, trained under random masks: one round for them all.

The output is (xi / sqrt N) sum_r c_r(w_r; x), where neuron r contributes a function of its own
weights alone. Leaving neurons out of the sum is therefore exactly a subnet, and training it moves
no other weights. The networks of the theory (shallow, convolutional, graph) differ in c only.

A worker's surrogate is (1 / sqrt N) sum_r mask_r c_r: no xi, which is what its mask does on
average. The loss is 1/2 |y - f|^2, with the half, so that gradient flow shrinks y - f at the rate
of the kernel, as in the printed rates 1 - step lambda_0 / 2.

A round (Liao & Kyrillidis, "On the Convergence of Shallow Neural Network Training with Randomly
Masked Neurons", Algorithm 1): draw masks, J gradient steps of every worker on its surrogate, then
w_r <- w_r + (N'_r / N_r) sum_l delta w_r^l with N_r = max(sum_l mask_r^l, 1) and
N'_r = min(sum_l mask_r^l, 1): the mean over the workers that held neuron r, if any did.

Axes: S workers, N neurons, d weights of one neuron, n examples.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from ist_jax.core.keys import Number, fold

Masks = Bool[Array, "S N"]
# (weights [N, d], signs [N, ...], inputs) -> [n, N]: what every neuron adds to every output.
Contributions = Callable[[Array, Array, Any], Array]
# (key, workers, width, xi) -> bool[S, N]
Draw = Callable[[Key[Array, ""], int, int, Number | float], Masks]


class Net(NamedTuple):
    """Weights that are trained, and a second layer of +-1 that is not."""

    weights: Float[Array, "N d"]
    signs: Float[Array, "N ..."]


class Problem(NamedTuple):
    """The data: inputs as the contributions read them, and one target an example."""

    inputs: Any
    targets: Float[Array | np.ndarray, " n"]


def bernoulli(key: Key[Array, ""], workers: int, width: int, xi: Any) -> Masks:
    """Every worker holds every neuron with probability xi, independently."""
    return jax.random.bernoulli(key, xi, (workers, width))


def categorical(key: Key[Array, ""], workers: int, width: int, xi: Any) -> Masks:
    """Every neuron goes to exactly one worker, drawn uniformly: xi = 1/S, not asked for."""
    holder = jax.random.randint(key, (width,), 0, workers)
    return holder == jnp.arange(workers)[:, None]


def assignment(masks: Masks) -> dict[str, Int[Array, "S N"]]:
    """The same masks as an assignment of the library, for one group "hidden".

    Workers hold unequal numbers of neurons: every row has N slots, the rest of them empty.

    Example:
      >>> assignment(jnp.array([[True, False, True], [False, True, False]]))["hidden"]
      Array([[0, 2, 3],
             [1, 3, 3]], dtype=int32)
    """
    width = masks.shape[1]
    ids = jnp.where(masks, jnp.arange(width, dtype=jnp.int32), jnp.int32(width))
    return {"hidden": jnp.sort(ids, axis=1)}


def start(
    key: Key[Array, ""], shape: tuple[int, int], kappa: Any, places: tuple[int, ...] = ()
) -> Net:
    """Weights from N(0, kappa^2), signs +-1 with equal chance (one for each place, if any)."""
    weights = kappa * jax.random.normal(fold(key, "weights"), shape)
    signs = jax.random.rademacher(fold(key, "signs"), (shape[0], *places), weights.dtype)
    return Net(weights, signs)


def output(
    contributions: Contributions,
    net: Net,
    inputs: Any,
    mask: Bool[Array, " N"] | None = None,
    scale: Any = 1.0,
) -> Float[Array, " n"]:
    """The surrogate of a mask; without one and with scale xi, the whole network."""
    each = contributions(net.weights, net.signs, inputs)
    total = each.sum(axis=1) if mask is None else each @ mask.astype(each.dtype)
    return scale * total / np.sqrt(each.shape[1])


def loss(
    contributions: Contributions,
    net: Net,
    problem: Problem,
    mask: Bool[Array, " N"] | None = None,
    scale: Any = 1.0,
) -> Float[Array, ""]:
    """1/2 |y - f|^2 of the surrogate of a mask, or of the whole network."""
    residual = output(contributions, net, problem.inputs, mask, scale) - problem.targets
    return 0.5 * jnp.square(residual).sum()


def local(
    contributions: Contributions,
    net: Net,
    problem: Problem,
    mask: Bool[Array, " N"] | None,
    local_steps: int,
    step: Any,
    scale: Any = 1.0,
) -> Float[Array, "N d"]:
    """The weights after J gradient steps of one worker; ``step`` is the step size."""

    def once(weights, _):
        at = lambda w: loss(contributions, net._replace(weights=w), problem, mask, scale)
        return weights - step * jax.grad(at)(weights), None

    return lax.scan(once, net.weights, length=local_steps)[0]


def aggregate(
    before: Float[Array, "N d"], after: Float[Array, "S N d"], masks: Masks
) -> Float[Array, "N d"]:
    """Adds to every neuron the mean change over its holders; without one it keeps its bits."""
    holders = masks.sum(axis=0)[:, None]  # N_r, before it is kept from 0
    change = (masks[:, :, None].astype(before.dtype) * (after - before)).sum(axis=0)
    moved = before + change / jnp.maximum(holders, 1).astype(before.dtype)
    return jnp.where(holders > 0, moved, before)


def one_round(
    contributions: Contributions,
    net: Net,
    problem: Problem,
    masks: Masks,
    local_steps: int,
    step: Any,
) -> Net:
    """One round on masks that are already drawn."""
    work = lambda mask: local(contributions, net, problem, mask, local_steps, step)
    return net._replace(weights=aggregate(net.weights, jax.vmap(work)(masks), masks))


def rollout(
    one_round: Callable[[Net, Masks], Net],
    observe: Callable[[Net, Masks], Any],
    net: Net,
    masks_of: Callable[[Array], Masks],
    rounds: int,
) -> tuple[Net, Any]:
    """Many rounds in one ``scan``.

    Returns:
      The last net, and what ``observe`` saw with the masks of each round before it was trained, and
      once more at the end: leaves ``[rounds + 1, ...]``.
    """

    def body(net, number):
        masks = masks_of(number)
        return one_round(net, masks), observe(net, masks)

    net, seen = lax.scan(body, net, jnp.arange(rounds))
    last = observe(net, masks_of(jnp.asarray(rounds)))
    return net, jax.tree.map(lambda a, b: jnp.append(a, b[None], axis=0), seen, last)


def error(contributions: Contributions, net: Net, masks: Masks, problem: Problem, xi: Any) -> Any:
    """|y - u|^2 of the whole network: twice its loss. What ``observe`` is by default."""
    return 2 * loss(contributions, net, problem, scale=xi)


@functools.partial(
    jax.jit,
    static_argnames=(
        *("contributions", "draw", "observe", "workers"),
        *("shape", "places", "local_steps", "rounds", "seeds"),
    ),
)
def run(
    key: Key[Array, ""],
    problem: Problem,
    xi: Any,
    kappa: Any,
    step: Any,
    *,
    contributions: Contributions,
    draw: Draw,
    workers: int,
    shape: tuple[int, int],
    local_steps: int,
    rounds: int,
    seeds: int,
    places: tuple[int, ...] = (),
    observe: Callable[..., Any] = error,
) -> Any:
    """Everything at once: seeds by ``vmap``, each with a start and masks of its own.

    The start of a seed depends on neither xi, S nor J: curves over those are paired comparisons.
    Only numbers that change shapes compile anew.

    Returns:
      What ``observe(contributions, net, masks, problem, xi)`` saw, ``[seeds, rounds + 1, ...]``.
    """

    def of_seed(seed):
        mine = fold(key, "seed", seed)
        _, seen = rollout(
            lambda net, masks: one_round(contributions, net, problem, masks, local_steps, step),
            lambda net, masks: observe(contributions, net, masks, problem, xi),
            start(mine, shape, kappa, places),
            lambda number: draw(fold(mine, "masks", number), workers, shape[0], xi),
            rounds,
        )
        return seen

    return jax.vmap(of_seed)(jnp.arange(seeds))
