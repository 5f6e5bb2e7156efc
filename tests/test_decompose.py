"""Gather and scatter against a NumPy oracle that loops over workers, slots and entries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mlp_tree, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ist_jax import axes, decompose, partition
from ist_jax.core.errors import InputError

pytestmark = pytest.mark.usefixtures("strict_types")

GROUPS = ("a", "b", "c")


def oracle_gather(leaf, names, who, worker):
    """Entry by entry; an id equal to the width is zero."""
    shape = [who[g].shape[1] if g in who else n for n, g in zip(leaf.shape, names, strict=True)]
    out = np.zeros(shape, leaf.dtype)
    for index in np.ndindex(*shape):
        source = tuple(
            who[g][worker, i] if g in who else i for i, g in zip(index, names, strict=True)
        )
        if all(i < n for i, n in zip(source, leaf.shape, strict=True)):
            out[index] = leaf[source]
    return out


def oracle_scatter(leaf, nets, names, who, took_part):
    """Every entry: the values of its holders, in their order, added up, over their number."""
    out = leaf.copy()
    for index in np.ndindex(*leaf.shape):
        values = []
        for worker in np.flatnonzero(took_part):
            slots = [
                np.flatnonzero(who[g][worker] == i) if g in who else [i]
                for i, g in zip(index, names, strict=True)
            ]
            for slot in itertools.product(*slots):
                values.append(nets[(worker, *slot)])
        if values:
            total = values[0]
            for value in values[1:]:
                total = np.add(total, value, dtype=leaf.dtype)
            out[index] = total * leaf.dtype.type(1 / len(values))
    return out


@st.composite
def problems(draw):
    """A random tree with random names, and any assignment: overlapping, with holes, of any S."""
    widths = {g: draw(st.integers(1, 5)) for g in GROUPS}
    workers = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    params, names = {}, {}
    for leaf in range(draw(st.integers(1, 4))):
        leaf_names = tuple(draw(st.lists(st.sampled_from([*GROUPS, None]), max_size=4)))
        shape = [widths[g] if g else int(rng.integers(1, 4)) for g in leaf_names]
        params[f"leaf{leaf}"] = rng.normal(size=shape).astype(np.float32)
        names[f"leaf{leaf}"] = leaf_names
    present = {g for leaf_names in names.values() for g in leaf_names if g}
    who = {}
    for group in sorted(present):
        if draw(st.booleans()):
            slots = draw(st.integers(1, widths[group]))
            ids = np.stack([rng.permutation(widths[group])[:slots] for _ in range(workers)])
            holes = rng.random(ids.shape) < draw(st.sampled_from([0.0, 0.4]))
            who[group] = np.where(holes, widths[group], ids).astype(np.int32)
    return params, names, who, workers, rng


def compiled(names, workers, disjoint):
    """The three functions as one program each: compiling every operation apart takes minutes."""
    return (
        jax.jit(lambda params, who: decompose.gather(params, names, who, workers)),
        jax.jit(lambda params, who, worker: decompose.gather_one(params, names, who, worker)),
        jax.jit(
            lambda params, nets, who, took_part: decompose.scatter(
                params, nets, names, who, took_part, disjoint=disjoint
            )
        ),
    )


@pytest.mark.optimized
@given(problems())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_gather_and_scatter_are_the_oracle(problem):
    params, names, who, workers, rng = problem
    given_who = {g: jnp.asarray(ids) for g, ids in who.items()}
    alone = partition.is_disjoint(who, axes.widths(params, names))
    gather, gather_one, scatter = compiled(names, workers, alone)
    nets = gather(params, given_who)
    for worker in range(workers):
        one = gather_one(params, given_who, worker)
        for leaf in params:
            expected = oracle_gather(params[leaf], names[leaf], who, worker)
            assert same_bits(np.asarray(nets[leaf][worker]), expected)
            assert same_bits(np.asarray(one[leaf]), expected)

    changed = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in nets.items()}
    took_part = rng.random(workers) < 0.7
    back = scatter(params, changed, given_who, jnp.asarray(took_part))
    for leaf in params:
        expected = oracle_scatter(params[leaf], changed[leaf], names[leaf], who, took_part)
        assert same_bits(np.asarray(back[leaf]), expected)


TREES = {
    "mlp": (
        {"w0": (5, 12), "s": (12,), "w1": (12, 9), "w2": (9, 3)},
        {"w0": (None, "h0"), "s": ("h0",), "w1": ("h0", "h1"), "w2": ("h1", None)},
    ),
    "convolution": (
        {"k0": (3, 3, 2, 6), "k1": (3, 3, 6, 8), "dense": (4, 4, 8, 10)},
        {
            "k0": (None, None, None, "f0"),
            "k1": (None, None, "f0", "f1"),
            "dense": (None, None, "f1", "h"),
        },
    ),
    "depth": (
        {"blocks": (7, 4, 4), "stem": (3, 4)},
        {"blocks": ("depth", None, None), "stem": None},
    ),
    "heads": (
        {"qkv": (3, 8, 6, 5), "out": (6, 5, 8)},
        {"qkv": (None, None, "heads", None), "out": ("heads", None, None)},
    ),
    "embedding": ({"table": (20, 6), "up": (6, 9)}, {"table": (None, "d"), "up": ("d", "ff")}),
    "recurrent": ({"u": (4, 9), "w": (9, 9)}, {"u": (None, "h"), "w": ("h", "h")}),
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("workers", [1, 3, 4])
@pytest.mark.parametrize("draw", [partition.permutation, partition.balanced])
def test_gather_then_scatter_is_the_identity(tree, workers, draw, key):
    """Oracle 1, first half: any architecture, even and uneven widths, also negative zeros.

    Scattered into the net itself and into another one, so that doing nothing is not enough: there,
    exactly the entries all of whose neurons have one worker must be the net's.
    """
    shapes, names = TREES[tree]
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    for leaf in params.values():
        leaf.flat[::3] = -0.0
    other = {k: leaf + 1 for k, leaf in params.items()}
    who = draw(key, axes.widths(params, names), workers)
    for disjoint in (True, False):
        gather, _, scatter = compiled(names, workers, disjoint)
        nets = gather(params, who)
        back, moved = scatter(params, nets, who, None), scatter(other, nets, who, None)
        for leaf, value in back.items():
            held = held_by_one(names[leaf] or (), params[leaf].shape, who)
            assert held.any()
            assert same_bits(np.asarray(value), params[leaf])
            expected = np.where(held, params[leaf], other[leaf])
            assert same_bits(np.asarray(moved[leaf]), expected)


def held_by_one(names, shape, who):
    """Which entries of a leaf one worker holds, or all do, ``bool`` of its shape."""
    owners = []
    for axis, group in enumerate(names):
        if group is not None:
            owner = np.zeros(shape[axis], int)
            for worker, ids in enumerate(np.asarray(who[group])):
                owner[ids[ids < shape[axis]]] = worker
            owners.append(owner.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    if not owners:  # a shared leaf: all hold it, and alike
        return np.ones(shape, bool)
    return np.broadcast_to(np.all([o == owners[0] for o in np.broadcast_arrays(*owners)], 0), shape)


def test_only_the_diagonal_blocks_of_an_inner_matrix_are_touched(key):
    """Oracle 1, second half."""
    params, names = mlp_tree((5, 12, 8, 3))
    who = partition.permutation(key, axes.widths(params, names), workers=4)
    nets = jax.tree.map(lambda x: x + 1, decompose.gather(params, names, who))
    back = decompose.scatter(params, nets, names, who)
    touched = np.asarray(back["w1"] != params["w1"])
    expected = np.zeros((12, 8), bool)
    for rows, columns in zip(np.asarray(who["h0"]), np.asarray(who["h1"]), strict=True):
        expected[np.ix_(rows, columns)] = True
    assert (touched == expected).all()
    assert touched.sum() == 12 * 8 / 4
    assert (back["w0"] != params["w0"]).all()
    assert (back["w2"] != params["w2"]).all()


def test_a_neuron_is_the_same_neuron_in_every_leaf(key):
    """Oracle 4: mark each neuron with its id in every leaf that names it."""
    ids = jnp.arange(12.0)
    params = {"in": jnp.tile(ids, (3, 1)), "norm": ids, "out": jnp.tile(ids[:, None], (1, 2))}
    names = {"in": (None, "h"), "norm": ("h",), "out": ("h", None)}
    nets = decompose.gather(params, names, partition.permutation(key, {"h": 12}, 3))
    for worker in range(3):
        assert (nets["in"][worker] == nets["norm"][worker][None, :]).all()
        assert (nets["out"][worker] == nets["norm"][worker][:, None]).all()


def test_workers_of_unequal_capacity(key):
    params, names = mlp_tree((5, 12, 8, 3))
    who = partition.permutation(key, axes.widths(params, names), 3, shares=(1, 1, 2))
    nets = decompose.gather(params, names, who)
    assert nets["w0"].shape == (3, 5, 6)
    assert (nets["w0"][0, :, 3:] == 0).all(), "empty slots are zeros"
    assert same_bits(decompose.scatter(params, nets, names, who), params)


def test_who_did_not_take_part_leaves_its_neurons_untouched(key):
    params, names = mlp_tree((5, 12, 8, 3))
    who = partition.permutation(key, axes.widths(params, names), workers=4)
    nets = jax.tree.map(lambda x: x + 1, decompose.gather(params, names, who))
    took_part = jnp.array([True, False, True, True])
    back = decompose.scatter(params, nets, names, who, took_part)
    absent = np.asarray(who["h0"][1])
    assert same_bits(back["w0"][:, absent], params["w0"][:, absent])
    assert (np.delete(np.asarray(back["w0"] - params["w0"]), absent, axis=1) > 0.5).all()
    nobody = decompose.scatter(params, nets, names, who, jnp.zeros(4, bool))
    assert same_bits(nobody, params)


def test_nan_of_an_absent_worker_goes_nowhere(key):
    params, names = {"w": jnp.ones((4, 6)), "b": jnp.ones(3)}, {"w": (None, "h"), "b": (None,)}
    who = {"h": jnp.array([[0, 1, 2, 3], [2, 3, 4, 5]])}
    nets = decompose.gather(params, names, who)
    nets = jax.tree.map(lambda x: x.at[1].set(jnp.nan), nets)
    for disjoint in (True, False):
        back = decompose.scatter(
            params, nets, names, who, jnp.array([True, False]), disjoint=disjoint
        )
        assert same_bits(back, params)


def test_integers_and_half_precision(key):
    params = {"n": jnp.arange(6), "t": jnp.int32(3), "h": jnp.arange(6, dtype=jnp.bfloat16)}
    names = {"n": ("g",), "t": (), "h": ("g",)}
    who = partition.permutation(key, {"g": 6}, 3)
    nets = jax.tree.map(lambda x: x + 1, decompose.gather(params, names, who))
    back = decompose.scatter(params, nets, names, who)
    assert same_bits(back, jax.tree.map(lambda x: x + 1, params))


def test_gradients_flow_through_both(key):
    """Scattering what was gathered is the identity: the derivative of its sum of squares is 2p."""
    params, names = mlp_tree((5, 12, 8, 3))
    who = partition.permutation(key, axes.widths(params, names), workers=4)

    def through(params, disjoint):
        nets = decompose.gather(params, names, who)
        back = decompose.scatter(params, nets, names, who, disjoint=disjoint)
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(back))

    for disjoint in (True, False):
        grads = jax.grad(through)(params, disjoint)
        jax.tree.map(lambda g, p: np.testing.assert_allclose(g, 2 * p, rtol=1e-5), grads, params)


def test_nothing_is_compiled_again_from_round_to_round(key):
    params, names = mlp_tree((5, 12, 8, 3))
    widths = axes.widths(params, names)

    @jax.jit
    def there_and_back(params, round):
        who = partition.permutation(key, widths, 4, round)
        return decompose.scatter(params, decompose.gather(params, names, who), names, who)

    for round in range(3):
        params = there_and_back(params, round)
    assert there_and_back._cache_size() == 1


W = {"w": np.ones((4, 6), np.float32)}
NAMES = {"w": (None, "h")}


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ({"x": [[0], [1]]}, r"a group 'x' that no parameter names; the groups are \['h'\]"),
        ({"h": [[0, 7], [1, 2]]}, "'h' holds neuron 7, but ids run from 0 to 5"),
        ({"h": [[-1, 0], [1, 2]]}, "'h' holds neuron -1"),
        ({"h": [[3, 3], [1, 2]]}, "'h' gives worker 0 neuron 3 twice"),
        ({"h": [0, 1]}, r"must be int32\[S, m\]"),
        ({}, "the number of workers must be given"),
    ],
)
def test_bad_assignments(who, message):
    with pytest.raises(InputError, match=message):
        decompose.gather(W, NAMES, {g: jnp.asarray(ids) for g, ids in who.items()})


def test_bad_subnets():
    who = {"h": jnp.array([[0, 1], [2, 3]])}
    with pytest.raises(InputError, match="assignment is for 2 workers, found workers=3"):
        decompose.gather(W, NAMES, who, workers=3)
    with pytest.raises(InputError, match="worker must be 0 to 1, found 2"):
        decompose.gather_one(W, NAMES, who, 2)
    with pytest.raises(InputError, match=r"took_part must be bool\[2\], found \[1\]"):
        decompose.scatter(W, {"w": jnp.ones((2, 4, 2))}, NAMES, who, np.array([True]))
    with pytest.raises(InputError, match=r"leaf \['w'\] must have shape \(2, 4, 2\)"):
        decompose.scatter(W, {"w": jnp.ones((2, 4, 3))}, NAMES, who)
    with pytest.raises(InputError, match="must be a tree like the net"):
        decompose.scatter(W, {"v": jnp.ones((2, 4, 2))}, NAMES, who)
    with pytest.raises(InputError, match="different numbers of workers"):
        decompose.gather(
            {"w": jnp.ones((4, 6))},
            {"w": ("g", "h")},
            {"g": jnp.array([[0], [1], [2]]), "h": jnp.array([[0], [1]])},
        )
