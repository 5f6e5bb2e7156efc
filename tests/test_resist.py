"""ResIST: residual blocks that are dealt out, on the same gather, scatter and round."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import drawn, on_host, same_bits

import ist_jax
from ist_jax import axes, decompose, depth, method, partition
from ist_jax.core.errors import InputError
from ist_jax.cost import program, traffic
from ist_jax.models import normalise
from ist_jax.models.resnet import ResNet
from ist_jax.tasks import classification

PAPER = functools.partial(ResNet, preactivate=True, bias=True, logits=False)
SMALL = PAPER({"stage2": 5}, 3, blocks=(1, 6), base=4)
X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)
CUTS = {  # which groups, and their widths
    "preactivated": SMALL,
    "first": PAPER({"stage1": 3, "stage2": 2}, 3, blocks=(3, 3), base=4),
    "naive": ResNet({"stage1": 3, "strided2": 1, "stage2": 2}, 3, blocks=(3, 3), base=4),
    "filters": PAPER({"filters2_1": 8, "filters2_2": 16}, 3, blocks=(1, 3), base=4),
    "unnormalised": SMALL.clone(normalise="none"),
}


@functools.cache
def net(name="preactivated"):
    model = CUTS[name]
    return model, *drawn(model, X)


def shapes_of(model, size=32, channels=3):
    images = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
    init = functools.partial(model.init, train=True)
    return axes.of(jax.eval_shape(init, jax.random.key(0), images))


@pytest.mark.parametrize(("blocks", "total"), [(23, 41_396_900), (36, None), (50, None)])
def test_parameters_are_the_papers(blocks, total):
    """ "ResNet101" at 100 classes, of which 15,422,116 shared; "152" and "200" with more blocks."""
    params, names = shapes_of(PAPER({"stage3": blocks - 1}, 100, blocks=(3, 4, blocks, 3)))
    found = int(traffic.entries(axes.describe(params, names), {}))
    assert found == (total or 15_422_116 + (blocks - 1) * 1_180_672)
    shared = sum(leaf.size for _, leaf, of_leaf in axes.walk(params, names) if not any(of_leaf))
    assert (shared, axes.widths(params, names)) == (15_422_116, {"stage3": blocks - 1})


@pytest.mark.parametrize(
    ("workers", "least", "gigabytes", "local"),
    [(2, 0, 0.4546, 0.662), (4, 6, 0.7202, 1.325), (8, 4, 1.2893, 2.649)],
)
def test_traffic_is_the_papers_table(workers, least, gigabytes, local):
    """Up and down, of all workers together."""
    params, names = shapes_of(PAPER({"stage3": 22}, 100, blocks=(3, 4, 23, 3)))
    for how, expected in ((method.resist(least), gigabytes), (method.local_sgd(), local)):
        trainer = ist_jax.build(
            lambda *_: 0.0, optax.sgd(0.1), params, names, method=how, workers=workers
        )
        received, sent = trainer.moved.of_steps(50)
        total = (received.sum() + sent.sum()) / 1e9
        assert abs(total - expected) < (6e-4 if how.name == "local_sgd" else 6e-5), how.name


@pytest.mark.parametrize("name", CUTS)
def test_a_subnet_is_the_shallower_model_and_comes_back_the_same(name):
    model, params, names = net(name)
    widths = axes.widths(params, names)
    assert widths == dict(model.widths)
    who = depth.joint(jax.random.key(2), widths, 2)
    nets = jax.jit(lambda params: decompose.gather(params, names, who))(params)
    slots = {group: ids.shape[1] for group, ids in who.items()}
    narrow, _ = shapes_of(normalise.subnet(model, slots), 8, 1)
    assert jax.tree.map(lambda leaf: leaf.shape[1:], nets) == jax.tree.map(jnp.shape, narrow)
    back = jax.jit(lambda params, nets: decompose.scatter(params, nets, names, who))
    assert same_bits(on_host(back(params, nets)), on_host(params))


@pytest.mark.parametrize("name", [name for name in CUTS if name != "filters"])
def test_an_empty_slot_is_no_block_and_learns_nothing(name):
    """A subnet with empty slots gives the logits of the one without them, and no gradient there."""
    model, params, names = net(name)
    group = max(model.widths, key=lambda g: (g.startswith("stage"), g))
    width = model.widths[group]
    short = {group: np.array([[0, width - 1]], np.int32)}
    padded = {group: np.array([[0, width - 1, width, width]], np.int32)}
    outputs, gradients = [], []
    for who in (short, padded):
        sub = jax.jit(lambda who: decompose.gather_one(params, names, who, 0))(who)
        model_of = model.clone(widths={**model.widths, group: who[group].shape[1]})
        if who is padded:  # more slots than the stage has blocks are not for the model to refuse
            more = [4 * (group == f"stage{stage}") for stage in (1, 2)]
            model_of = model_of.clone(blocks=tuple(np.add(model.blocks, more).tolist()))

        def loss(sub, model=model_of):
            logits = model.apply(sub, X, train=True)
            return jnp.sum(jnp.square(logits)), logits

        gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(sub)
        outputs.append(logits)
        gradients.append(gradient)
    np.testing.assert_allclose(*outputs, atol=1e-5)
    for _, leaf, of_leaf in axes.walk(gradients[1], names):
        if group in of_leaf:
            assert not np.asarray(leaf)[2:].any()
            assert np.asarray(leaf)[:2].any()


def test_an_example_is_looked_at_as_if_alone_whatever_stands_beside_it():
    """Also where nothing of it is left between the convolutions of a block."""
    model = ResNet({"stage1": 2}, 3, blocks=(2,), base=2, bias=True)
    x = np.random.default_rng(0).normal(size=(100, 8, 8, 1)).astype(np.float32)
    params, _ = axes.of(jax.jit(lambda x: model.init(jax.random.key(0), x, train=True))(x))
    block = params["params"]["stage1"]
    block["norm_between"]["shift"] = jnp.full_like(block["norm_between"]["shift"], -3.5)
    block["norm_after"]["shift"] = jnp.ones_like(block["norm_after"]["shift"])
    found = normalise.statistics(model, params, x)
    logits = jax.jit(lambda x: model.apply({**params, **found}, x, train=False))
    alone = np.concatenate([logits(x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_allclose(logits(x), alone, atol=1e-5)


def test_a_worker_computes_the_blocks_it_holds_and_no_others():
    model, params, names = net()
    key = jax.random.key(0)
    batch = {"x": X, "y": np.zeros(6, np.int32)}

    def flops(blocks):
        loss = classification.cross_entropy(normalise.subnet(model, {"stage2": blocks}))
        sub = decompose.gather_one(params, names, {"stage2": np.arange(blocks)[None]}, 0)
        return program.flops(jax.grad(loss), sub, batch, key)

    costs = [flops(blocks) for blocks in (1, 2, 3, 5)]
    one = costs[1] - costs[0]
    assert costs[2] - costs[1] == one
    assert costs[3] - costs[2] == 2 * one
    # Two convolutions, forward and two gradients each: 4 x 4 pixels, 8 filters, 6 images.
    assert one == 2 * 3 * 2 * 6 * 4 * 4 * 9 * 8 * 8


def test_blocks_are_averaged_over_those_who_hold_them_and_the_rest_over_all():
    model, params, names = net()
    how = method.resist(3)
    loss = classification.cross_entropy(normalise.subnet(model, {"stage2": 3}))
    trainer = ist_jax.build(loss, optax.sgd(0.1), params, names, method=how, workers=3)
    state = trainer.init(params, jax.random.key(3))
    who, key = on_host(state.assignment), state.key
    draw = np.random.default_rng(1)
    batches = {
        "x": draw.normal(size=(3, 2, 6, 8, 8, 1)).astype(np.float32),
        "y": draw.integers(0, 3, (3, 2, 6)).astype(np.int32),
    }
    begin = jax.jit(lambda who, worker: decompose.gather_one(params, names, who, worker))

    @jax.jit
    def step_of(mine, batch):
        return jax.tree.map(lambda a, b: a - 0.1 * b, mine, jax.grad(loss)(mine, batch, key))

    apart = []
    for worker in range(3):
        mine = begin(who, worker)
        for step in range(2):
            batch = jax.tree.map(lambda leaf, w=worker, s=step: leaf[w, s], batches)
            mine = step_of(mine, batch)
        apart.append(mine)
    state, report = trainer.round(state, batches)
    found = on_host(trainer.whole(state)).params
    holders = [np.flatnonzero((who["stage2"] == block).any(axis=1)) for block in range(5)]
    assert sorted(map(len, holders)) == [1, 2, 2, 2, 2]
    pieces = [{path: leaf for path, leaf, _ in axes.walk(sub, names)} for sub in apart]
    for (path, _, of_leaf), new in zip(
        axes.walk(params, names), jax.tree.leaves(found), strict=True
    ):
        if "stage2" not in of_leaf:
            expected = np.mean([piece[path] for piece in pieces], axis=0)
        else:
            slot = lambda s, block: int(np.flatnonzero(who["stage2"][s] == block)[0])
            expected = np.stack(
                [
                    np.mean([pieces[s][path][slot(s, block)] for s in holders[block]], axis=0)
                    for block in range(5)
                ]
            )
        np.testing.assert_allclose(new, expected, atol=2e-5, err_msg=path)
    assert report.bytes_sent.tolist() == [sum(leaf.nbytes for leaf in jax.tree.leaves(mine))] * 3


def test_the_whole_net_is_looked_at_with_its_branches_scaled():
    """By hand: the second convolution of each block, or what follows it, times the share."""
    model, params, _ = net("naive")
    shares = {"stage1": 0.5, "strided2": 0.25, "stage2": 0.75}
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            leaf
            * next(
                (
                    share
                    for group, share in shares.items()
                    if f"'{group}'" in jax.tree_util.keystr(path)
                    and "norm_after" in jax.tree_util.keystr(path)
                ),
                1.0,
            )
        ),
        params,
    )
    apply = jax.jit(lambda params: model.apply(params, X, train=True))
    ours = jax.jit(lambda params: model.clone(gains=shares).apply(params, X, train=True))(params)
    np.testing.assert_allclose(ours, apply(scaled), atol=1e-5)
    assert np.abs(ours - apply(params)).max() > 1e-3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PAPER({"stage5": 1}, 3, base=4), "has no 'stage5'; it has .*stage1.*stage4"),
        (PAPER({"stage2": 2}, 3, base=4), "stage2 must have 1 to 1 members, found 2"),
        (PAPER({"strided2": 1}, 3, base=4), "has no 'strided2'"),
        (PAPER({"filters2_0": 4}, 3, base=4), "has no 'filters2_0'"),
        (PAPER({"filters2_1": 4, "stage2": 1}, 3, base=4), "has no 'filters2_1'"),
    ],
)
def test_groups_that_a_net_does_not_have(model, message):
    with pytest.raises(InputError, match=message):
        shapes_of(model)


def test_a_net_without_the_group_and_too_many_workers():
    params, names = shapes_of(PAPER({}, 3, blocks=(1, 2), base=4))
    build = functools.partial(ist_jax.build, lambda *_: 0.0, optax.sgd(0.1))
    with pytest.raises(InputError, match="resist has nothing to cut"):
        build(params, names, method=method.resist(), workers=2)
    params, names = shapes_of(SMALL)
    with pytest.raises(InputError, match="6 workers share the 5 of 'stage2'"):
        build(params, names, method=method.resist(0), workers=6)
    with pytest.raises(InputError, match="hold 9 of 'stage2', which has 5"):
        build(params, names, method=method.resist(9), workers=2)
    assert partition.sub_widths(method.resist(1).draw, {"stage2": 5}, 6) == {"stage2": 1}
