"""What cannot be exported is refused by name, and what was there before stays."""

import os
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from ist_jax import export
from ist_jax.core.errors import InputError
from ist_jax.export import programs

TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
WRITERS = (export.npz, export.safetensors)
ONE = jax.ShapeDtypeStruct((1, 3), jnp.float32)
twice = lambda x: 2 * x


def used_up():
    leaf = jnp.ones(3)
    leaf.delete()
    return leaf


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"key": jax.random.key(0)}}, "leaf a.key is a random key"),
        ({"a": [1.5]}, "leaf a.0 is no array but of type float"),
        ({"f": jax.nn.relu}, "leaf f is no array but of type"),
        ({"s": jax.ShapeDtypeStruct((2,), "float32")}, "leaf s is no array but of type Shape"),
        ({"t": np.array(["x"])}, "leaf t is of type <U1, and no array of numbers"),
        ({"o": np.array([None])}, "leaf o is of type object"),
        ({"d": np.array(["2020-01-01"], "datetime64[D]")}, "leaf d is of type datetime64"),
        ({"u": used_up()}, "leaf u was used up"),
        ({}, "there is no array"),
        ({"a": None}, "there is no array"),
        (np.ones(3), "one array alone has no name"),
        ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, r"leaf \['a.b'\]: names are joined by dots"),
        ({"": np.ones(1)}, "'' must be a name"),
        ({"a\n": np.ones(1)}, "must be a name without one"),
        ({"\ud800": np.ones(1)}, "must be a name without one"),
        ({0: np.ones(1), "a": np.ones(1)}, "the tree cannot be walked"),
    ],
)
def test_a_leaf_that_cannot_be_exported_is_named(tmp_path, tree, message):
    for write in WRITERS:
        with pytest.raises(InputError, match=message):
            write(tmp_path / "net", tree)
    assert not os.listdir(tmp_path)


def test_two_leaves_of_one_name_are_refused(tmp_path):
    class Name:
        def __str__(self):
            return "same"

        def __lt__(self, other):
            return id(self) < id(other)

    with pytest.raises(InputError, match="two leaves are called same"):
        export.npz(tmp_path / "net.npz", {Name(): np.ones(1), Name(): np.ones(1)})


