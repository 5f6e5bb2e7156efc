"""A decoder of text: what it computes, and that its subnets are those of named axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import on_host, same_bits
from optax import contrib

import ist_jax
from ist_jax import axes, decompose, method, partition
from ist_jax.core.errors import InputError
from ist_jax.data import outline
from ist_jax.models import Transformer, normalise
from ist_jax.models.decoder import EPSILON
from ist_jax.run import assemble, config_files
from ist_jax.sharded import placement
from ist_jax.tasks import supervised

SMALL = {"classes": 11, "width": 12, "depth": 2, "heads": 4, "head": 4, "ffn": 10}
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 7))
CUT = {"heads": 4, "ffn": 10}
ALL = {**CUT, "layers": 2}


def made(widths, **options):
    model = Transformer(widths, **{**SMALL, **options})
    return model, *axes.of(model.init(jax.random.key(0), TOKENS))


def by_hand(params, model, tokens):
    """Logits in NumPy, float64, entry by entry where it is easier to be right than fast."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    norm = lambda x, scale: x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale
    half = model.head // 2

    def turned(x):  # [T, ..., h]
        out = np.empty_like(x)
        for t in range(len(x)):
            for i in range(half):
                angle = t * 10_000.0 ** (-2 * i / model.head)
                one, other = x[t, ..., i], x[t, ..., i + half]
                out[t, ..., i] = one * np.cos(angle) - other * np.sin(angle)
                out[t, ..., i + half] = other * np.cos(angle) + one * np.sin(angle)
        return out

    def layer(x, of):
        y = norm(x, of["before_attention"])
        q = turned(norm(np.einsum("td,dkgh->tkgh", y, of["query"]), of["query_norm"]))
        k = turned(norm(np.einsum("td,dkh->tkh", y, of["key"]), of["key_norm"]))
        v = np.einsum("td,dkh->tkh", y, of["value"])
        seen = np.zeros_like(q)
        for t in range(len(x)):
            for kv in range(q.shape[1]):
                for g in range(q.shape[2]):
                    score = k[: t + 1, kv] @ q[t, kv, g] / np.sqrt(model.head)
                    weight = np.exp(score - score.max())
                    seen[t, kv, g] = weight / weight.sum() @ v[: t + 1, kv]
        x = x + np.einsum("tkgh,kghd->td", seen, of["out"])
        y = norm(x, of["before_ffn"])
        up = y @ of["up"]
        if model.activation == "swiglu":
            gate = y @ of["gate"]
            return x + (up * gate / (1 + np.exp(-gate))) @ of["down"]
        return x + np.maximum(up, 0) ** 2 @ of["down"]

    found = []
    for row in tokens:
        x = p["embedding"][row] * np.sqrt(model.width)
        for number in range(model.depth):
            x = layer(x, {name: leaf[number] for name, leaf in p["layers"].items()})
        x = norm(x, p["norm"]) @ (p["embedding"].T if model.tied else p["logits"])
        found.append(model.soft_cap * np.tanh(x / model.soft_cap) if model.soft_cap else x)
    return np.stack(found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queries": 3, "activation": "swiglu"},
        {"tied": True, "soft_cap": 2.0},
    ],
    ids=["usual", "grouped", "tied"],
)
def test_logits_are_those_of_loops_in_numpy(options):
    model, params, _ = made(CUT, **options)
    np.testing.assert_allclose(
        model.apply(params, TOKENS), by_hand(params, model, TOKENS), atol=2e-5
    )


def test_it_does_not_know_the_tokens_to_come():
    model, params, _ = made(CUT, queries=2)
    other = TOKENS.copy()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    one, two = (np.asarray(model.apply(params, tokens)) for tokens in (TOKENS, other))
    np.testing.assert_array_equal(one[:, :4], two[:, :4])
    assert np.abs(one[:, 4:] - two[:, 4:]).max() > 1e-2


@pytest.mark.parametrize("widths", [CUT, {"heads0": 4, "ffn0": 10, "heads1": 4, "ffn1": 10}])
def test_text_piece_by_piece_is_the_text_at_once(widths):
    model, params, _ = made(widths, queries=2)
    whole = model.apply(params, TOKENS)
    known, memory, at = model.clone(remembered=9), {}, 0
    for length in (3, 1, 1, 2):
        piece = TOKENS[:, at : at + length]
        found, memory = known.apply({**params, **memory}, piece, at=at, mutable=["memory"])
        np.testing.assert_allclose(found, whole[:, at : at + length], atol=2e-5)
        at += length


