"""The exchange is gather and scatter, to the last bit, for any tree, any assignment, any D."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import same_bits
from jax.sharding import NamedSharding

from ist_jax import axes, decompose, partition
from ist_jax.core.errors import InputError
from ist_jax.cost import wire
from ist_jax.partition import Context
from ist_jax.sharded import at_home, exchange, layout, messages, placement, views

pytestmark = pytest.mark.optimized

WIDTHS = {"a": 12, "b": 9}


def tree(seed=0):
    """Every kind of leaf: cut once at the front and at the end, twice, with one name twice; shared;
    a convolution; stacked blocks; slices with padding and without; integers; and negative zeros."""
    draw = np.random.default_rng(seed)
    names = {
        "in": (None, "a"),
        "bias": ("a",),
        "inner": ("a", "b"),
        "crossed": ("b", None, "a"),
        "recurrent": ("b", "b"),
        "conv": (None, None, "a", "b"),
        "stacked": (None, "b", None),
        "out": ("b", None),
        "shared": (None, None),
        "count": ("a",),
        "half": (None, "b"),
    }
    sizes = {"in": (17, 0), "stacked": (3, 0, 2), "out": (0, 4), "shared": (3, 2), "half": (3, 0)}
    params = {}
    for leaf, axes_of in names.items():
        given = sizes.get(leaf, (2,) * len(axes_of))
        shape = [n if g is None else WIDTHS[g] for n, g in zip(given, axes_of, strict=True)]
        values = draw.normal(size=shape)
        values[draw.random(size=shape) < 0.2] = -0.0
        kind = {"count": jnp.int32, "half": jnp.bfloat16}.get(leaf, jnp.float32)
        params[leaf] = jnp.asarray(values * (10 if leaf == "count" else 1), kind)
    return params, names


def rolled(key, context):
    """The worst case: all of a worker's neurons are on one other device, at home and before."""
    workers = context.workers

    def blocks(n):
        ids = jnp.arange(-(-n // workers) * workers)
        return jnp.minimum(ids, n).reshape(workers, -1)

    rows = {g: blocks(n) for g, n in context.widths.items()}
    return {g: jnp.roll(ids, context.number, axis=0) for g, ids in rows.items()}


def overlapping(key, context):
    """Half of the neurons to each, drawn apart: some have many holders, some have none."""
    keys = jax.random.split(jax.random.fold_in(key, context.number), context.workers)
    return {
        g: jnp.stack([jnp.sort(jax.random.permutation(k, n)[: n // 2]) for k in keys])
        for g, n in context.widths.items()
    }


def everything(key, context):
    rows = lambda n: jnp.broadcast_to(jnp.arange(n), (context.workers, n))
    return {g: rows(n) for g, n in context.widths.items()}


def only_a(key, context):
    return {"a": partition.permutation(key, context)["a"]}


def unequal(key, context):
    """Shares that take turns, so that a slot that was full is empty in the next round."""
    who = partition.permutation(key, context, shares=(1, 2, 1, 3))
    return {g: jnp.roll(ids, context.number, axis=0) for g, ids in who.items()}


slow = pytest.mark.slow
CASES = [  # assignment, disjoint, S, D
    (unequal, True, 4, 2),
    (overlapping, False, 6, 3),
    pytest.param(rolled, True, 4, 4, marks=slow),
    pytest.param(partition.permutation, True, 6, 2, marks=slow),
    pytest.param(partition.balanced, True, 4, 4, marks=slow),
    pytest.param(only_a, True, 6, 3, marks=slow),
    pytest.param(everything, False, 4, 2, marks=slow),
]


@pytest.fixture(params=["whole lists", "row by row"])
def in_messages(request, monkeypatch):
    """As they are, a list fits into a chunk here and leaves go together; or neither is so."""
    if request.param == "row by row":
        monkeypatch.setattr(messages, "LEAST_BYTES", 1.0)
        monkeypatch.setattr(messages, "MOST_BYTES", 64.0)  # of slices, in several messages
    return request.param


@pytest.mark.parametrize(("assign", "disjoint", "size", "devices"), CASES)
def test_the_exchange_is_gather_and_scatter_to_the_last_bit(
    assign, disjoint, size, devices, key, in_messages
):
    params, names = tree()
    who, after = (assign(key, Context(WIDTHS, size, number)) for number in (1, 2))
    mesh = placement.mesh(size, devices)
    spread = layout.spread_out(
        axes.describe(params, names),
        slots={group: ids.shape[1] for group, ids in who.items()},
        workers=size,
        devices=devices,
        disjoint=disjoint,
        exact=True,
    )
    spread_as, split, all_of_it = spread.specs, placement.SPLIT, placement.EVERYWHERE
    gather = placement.shard_map(
        functools.partial(exchange.gather, spread),
        mesh=mesh,
        in_specs=(spread_as, all_of_it),
        out_specs=(split, all_of_it),
    )
    scatter = placement.shard_map(
        functools.partial(exchange.scatter, spread),
        mesh=mesh,
        in_specs=(spread_as, split, *(all_of_it,) * 3),
        out_specs=(spread_as, all_of_it),
    )

    @jax.jit
    def both(rest, who, after, took_part):
        nets, gathering = gather(rest, who)
        trained = jax.tree.map(lambda leaf: leaf + (leaf * 3).astype(leaf.dtype), nets)
        new, scattering = scatter(rest, trained, who, after, took_part)
        return nets, trained, new, gathering | scattering

    again = jax.jit(gather)  # as the next round begins
    rest = views.lay_out(spread, mesh, lambda key: params)(key, who)
    home = views.bring_home(spread, mesh)
    pick_up = jax.jit(
        lambda rows: at_home.from_home_shape(spread, rows),
        out_shardings=NamedSharding(mesh, all_of_it),
    )
    for took_part in (np.ones(size, bool), np.arange(size) != 1, np.zeros(size, bool)):
        nets, trained, new, chunks = both(rest, who, after, took_part)
        chunks = {name: int(number) for name, number in chunks.items()}
        assert chunks == wire.chunks(spread, who, after, took_part)
        assert in_messages == "whole lists" or max(chunks.values()) > 1
        assert same_bits(nets, decompose.gather(params, names, who))
        trained = jax.tree.map(
            np.asarray, trained
        )  # or scatter would run on the mesh, by XLA's rules
        expected = decompose.scatter(params, trained, names, who, took_part, disjoint=disjoint)
        assert same_bits(pick_up(home(new, after)), expected)
        assert same_bits(again(new, after)[0], decompose.gather(expected, names, after))


def test_fewer_neurons_than_devices():
    """A partition of one's own may give a neuron to several workers, and so have fewer than S."""
    params, names = {"w": jnp.zeros((3, 5))}, {"w": ("a", None)}
    net = axes.describe(params, names)
    with pytest.raises(InputError, match="group 'a' has 3 neurons for 4 devices"):
        layout.spread_out(net, slots={"a": 1}, workers=4, devices=4, disjoint=False, exact=False)
