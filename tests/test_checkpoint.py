"""Checkpoints: to the last bit and for every number of devices, and never a damaged one."""

import contextlib
import itertools
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import optax
import pytest
from conftest import ROOT, mlp_tree, on_host, regression_batches, same_bits
from training import trainer_of

from ist_jax import method, partition
from ist_jax.checkpoint import Checkpoints, Keep, reading
from ist_jax.core.errors import CheckpointError
from ist_jax.sharded import placement

DIMS = (12, 16, 10, 3)  # 4 devices divide the first hidden layer and not the second
PARAMS, NAMES = mlp_tree(DIMS)
BATCHES = {size: regression_batches(6, size, 2, 4, DIMS[0], DIMS[-1]) for size in (4, 8)}
STATISTICS = {"statistics": {"h0": {"mean": np.arange(16.0, dtype=np.float32)}}}
ADAM = {"optimizer": optax.adam(1e-2), "optimizer_state": "keep"}
BALANCED = method.ist(partition.balanced)


def trainer(devices=1, size=4, how=BALANCED, **options):
    mesh = placement.mesh(size, devices)
    return trainer_of(PARAMS, NAMES, how, size, mesh=mesh, exact=True, **{**ADAM, **options})


def go_on(trainer, state, rounds, size=4):
    for number in rounds:
        state, _ = trainer.round(state, BATCHES[size][number])
    return state