def test_a_subnet_is_the_net_without_the_other_heads_and_neurons():
    """What the others add is zero where their rows of the way back are."""
    model, params, names = made(CUT, queries=2)
    who = partition.permutation(jax.random.key(1), CUT, workers=2)
    subnet = decompose.gather_one(params, names, who, 0)
    small = normalise.subnet(model, partition.sub_widths(partition.permutation, CUT, 2))
    layers = dict(params["params"]["layers"])
    for name, axis, group in (("out", 1, "heads"), ("down", 1, "ffn")):
        held = np.isin(np.arange(CUT[group]), who[group][0])
        shape = [-1 if a == axis else 1 for a in range(layers[name].ndim)]
        layers[name] = jnp.where(held.reshape(shape), layers[name], 0)
    without = {"params": {**params["params"], "layers": layers}}
    np.testing.assert_allclose(small.apply(subnet, TOKENS), model.apply(without, TOKENS), atol=1e-5)


def test_an_empty_slot_adds_nothing_and_learns_nothing():
    """Three workers share 4 heads, 10 neurons and 2 layers: some slots are empty."""
    widths = {"heads": 4, "ffn": 10, "layers": 3}
    model, params, names = made(widths, depth=3)
    who = partition.permutation(jax.random.key(1), widths, workers=2)
    who |= {"heads": jnp.array([[0, 4], [1, 2]])}
    small = normalise.subnet(model, {g: ids.shape[1] for g, ids in who.items()})
    loss = supervised.loss_of(small, supervised.kind_of(TOKENS))
    nets = decompose.gather(params, names, who)
    for worker in range(2):
        net = jax.tree.map(lambda leaf, worker=worker: leaf[worker], nets)
        slopes = jax.grad(loss)(net, {"x": TOKENS, "y": TOKENS}, jax.random.key(0))
        assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
        layers = slopes["params"]["layers"]
        on = (("heads", "out", 1), ("heads", "key", 2), ("ffn", "up", 2), ("layers", "up", 0))
        for group, leaf, axis in on:
            empty = np.flatnonzero(np.asarray(who[group][worker]) == widths[group])
            assert not np.take(np.asarray(layers[leaf]), empty, axis).any()


@pytest.mark.optimized
@pytest.mark.parametrize("widths", [CUT, {"ffn": 10}, ALL], ids=str)
def test_the_same_bits_on_any_number_of_devices_with_an_outer_step(widths):
    """Moments travel; AdamW and Nesterov; a worker is absent once."""
    size, found = 2, []
    how = method.with_server(method.ist(), optax.sgd(0.7, 0.6, nesterov=True))
    model, params, names = made(widths)
    small = normalise.subnet(model, partition.sub_widths(how.draw, widths, size))
    loss = supervised.loss_of(small, supervised.kind_of(TOKENS))
    draw = np.random.default_rng(1)
    for devices in (1, 2):
        trainer = ist_jax.build(
            loss,
            optax.adamw(1e-2),
            params,
            names,
            method=how,
            workers=size,
            optimizer_state="keep",
            exact=True,
            mesh=placement.mesh(size, devices),
        )
        draw = np.random.default_rng(1)
        state = trainer.init(params, jax.random.key(3))
        for here in (None, np.array([True, False]), None):
            x, y = draw.integers(0, 11, (2, size, 2, 3, 7))
            state, _ = trainer.round(state, {"x": x, "y": y}, here)
        found.append(on_host(trainer.whole(state)))
    assert same_bits(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalise": "standardise"}, "know the tokens to come"),
        ({"head": 3}, "head=3 must be even"),
        ({"activation": "gelu"}, "must be 'relu2' or 'swiglu', found 'gelu'"),
        ({"widths": {"head": 4}}, "has no 'head'; it has ffn, heads, layers"),
        ({"widths": {"ffn0": 4, "heads": 4}}, "has no 'heads'; it has ffn0, ffn1, heads0, heads1"),
        ({"widths": {"layers": 3}}, "layers must have 1 to 2 members, found 3"),
        ({"widths": {"ffn": 0}}, "ffn must have 1 or more members, found 0"),
    ],
)
def test_a_decoder_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        made(options.pop("widths", CUT), **options)


