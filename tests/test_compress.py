"""Updates in fewer bits: what they lose and cost, and the same bits on any number of devices."""

import jax
import jax.numpy as jnp
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_tree, on_host, regression_batches, same_bits
from training import run, trainer_of

from ist_jax import compress, decompose, method
from ist_jax.compress import codes as codes_of_rows
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.sharded import placement

ROWS = jax.random.normal(jax.random.key(0), (3, 101)) * jnp.array([[1.0], [1e-3], [0.0]])
CODES = {name: compress.named(name) for name in ("8bit", "4bit", "top0.1")}
DIMS = (6, 16, 8, 3)


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_has_the_value_as_its_mean_and_is_never_a_step_off(bits):
    code = compress.rounded(bits)
    step = np.abs(ROWS).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    keys = jax.random.split(jax.random.key(1), 2000)
    draws = jax.vmap(lambda key: code.decode(code.encode(ROWS, key), 101))(keys)
    assert (np.abs(draws - ROWS) <= step * (1 + 2e-5)).all()
    error = np.abs(np.mean(draws, axis=0) - ROWS)
    assert (error <= 5 * step / 2 / np.sqrt(2000) + 1e-7).all()
    assert not np.asarray(draws)[:, 2].any()


@pytest.mark.optimized
@pytest.mark.parametrize("bits", [8, 4])
def test_what_comes_out_of_a_code_is_added_with_one_rounding(bits):
    """However a compiler fuses the product with the scale and the sum that it goes into."""
    code = compress.rounded(bits)
    rows = jax.random.normal(jax.random.key(2), (500, 256)) * jnp.logspace(-20, 20, 500)[:, None]
    before = jnp.flip(rows, axis=1)
    parts = code.encode(rows, jax.random.key(1))
    found = jax.jit(lambda before, parts: before + code.decode(parts, 256))(before, parts)
    codes = parts[0] if bits == 8 else codes_of_rows._unpacked(parts[0], 256)
    exact = np.asarray(codes, np.float64) * np.asarray(parts[1], np.float64)
    assert (exact == exact.astype(np.float32)).all()
    assert (found == np.asarray(before) + exact.astype(np.float32)).all()


def test_two_codes_of_four_bits_share_a_byte():
    codes = jnp.asarray([[-7, 7, 0, -1, 3], [1, -2, 5, -6, -7]], jnp.int8)
    packed = codes_of_rows._packed(codes)
    assert (packed.shape, packed.dtype) == ((2, 3), jnp.uint8)
    assert (codes_of_rows._unpacked(packed, 5) == codes).all()