def saved(folder, trainer, state, statistics=None, **about):
    kept = Checkpoints(folder)
    kept.save(trainer.unsharded(state), about, statistics, wait=True)
    kept.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Rounds 2 and 3 of a net on four devices with odd values, saved; and its state."""
    folder, four = tmp_path_factory.mktemp("saved"), trainer(4)
    odd = jax.tree.map(lambda leaf: leaf.at[0, 0].set(-0.0).at[1, 1].set(1e-42), PARAMS)
    state = go_on(four, four.init(odd, jax.random.key(1)), range(2))
    saved(folder, four, state, who="ours")
    state = go_on(four, state, range(2, 3))
    saved(folder, four, state, STATISTICS)
    return folder, on_host(four.whole(state))


def test_a_folder_may_be_told_relative_to_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = trainer()
    saved("runs/here", net, go_on(net, net.init(PARAMS, jax.random.key(1)), range(1)))
    assert Checkpoints("runs/here").rounds() == [1]
    assert (tmp_path / "runs" / "here" / "1").is_dir()
    assert str(Checkpoints("gs://bucket/run").folder) == "gs://bucket/run"


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_a_state_comes_back_to_the_last_bit_on_any_number_of_devices(three, devices):
    folder, state = three
    kept, net = Checkpoints(folder), trainer(devices)
    assert kept.rounds() == [3, 2]
    assert kept.check(2)["about"] == {"who": "ours"}
    natural = kept.restore(kept.check(3), net.shapes)
    assert same_bits(on_host(natural), state)
    for leaf, wanted in zip(jax.tree.leaves(natural), jax.tree.leaves(net.shapes), strict=True):
        assert leaf.sharding == wanted.sharding, "no device holds more than its part"
    assert same_bits(on_host(net.whole(net.resume(natural))), state)
    kept.close()


OPTIMIZERS = {
    "sgd": {"optimizer": optax.sgd(0.1), "optimizer_state": "reset"},
    "momentum kept": {"optimizer": optax.sgd(0.1, momentum=0.9), "optimizer_state": "keep"},
    "momentum reset": {"optimizer": optax.sgd(0.1, momentum=0.9), "optimizer_state": "reset"},
    "adam": {"optimizer": optax.adam(1e-2), "optimizer_state": "keep"},
    "schedule": {
        "optimizer": optax.adam(optax.cosine_decay_schedule(1e-2, 12)),
        "optimizer_state": "reset",
    },
}


DEVICES = 1, 2, 4, 8
HERE = {("adam", 1, 8), ("momentum kept", 8, 2), ("momentum reset", 2, 1), ("schedule", 2, 4)}
MATRIX = {(name, *pair) for name in OPTIMIZERS for pair in itertools.product(DEVICES, DEVICES)}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        *sorted(HERE),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in sorted(MATRIX - HERE)),
    ],
)
def test_six_rounds_are_three_and_three(tmp_path, name, before, after):
    first, second = (trainer(devices, 8, **OPTIMIZERS[name]) for devices in (before, after))
    start = lambda: first.init(PARAMS, jax.random.key(1))
    straight = go_on(first, start(), range(6), 8)
    saved(tmp_path, first, go_on(first, start(), range(3), 8))
    kept = Checkpoints(tmp_path)
    state = second.resume(kept.restore(kept.check(3), second.shapes))
    kept.close()
    state = go_on(second, state, range(3, 6), 8)
    assert same_bits(on_host(second.whole(state)), on_host(first.whole(straight)))


@pytest.mark.parametrize("devices", [1, 4])
def test_what_is_saved_is_the_state_as_it_was_though_training_goes_on_in_its_place(
    tmp_path, devices
):
    net = trainer(devices)
    state = go_on(net, net.init(PARAMS, jax.random.key(1)), range(1))
    before, kept = on_host(net.whole(state)), Checkpoints(tmp_path)
    kept.save(net.unsharded(state), {})
    go_on(net, state, range(1, 6))
    kept.close()
    assert same_bits(on_host(kept.restore(kept.check(1), net.shapes)), before)
    kept.close()


@pytest.mark.parametrize("size", [2, 8])
def test_another_number_of_workers_goes_on_and_moments_stay_with_their_neurons(three, size):
    folder, state = three
    kept, net = Checkpoints(folder), trainer(2, size)
    resumed = net.resume(kept.restore(kept.check(3), net.shapes))
    kept.close()
    found = on_host(net.whole(resumed))
    assert same_bits(found[:4], state[:4])
    assert {group: ids.shape[0] for group, ids in found.assignment.items()} == {
        "h0": size,
        "h1": size,
    }
    batches = regression_batches(1, size, 2, 4, DIMS[0], DIMS[-1])[0]
    assert np.isfinite(net.round(resumed, batches)[1].loss).all()


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, seed):
    data = bytearray(path.read_bytes())
    if data:
        place = int(np.random.default_rng(seed).integers(8 * len(data)))
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(data))


DAMAGE = {
    "flip": flip,
    "truncate": lambda path, seed: path.write_bytes(path.read_bytes()[: seed * 7 % 40]),
    "delete": lambda path, seed: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_or_harmless_whatever_file_it_is(
    three, tmp_path, damage, monkeypatch
):
    """A refusal says which leaf, or that it is ``about``; what is not can be read, as it was."""
    folder, state = three
    net, refused, said, items = trainer(2), [], [], set()
    monkeypatch.setattr(reading, "BLOCK", 100)  # bytes, so that a leaf is read in several blocks
    for number, path in enumerate(files(folder / "3")):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        DAMAGE[damage](copy / path.relative_to(folder), number)
        kept = Checkpoints(copy)
        try:
            told = kept.check(3)
        except CheckpointError as error:
            said.append(str(error))
            refused.append(path.name)
            items.add(path.relative_to(folder / "3").parts[0])
        else:
            assert same_bits(on_host(kept.restore(told, net.shapes)), state)
        with contextlib.suppress(CheckpointError):  # it reads no moments
            assert same_bits(kept.net(3), (state.params, STATISTICS))
        assert kept.check(2)["round"] == 2, "the one before it is there"
        kept.close()
    clear = re.compile(r"round 3 is damaged: (leaf \S+|about) ")
    assert all(clear.search(text) for text in said), said
    assert {"metadata", "manifest.ocdbt"} <= set(refused)
    assert len(refused) >= 3, "and the file with the leaves"
    assert items == {"state", "statistics", "about"}


def test_every_leaf_is_checked_where_the_store_itself_notices_nothing(three, tmp_path):
    """Bytes changed behind a valid checksum: written through TensorStore."""
    import tensorstore

    folder, _ = three
    told = Checkpoints(folder).check(3)
    items = {**dict.fromkeys(told["leaves"], "state"), "statistics.h0.mean": "statistics"}
    for leaf, item in items.items():
        copy = tmp_path / leaf
        shutil.copytree(folder, copy)
        base = f"file://{copy / '3' / item}/"
        where = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base}}
        array = tensorstore.open({**where, "path": f"{leaf}/"}).result()
        values = array.read().result()
        raw = bytearray(values.tobytes())
        raw[-1] ^= 1
        array.write(np.frombuffer(raw, values.dtype).reshape(values.shape)).result()
        with pytest.raises(CheckpointError, match=f"leaf {leaf} differs from its digest"):
            Checkpoints(copy).check(3)
        if leaf.startswith(("params.", "statistics.")):
            with pytest.raises(CheckpointError, match=f"leaf {leaf} differs from its digest"):
                Checkpoints(copy).net(3)
    assert items.keys() > set(told["statistics"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"seal": 1}',
        "[" * 100_000,
        '{"seal": "x", "leaves": {}}',
        "\udc80".encode("utf-8", "surrogateescape"),
    ],
    ids=range(8),
)
def test_an_about_that_is_not_one(three, tmp_path, text):
    folder, _ = three
    shutil.copytree(folder, tmp_path / "copy")
    about = tmp_path / "copy" / "3" / "about" / "metadata"
    about.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match="round 3 is damaged: about"):
        Checkpoints(tmp_path / "copy").check(3)


def test_a_checkpoint_of_another_net_is_refused(three):
    folder, _ = three
    kept = Checkpoints(folder)
    told = kept.check(3)
    params, names = mlp_tree((12, 16, 8, 3))
    wider = trainer_of(params, names, BALANCED, 4, **ADAM)
    with pytest.raises(CheckpointError, match=r"leaf params.w1 .* float32\[16, 10\], the net's is"):
        kept.restore(told, wider.shapes)
    plain = trainer_of(PARAMS, NAMES, BALANCED, 4)
    with pytest.raises(CheckpointError, match=r"do not both have a leaf opt_state"):
        kept.restore(told, plain.shapes)
    kept.close()


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (Keep(last=2), [6, 5]),
        (Keep(last=1, every=2), [6, 4, 2]),
        (Keep(last=1, best=1), [6, 3]),
    ],
    ids=str,
)
def test_which_checkpoints_stay(tmp_path, keep, stays):
    net, kept = trainer(), Checkpoints(tmp_path, keep)
    state = net.init(PARAMS, jax.random.key(1))
    for number in range(6):
        state = go_on(net, state, [number])
        score = float(number == 2) if number % 2 == 0 else None
        kept.save(net.unsharded(state), {}, score=score, wait=True)
    kept.close()
    assert kept.rounds() == stays


def test_one_that_was_set_aside_is_none_and_its_round_can_be_saved_again(three, tmp_path):
    folder, _ = three
    shutil.copytree(folder, tmp_path / "copy")
    kept = Checkpoints(tmp_path / "copy")
    kept.set_aside(3)
    assert kept.rounds() == [2]
    net = trainer()
    state = go_on(net, net.resume(kept.restore(kept.check(2), net.shapes)), [2])
    kept.save(net.unsharded(state), {}, wait=True)
    kept.close()
    assert kept.rounds() == [3, 2]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB, and one that may not be written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in Orbax's
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # threads
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_is_told_and_the_last_good_one_stays(small_disk, how):
    net, kept = trainer(), Checkpoints(small_disk / "saved")
    state = go_on(net, net.init(PARAMS, jax.random.key(1)), range(1))
    kept.save(net.unsharded(state), {}, wait=True)
    if how == "full":
        (small_disk / "rest").write_bytes(b"x")
        with pytest.raises(OSError, match="No space"):
            (small_disk / "rest").write_bytes(b"x" * 400_000)
    else:
        remount = ["mount", "-o", "remount,ro", str(small_disk)]
        subprocess.run(remount, check=True)
    state = go_on(net, state, range(1, 2))
    told = "it takes .* MB, and .* MB are free" if how == "full" else "it may not be written"
    assert re.fullmatch(told, kept.obstacle(net.shapes))
    with pytest.raises(CheckpointError, match=r"round 2, .* could not be written in .*saved: "):
        kept.save(net.unsharded(state), {}, wait=True)  # as one that finds out too late
    if how == "full":
        (small_disk / "rest").unlink()
        state = go_on(net, state, range(2, 3))
        kept.save(net.unsharded(state), {}, wait=True)  # goes on when there is room
    kept.close()
    assert kept.rounds() == ([3, 1] if how == "full" else [1])
    for number in kept.rounds():
        kept.check(number)


def test_a_save_that_failed_and_still_writes_does_not_take_the_next_with_it(tmp_path):
    remains, stop = tmp_path / "2.orbax-checkpoint-tmp" / "state", threading.Event()
    remains.mkdir(parents=True)
    for number in range(2_000):  # so that it takes a while to empty
        (remains / f"old{number}").touch()

    def write():
        for number in itertools.count():
            with contextlib.suppress(OSError):
                remains.mkdir(parents=True, exist_ok=True)
                (remains / str(number)).touch()
            if stop.is_set():
                return

    net, kept = trainer(), Checkpoints(tmp_path)
    state = go_on(net, net.init(PARAMS, jax.random.key(1)), range(3))
    thread = threading.Thread(target=write)
    thread.start()
    threading.Timer(0.5, stop.set).start()
    kept.free(3)  # opens the folder
    thread.join()
    kept.save(net.unsharded(state), {}, wait=True)
    kept.close()
    kept.check(3)
    again = Checkpoints(tmp_path)
    again.save(net.unsharded(go_on(net, state, range(3, 4))), {}, wait=True)
    again.close()
    assert again.rounds() == [4, 3]
    assert not remains.parent.exists()  # the next to open the folder removed them


def test_a_checkpoint_whose_removal_is_cut_short_is_none(tmp_path, monkeypatch):
    net, kept = trainer(), Checkpoints(tmp_path, Keep(last=1))
    state = net.init(PARAMS, jax.random.key(1))
    remove, cut_short = shutil.rmtree, []

    def half(path, *args, **kwargs):
        """As if the process were killed meanwhile."""
        (pathlib.Path(path) / "state" / "manifest.ocdbt").unlink()
        cut_short.append(path)
        raise OSError("no more")

    monkeypatch.setattr(shutil, "rmtree", half)
    for number in range(3):
        state = go_on(net, state, range(number, number + 1))
        kept.save(net.unsharded(state), {}, wait=True)
        for number in kept.rounds():
            kept.check(number)
    assert len(cut_short) == 1, "of round 1, when round 3 was saved"
    monkeypatch.setattr(shutil, "rmtree", remove)
    kept.close()
    assert [path.name for path in tmp_path.iterdir()] == ["3"], "nothing stays"


def test_the_reader_in_the_documentation_reads_one_without_jax(three, tmp_path):
    folder, state = three
    text = (ROOT / "docs" / "checkpoints.md").read_text()
    code = re.search(r"```python\n(import json.*?)```", text, re.S)[1]
    code = re.sub(r'Path\("[^"]*"\)', f"Path({str(folder / '3')!r})", code)
    code += "import numpy, sys\nnumpy.savez(sys.argv[1], **net)\nassert 'jax' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code, tmp_path / "net.npz"], check=True, timeout=60)
    net = np.load(tmp_path / "net.npz")
    for name, leaf in state.params.items():
        assert net[f"params.{name}"].tobytes() == leaf.tobytes()
    assert set(net) == set(Checkpoints(folder).check(3)["leaves"])


def test_only_one_file_imports_orbax():
    importing = re.compile(r"^\s*(import|from) orbax", re.M)
    sources = [path for part in ("ist_jax", "experiments") for path in (ROOT / part).rglob("*.py")]
    found = [path.name for path in sources if importing.search(path.read_text())]
    assert found == ["writing.py"]
