"""A net for others: what NumPy, PyTorch and plain JAX read is what was exported."""

import os
import re
import socket
import subprocess
import sys

import flax.linen as nn
import flax.struct
import jax
import jax.export
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT, drawn, same_bits

from ist_jax import export
from ist_jax.core.errors import InputError
from ist_jax.models.cnn import CNN

PAGE = (ROOT / "docs/export.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
WRITE, NUMPY, TORCH, JAX, OURS, PROGRAM = BLOCKS
TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "list": [np.ones(1), np.int32(7)]}


@pytest.fixture
def no_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with the three files of the page, and the names of its first block."""
    folder = tmp_path_factory.mktemp("digits")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(WRITE, names)
    assert sorted(os.listdir(folder)) == ["net.npz", "net.safetensors", "net.stablehlo"]
    return folder, names


@pytest.fixture
def here(digits, monkeypatch):
    monkeypatch.chdir(digits[0])
    return digits[1]


def python(program, folder, **changes):
    """Python in a process of its own that has neither this checkout nor its tests."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | changes
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_numpy_reads_every_array_by_its_name(here):
    names: dict = {}
    exec(NUMPY, names)
    kernel = here["params"]["params"]["hidden0"]["kernel"]
    assert names["kernel"].tobytes() == np.asarray(kernel).tobytes()
    paths = jax.tree_util.tree_leaves_with_path({**here["params"], **here["statistics"]})
    expected = {".".join(key.key for key in path) for path, _ in paths}
    assert set(names["net"]) == expected
    assert "statistics.norm_hidden0.mean" in expected


def test_jax_reads_the_arrays_and_what_is_said_of_them(here):
    names: dict = {}
    exec(JAX, names)
    flat = {k.removeprefix("params."): v for k, v in names["net"].items() if k[:7] == "params."}
    assert flat["hidden0.kernel"].dtype == jnp.float32
    assert same_bits(flat["hidden0.kernel"], here["params"]["params"]["hidden0"]["kernel"])
    about = names["about"]
    assert (about["method"], about["round"]) == ("ist", 60)
    assert about["versions"]["jax"] == jax.__version__


def test_this_library_reads_nested_dicts_that_answer_to_the_bit(here):
    names: dict = {}
    exec(OURS, names)
    assert same_bits(names["net"], jax.tree.map(np.asarray, export.read_npz("net.npz")))
    x = here["digits"].test_x[:50]
    expected = here["apply"]({**here["params"], **here["statistics"]}, x)
    assert same_bits(here["apply"](names["net"], x), expected)
    assert names["about"]["method"] == "ist"


def test_pytorch_computes_the_same_layer(here):
    torch = pytest.importorskip("torch", reason="PyTorch is in no extra")
    names: dict = {"torch": torch}
    exec(TORCH, names)
    x = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    found = names["layer"](torch.from_numpy(x)).detach().numpy()
    expected = x @ np.asarray(here["params"]["params"]["hidden0"]["kernel"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # another order of sums


CALLER = """
import sys, builtins
real = builtins.__import__
def only_jax(name, *rest, **more):
    assert name.split(".")[0] not in ("ist_jax", "flax", "optax"), name
    return real(name, *rest, **more)
builtins.__import__ = only_jax
import numpy as np
x = np.load("x.npy")
{block}
np.save("logits.npy", logits)
np.save("alone.npy", net.call(x[:1]))
"""


@pytest.mark.optimized
def test_a_process_with_jax_alone_computes_the_same_bits(here, digits):
    x = here["digits"].test_x[:77]
    np.save("x.npy", x)
    done = python(CALLER.format(block=PROGRAM), digits[0])
    assert done.returncode == 0, done.stderr
    variables = {**here["params"], **here["statistics"]}
    predict = jax.jit(lambda x: here["apply"](variables, x))
    assert same_bits(np.load("logits.npy"), np.asarray(predict(x)))
    assert same_bits(np.load("alone.npy"), np.asarray(predict(x[:1])))
    assert "('cpu', 'cuda', 'tpu')" in done.stdout


@pytest.mark.optimized
def test_a_program_of_a_convolutional_net_and_of_bfloat16_answers_as_the_net(tmp_path):
    model = CNN({"filters0": 4, "filters1": 8, "hidden0": 16}, classes=3, normalise="none")
    x = np.random.default_rng(1).normal(size=(9, 8, 8, 1)).astype(np.float32)
    params, _ = drawn(model, x)
    for dtype in (jnp.float32, jnp.bfloat16):
        cast = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), params)
        apply = lambda variables, x: model.apply(variables, x, train=False)
        example = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
        export.save(tmp_path / "net.stablehlo", cast, None, apply, example)
        net = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
        expected = jax.jit(lambda x, cast=cast, apply=apply: apply(cast, x))(x)
        assert same_bits(np.asarray(net.call(x)), np.asarray(expected))