def test_the_largest_entries_are_sent_as_they_are_and_the_others_not_at_all():
    code = compress.largest(0.1)
    found = np.asarray(code.decode(code.encode(ROWS, jax.random.key(0)), 101))
    for row, came in zip(np.asarray(ROWS), found, strict=True):
        kept = np.argsort(-np.abs(row))[:11]
        expected = np.zeros(101, np.float32)
        expected[kept] = row[kept]
        assert (came == expected).all()


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("length", [1, 2, 5, 100, 101])
def test_a_row_is_as_long_as_its_code_says_and_never_longer_than_it_was(name, length):
    code, rows = CODES[name], jnp.ones((2, length))
    parts = code.encode(rows, jax.random.key(0))
    assert sum(part.nbytes for part in parts) == 2 * code.bytes(length)
    told = [(n, jnp.dtype(dtype)) for n, dtype in code.parts(length)]
    assert told == [(part.shape[-1], part.dtype) for part in parts]
    assert code.bytes(length) <= 4 * length
    assert code.decode(parts, length).shape == rows.shape


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("how", "net", "code", "devices"),
    [
        (method.ist(), "small", "4bit", (2, 4)),
        (method.local_sgd(), "small", "8bit", (4,)),
        (method.data_parallel(), "small", "4bit", (4,)),
        pytest.param(method.resist(2), "blocks", "top0.1", (4,), marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_same_bits_on_any_number_of_devices(how, net, code, devices):
    params, _, _, batches = nets.net(net)
    states = []
    for count in (None, *devices):
        trainer = nets.trainer(
            net,
            how,
            4,
            optax.adam(1e-2),
            mesh=placement.mesh(4, count) if count else None,
            exact=True,
            code=CODES[code],
        )
        state = trainer.init(params, jax.random.key(3))
        for batch in batches(3, 4, 2):
            state, report = trainer.round(state, batch)
        states.append((on_host(trainer.whole(state)), report.loss))
    for state in states[1:]:
        assert same_bits(on_host(state), on_host(states[0]))


def test_a_worker_adds_what_its_code_says_to_what_it_fetched():
    """By hand, with an inner matrix: rows are those of a leaf's first cut axis."""
    params, names = mlp_tree(DIMS)
    [batch] = regression_batches(1, 4, 2, 8, 6, 3)
    code = CODES["8bit"]
    trainer = trainer_of(params, names, method.ist(), 4, code=code)
    plain = trainer_of(params, names, method.ist(), 4)
    state = trainer.init(params, jax.random.key(3))
    key = fold(fold(state.key, "train", 0), "code")
    who = on_host(state.assignment)
    before = decompose.gather(params, names, who)
    state, report = trainer.round(state, batch)
    after, full = plain.round(plain.init(params, jax.random.key(3)), batch)
    trained = decompose.gather(plain.whole(after).params, names, who)
    pieces, sent = {}, 0
    for number, name in enumerate(sorted(params)):
        cut = next(axis for axis, group in enumerate(names[name]) if group)
        old, new = (np.moveaxis(np.asarray(net[name]), cut + 1, 1) for net in (before, trained))
        rows = []
        for worker in range(4):
            change = (new - old)[worker].reshape(old.shape[1], -1)
            parts = code.encode(jnp.asarray(change), fold(key, "code", number, worker))
            rows.append(code.decode(parts, change.shape[-1]).reshape(old.shape[1:]))
            sent += sum(part.nbytes for part in parts) * (worker == 0)
        pieces[name] = np.moveaxis(old + np.stack(rows), 1, cut + 1)
    expected = decompose.scatter(params, pieces, names, who)
    found = trainer.whole(state).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, expected)
    assert report.bytes_sent.tolist() == [sent] * 4
    assert report.bytes_received.tolist() == full.bytes_received.tolist()
    assert sent < 0.6 * full.bytes_sent[0]


def test_what_is_sent_by_every_method():
    params, names = mlp_tree((40, 64, 3))
    batches = regression_batches(1, 4, 2, 8, 40, 3)
    blocks = 40 * 64 // 256 + 1
    for how, steps in ((method.local_sgd(), 1), (method.data_parallel(), 2)):
        _, [report] = run(params, names, how, batches, code=CODES["4bit"])
        assert report.bytes_sent.tolist() == [steps * blocks * (128 + 4)] * 4
        assert report.bytes_received.tolist() == [steps * blocks * (256 + 4)] * 4, "in 8 bits"


@pytest.mark.parametrize(("how", "size"), [(method.ensemble(), 4), (method.ist(), 1)])
def test_who_sends_nothing_while_training_loses_nothing(how, size):
    params, names = mlp_tree(DIMS)
    batches = regression_batches(2, size, 2, 8, 6, 3)
    for mesh in (None, placement.mesh(size, size)):
        states = [
            run(params, names, how, batches, size, mesh=mesh, code=code)[0]
            for code in (None, CODES["4bit"])
        ]
        assert same_bits(on_host(states[0]), on_host(states[1]))


@pytest.mark.parametrize(
    "name",
    [
        *("16bit", "bit", "top", "top0", "top2", "gzip", "3.5bit"),
        *(
            "\u0668bit",
            "top\u0660.\u0661",
            " 8bit",
            "top 0.1",
            "8_bit",
            "top0_1",
            "topnan",
            "topinf",
        ),
    ],
)
def test_unknown_codes_are_refused(name):
    with pytest.raises(InputError, match=r"compress must be|8 or 4 bits|must be in .0, 1."):
        compress.named(name)
    assert compress.named("") is None


def test_codes_of_other_floats_are_refused_and_whole_numbers_go_as_they_are():
    params, names = mlp_tree(DIMS)
    half = {**params, "w1": params["w1"].astype(jnp.bfloat16)}
    make = lambda net, code: trainer_of(net, names, method.ist(), 2, code=code)
    make(half, None)
    with pytest.raises(InputError, match=r"w1.* is bfloat16: keep parameters in float32"):
        make(half, compress.rounded(8))