def test_what_only_safetensors_refuses(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(InputError, match="leaf c is of type complex128"):
        export.safetensors(path, {"c": np.ones(2, np.complex128)})
    with pytest.raises(InputError, match="no leaf that is called __metadata__"):
        export.safetensors(path, {"__metadata__": np.ones(2)})
    with pytest.raises(InputError, match=r"about\['loss'\] is nan"):
        export.safetensors(path, TREE, {"loss": float("nan")})
    with pytest.raises(InputError, match="about: Object of type ndarray is not JSON"):
        export.safetensors(path, TREE, {"w": np.ones(2)})
    assert not os.listdir(tmp_path)


def test_a_suffix_that_is_not_known_names_the_known():
    for name in ("net", "net.onnx", "net.NPZ", "net.safetensor"):
        with pytest.raises(InputError, match=r"must end with one of \.npz, \.safetensors, \.stab"):
            export.save(name, TREE)
    with pytest.raises(InputError, match=r"did you mean \.safetensors\?"):
        export.save("net.safetensor", TREE)


def test_what_save_cannot_put_together_is_said(tmp_path):
    path = tmp_path / "net.stablehlo"
    with pytest.raises(InputError, match="both have 'w': rename one of them"):
        export.save(path, TREE, TREE)
    with pytest.raises(InputError, match="must both be dicts"):
        export.save(path, [np.ones(2)], {"mean": np.ones(1)})
    with pytest.raises(InputError, match="is to be a program: give apply and example too"):
        export.save(path, TREE)
    with pytest.raises(InputError, match="leaf key is a random key"):
        export.save(path, {"key": jax.random.key(0)}, None, lambda tree, x: x, ONE)


def spread():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    return jax.device_put(np.ones(4, np.float32), place)


@pytest.mark.parametrize(
    ("predict", "example", "batch", "message"),
    [
        (lambda x: x.reshape(len(x), -1), ONE, "any", r"\(TypeError: .*say x.shape\[0\]; or"),
        (lambda x: x @ np.ones(4), ONE, "any", r"does not take a batch of float32\[2, 3\]"),
        (lambda x: "text", ONE, "any", "does not take a batch"),
        (twice, np.float32(3), "any", "example must be a batch"),
        (twice, (1, 3), "any", r"example must be a batch: .*found int\[\]"),
        (twice, {}, "any", "there is no array in it"),
        (twice, ONE, 0, "batch must be 'any' or how many examples"),
        (twice, ONE, True, "batch must be 'any' or how many examples"),
        (lambda x: x[:, :1] + spread(), ONE, "any", "spread over 2 devices: gather them first"),
    ],
)
def test_a_program_that_cannot_be_written_says_why(tmp_path, predict, example, batch, message):
    with pytest.raises(InputError, match=message):
        export.program(tmp_path / "p", predict, example, batch=batch)
    assert not os.listdir(tmp_path)


def test_a_program_for_one_size_may_ask_for_its_length(tmp_path):
    path = tmp_path / "p"
    export.program(path, lambda x: x.reshape(len(x), -1), np.ones((1, 3, 2)), batch=4)
    net = jax.export.deserialize(bytearray(path.read_bytes()))
    assert net.call(np.ones((4, 3, 2), np.float32)).shape == (4, 6)
    with pytest.raises(ValueError, match="Shape mismatch"):
        net.call(np.ones((3, 3, 2), np.float32))


def test_a_platform_that_is_not_known_and_a_program_that_is_too_large(tmp_path, monkeypatch):
    for platforms in (("cpu", "abacus"), (), "cuda"):
        with pytest.raises(InputError, match="platforms must be some of cpu, cuda, tpu, rocm; fo"):
            export.program(tmp_path / "p", twice, ONE, platforms=platforms)
    monkeypatch.setattr(programs, "LARGEST", 100)
    with pytest.raises(InputError, match=r"takes 0.00 GB, .*: export the arrays"):
        export.program(tmp_path / "p", twice, ONE)


def test_what_is_no_such_file_is_said(tmp_path):
    path = tmp_path / "net"
    readers = {
        export.read_npz: "npz",
        export.read_safetensors: "safetensors",
        export.read_about: "safetensors",
    }
    for read, kind in readers.items():
        path.unlink(missing_ok=True)
        with pytest.raises(InputError, match="cannot be read"):
            read(path)
        for damage in (b"", b"something else" * 100, b"\x08\0\0\0\0\0\0\0{}      "[:12]):
            path.write_bytes(damage)
            with pytest.raises(InputError, match=f"is no {kind} file of arrays"):
                read(path)
    np.save(path.with_suffix(".npy"), np.ones(2))
    with pytest.raises(InputError, match="is no npz file of arrays"):
        export.read_npz(path.with_suffix(".npy"))
    np.savez(path.with_suffix(".npz"), np.array([{}]))
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        export.read_npz(path.with_suffix(".npz"))
    np.savez(path.with_suffix(".npz"), **{"a": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(InputError, match="is no npz file of arrays"):
        export.read_npz(path.with_suffix(".npz"))


@pytest.mark.parametrize("name", ["safetensors", "flatbuffers"])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, name):
    for module in [m for m in sys.modules if m.split(".")[0] == name] + [name]:
        monkeypatch.setitem(sys.modules, module, None)
    suffix = ".safetensors" if name == "safetensors" else ".stablehlo"
    with pytest.raises(InputError, match=r"pip install 'ist_jax\[export\]'"):
        export.save(tmp_path / f"net{suffix}", TREE, None, lambda tree, x: x, ONE)
    export.save(tmp_path / "net.npz", TREE)