def test_all_is_written_without_a_network(no_network, tmp_path, here):
    apply, example = here["apply"], here["digits"].test_x[:1]
    for suffix in (".npz", ".safetensors", ".stablehlo"):
        path = tmp_path / f"net{suffix}"
        export.save(path, here["params"], here["statistics"], apply, example)
        assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_the_same_net_gives_the_same_bytes(tmp_path, name):
    files = [tmp_path / str(n) / name for n in range(8)]
    for file in files:
        file.parent.mkdir()
        export.save(file, TREE, about={"method": "ist", "round": 1, "more": [1, 2]})
    assert len({file.read_bytes() for file in files}) == 1


TYPES = ("bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64")


@pytest.mark.parametrize("dtype", [*TYPES, "bfloat16"])
def test_every_array_comes_back_to_the_bit(tmp_path, dtype):
    draw = np.random.default_rng(0).normal(size=(3, 4)) * 100
    with np.errstate(all="ignore"):
        full = draw.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    tree = {
        "file": full,  # a name that numpy.savez takes for its own
        "transposed": full.T,
        "number": full[0, 0],
        "empty": full[:0],
        "big": full.astype(full.dtype.newbyteorder(">")) if dtype != "bfloat16" else full,
    }
    export.safetensors(tmp_path / "a.safetensors", tree)
    export.npz(tmp_path / "a.npz", tree)
    found = export.read_safetensors(tmp_path / "a.safetensors")
    wide = export.read_npz(tmp_path / "a.npz")
    for name, leaf in tree.items():
        assert found[name].shape == wide[name].shape == leaf.shape
        np.testing.assert_array_equal(found[name], leaf)
        np.testing.assert_array_equal(wide[name], leaf)
        assert found[name].dtype.name == dtype
        assert wide[name].dtype.name == ("float32" if dtype == "bfloat16" else dtype)


def test_nan_infinity_and_the_sign_of_zero_are_kept(tmp_path):
    strange = np.array([np.nan, -np.nan, np.inf, -0.0], np.float32)
    strange.view(np.uint32)[0] |= 0x1234  # and what NaN carries
    for name in ("net.npz", "net.safetensors"):
        export.save(tmp_path / name, {"w": strange})
    assert export.read_npz(tmp_path / "net.npz")["w"].tobytes() == strange.tobytes()
    found = export.read_safetensors(tmp_path / "net.safetensors")["w"]
    assert found.tobytes() == strange.tobytes()
    wide = strange.astype(ml_dtypes.bfloat16)
    export.npz(tmp_path / "net.npz", {"w": wide})
    np.testing.assert_array_equal(
        export.read_npz(tmp_path / "net.npz")["w"], wide.astype(np.float32)
    )


def test_small_types_are_widened_without_loss_or_refused(tmp_path):
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint4"):
        dtype = np.dtype(getattr(ml_dtypes, name))
        every = np.arange(16, dtype=np.uint8).astype(dtype)
        if dtype.itemsize == 1 and "float" in name:
            every = np.arange(256, dtype=np.uint8).view(dtype)
        export.npz(tmp_path / "net.npz", {"w": every})
        back = export.read_npz(tmp_path / "net.npz")["w"].astype(dtype)
        np.testing.assert_array_equal(back.astype(np.float64), every.astype(np.float64))
        with pytest.raises(InputError, match=rf"leaf w is of type {name}, .*: convert it"):
            export.safetensors(tmp_path / "net.safetensors", {"w": every})
    assert os.listdir(tmp_path) == ["net.npz"]


def test_trees_of_any_kind_have_stable_names(tmp_path):
    @flax.struct.dataclass
    class Layer:
        kernel: object
        bias: object

    tree = {
        "layers": [Layer(np.ones(2), np.zeros(3)), Layer(np.ones(4), None)],
        "boxed": nn.Partitioned(jnp.ones((2, 2)), names=(None, "hidden0")),
        "pair": (np.ones(2), jnp.ones(3)),
    }
    export.npz(tmp_path / "net.npz", tree)
    assert [*np.load(tmp_path / "net.npz")] == [
        *("boxed", "layers.0.kernel", "layers.0.bias", "layers.1.kernel", "pair.0", "pair.1")
    ]
