"""Eight CPU devices, and small tools the tests share."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # no lines of source in what is compiled

import contextlib
import ctypes
import gc
import importlib
import itertools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)

ROOT = pathlib.Path(__file__).parent.parent


def pytest_configure(config):
    """What is compiled once is compiled for all tests, and for all processes that they start.

    With ``IST_JAX_TESTS_CACHE``, a folder, also for the next time that tests run. A program that is
    not the same, or of another jaxlib or with other flags, is never found there.
    """
    gc.set_threshold(100_000, 50, 100)  # tracing makes many objects that stay: a tenth of the time
    if not hasattr(config, "workerinput"):  # pytest-xdist's processes have it from the first one
        kept = os.environ.get("IST_JAX_TESTS_CACHE")
        folder = tempfile.TemporaryDirectory(prefix="ist_jax_", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(kept or folder.name)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# Files that take longest, longest first: those that share the rest end at about the same time.
LONGEST = (
    *("notebooks", "workers", "resume_teams", "distributed", "optimizers", "exchange", "mean"),
    *("configs", "resume", "failures", "nodes", "saved_nets", "checkpoint", "main", "state"),
    *("iterate", "decompose", "partition", "resist", "lottery", "sketch_figures", "conv_nets"),
    *("theory", "wire", "warm_up", "meeting", "fuzz", "readme", "round", "pages", "slow_links"),
)


def pytest_collection_modifyitems(items):
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))  # else as it was


MOST_BYTES = 3 * 2**29  # of one process of pytest, when a file ends


def memory():
    """Bytes of this process that lie in memory; without Linux, as if there were many."""
    try:
        pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return MOST_BYTES
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module", autouse=True)
def _give_back():
    """What files have compiled goes where it is much: of the whole suite it would be gigabytes."""
    yield
    if memory() < MOST_BYTES:
        return
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def key():
    return jax.random.key(7)


_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _compiled.append(event)
)


@pytest.fixture
def compilations():
    """A function that counts the programs compiled (or found so) since it was last called."""

    def count() -> int:
        found = sum(event.endswith("backend_compile_duration") for event in _compiled)
        _compiled.clear()
        return found

    count()
    return count


@pytest.fixture
def here(monkeypatch):
    """Preparation in this process: faster, and it counts."""
    from ist_jax.data import prepared  # not before annotations are checked

    calls = []

    def aside(function, job):
        calls.append(function)
        module, name = function.split(":")
        job = json.loads(json.dumps(job))
        return json.loads(json.dumps(getattr(importlib.import_module(module), name)(job)))

    monkeypatch.setattr(prepared, "aside", aside)
    return calls


@pytest.fixture
def strict_types():
    """No implicit promotion of types (optax and Flax rely on it, so only where neither is used)."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def same_bits(a, b) -> bool:
    """Equal trees to the last bit: signs of zero and payloads of NaN count."""
    left, right = jax.tree.leaves(a), jax.tree.leaves(b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(left, right, strict=True)
    )


def on_host(tree):
    """NumPy arrays, keys as their numbers: any program in between might lose the sign of a zero."""

    def one(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(one, tree)


def mlp_tree(dims, seed=0):
    """A raw fully connected net (no Flax): {"w0": [N0, N1], ...} and the names of its axes."""
    draw = np.random.default_rng(seed)
    last = len(dims) - 2
    params = {
        f"w{i}": jnp.asarray(draw.normal(size=(a, b)) / np.sqrt(a), jnp.float32)
        for i, (a, b) in enumerate(itertools.pairwise(dims))
    }
    names = {
        f"w{i}": (f"h{i - 1}" if i else None, f"h{i}" if i < last else None)
        for i in range(last + 1)
    }
    return params, names


def mlp_loss(params, batch, key):
    """Mean squared error of a raw ReLU net of any width; the key is not used."""
    x = batch["x"]
    for i in range(len(params)):
        x = x @ params[f"w{i}"]
        if i < len(params) - 1:
            x = jax.nn.relu(x)
    return jnp.mean(jnp.square(x - batch["y"]))


def regression_batches(rounds, workers, steps, batch, inputs, outputs, seed=0):
    draw = np.random.default_rng(seed)
    return [
        {
            "x": draw.normal(size=(workers, steps, batch, inputs)).astype(np.float32),
            "y": draw.normal(size=(workers, steps, batch, outputs)).astype(np.float32),
        }
        for _ in range(rounds)
    ]


def drawn(model, *inputs, seed=0):
    """Parameters of a Flax model and their names; of its shapes alone, so that nothing compiles."""
    from ist_jax import axes

    shapes, names = axes.of(
        jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=True))
    )
    draw = np.random.default_rng(seed)

    def one(leaf):
        values = draw.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(values if leaf.ndim > 1 else 1 + values / 10, leaf.dtype)

    return jax.tree.map(one, shapes), names


def tiny(of="quickstart", **changes):
    """The tiny variant of a config, for one method and on the digits."""
    from ist_jax.run import config_files, overlay, values  # not before annotations are checked

    config = config_files.load(of, "tiny")
    config.methods, config.checkpoint.every, config.data.name = ("ist",), 0, "digits"
    for key, value in changes.items():
        if any(f"config.{key}".startswith(f"{group}.") for group in values.OPEN):
            overlay.put(config, key, value)
        else:
            config.update_from_flattened_dict({key: value})
    return config