def test_a_decoder_takes_tokens():
    model, params, _ = made(CUT)
    for x in (np.zeros((2, 3)), np.zeros(3, int), np.zeros((2, 3, 4), int)):
        with pytest.raises(InputError, match="takes tokens int"):
            model.apply(params, x)


def test_workers_share_no_more_heads_than_there_are():
    with pytest.raises(InputError, match="'heads' has 4 neurons, too few for 8 workers"):
        partition.permutation(jax.random.key(0), CUT, workers=8)


def test_what_it_computes_in_16_bits_it_keeps_in_32():
    model, params, _ = made(CUT, compute="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert model.apply(params, TOKENS).dtype == jnp.float32
    exact = model.clone(compute="float32").apply(params, TOKENS)
    apart = np.abs(exact - model.apply(params, TOKENS)).max()
    assert 0 < apart < 0.1


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("query", np.s_[1, :, 2, 1, :]),
        ("key", np.s_[0, :, 3, :]),
        ("out", np.s_[1, 2, 0]),
        ("up", np.s_[1]),
        ("down", np.s_[0]),
    ],
)
def test_muon_takes_every_head_of_every_layer_for_a_matrix(name, part):
    model, params, _ = made(CUT, queries=2)
    draw = lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape)
    slopes = jax.tree.map(draw, params)
    how = {"beta": 0.0, "nesterov": False}
    optimizer = contrib.muon(0.1, **how, muon_weight_dimension_numbers=model.matrices)
    found, _ = optimizer.update(slopes, optimizer.init(params), params)
    one = {"w": slopes["params"]["layers"][name][part]}
    alone = contrib.muon(0.1, **how)
    expected, _ = alone.update(one, alone.init(one), one)
    np.testing.assert_allclose(found["params"]["layers"][name][part], expected["w"], atol=1e-6)


def test_a_config_says_to_muon_what_is_a_matrix_and_refuses_what_it_would_leave_to_adam():
    config = config_files.load("gcide", "tiny")
    config.methods, config.optimizer.name, config.optimizer.lr = ("ist",), "muon", 0.01
    config.optimizer.options = {}
    data = outline("gcide", tokens=64)
    job = assemble.jobs(config, data)["ist"]
    state = job.trainer.shapes.opt_state
    adam = [leaf.shape for node in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(node)
            for leaf in jax.tree.leaves(node.mu)]  # fmt: skip
    assert sorted(map(len, adam)) == [1, 2, 2, 2, 2, 2, 2]  # norms (stacked), embedding and logits
    config = config_files.load("cifar10_resist", "tiny")
    config.optimizer.name, config.optimizer.momentum = "muon", 0.0
    with pytest.raises(InputError, match=r"'muon' is for matrices, and .* Adam would train it"):
        assemble.jobs(config, outline("cifar10"))


def is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


@pytest.mark.parametrize("apart", [False, True], ids=["a group a kind", "a group a layer"])
def test_a_net_of_the_size_of_gpt_2_waits_at_most_30_times_a_round(apart):
    """Four workers; in messages of up to 64 MB, for machines that are far from each other."""
    config = config_files.load("gcide")
    groups = {"heads": 12, "ffn": 3072}
    if apart:
        groups = {f"{name}{n}": count for n in range(12) for name, count in groups.items()}
    config.methods, config.optimizer_state, config.model.widths = ("ist",), "reset", groups
    config.model.options = {**GPT_2, "depth": 12, "tied": True}
    config.data.options.tokens, config.mesh.message_kb = 8, 65536
    data = outline("gcide", tokens=8)._replace(classes=50304, tokenizer=None)
    job = assemble.jobs(config, data)["ist"]
    assert (job.costs.net_parameters, job.costs.parameters) == (123_588_864, 59_887_872)
    assert job.exchanged().waits <= 30


GPT_2 = {"width": 768, "heads": 12, "head": 64, "ffn": 3072}
