"""What others may have damaged, or made to harm: read, or refused with a clear error.

A thousand changes to a good input, most of them small; twenty thousand where tests may be slow.
"""

import gzip
import json
import random
import struct
import tracemalloc

import fields
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from ist_jax.checkpoint import about as descriptions
from ist_jax.core.errors import CheckpointError, InputError
from ist_jax.data import clusters, graph
from ist_jax.data.sources import idx, sparse_text, wav
from ist_jax.run import faults, metrics, report

HARD = (b"", b"\0", b"\xff" * 4, b"[" * 5000, b"9" * 5000, b"NaN", b"1e999", b"-1", b"null", b"{}")


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "cut", "double", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 30),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(HARD)),
    ),
    min_size=1,
    max_size=3,
)


def changed(good, changes):
    """A copy: bytes put in place of others or between them, a part cut out, doubled, or last."""
    data = bytearray(good)
    for kind, where, length, new in changes:
        start = int(where * (len(data) + 1))
        end = start + length
        match kind:
            case "put":
                data[start : start + len(new)] = new
            case "insert":
                data[start:start] = new
            case "cut":
                del data[start:end]
            case "double":
                data[start:start] = data[start:end]
            case "end":
                del data[start:]
    return bytes(data)


def line(**changes):
    return dict.fromkeys(metrics.NUMBERS, 1) | {"method": "ist", "time/train_s": 0.5} | changes


LINES = "".join(json.dumps(line(round=r, seed=s)) + "\n" for s in range(2) for r in range(3))
ABOUT = {
    "format": 1,
    "round": 3,
    "about": {},
    "leaves": {"w": {"shape": [2], "dtype": "int8", "digest": "0"}},
}
IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 3) + bytes(range(18))

SAMPLES = 6
FORMAT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
RECORDING = b"WAVE" + FORMAT + struct.pack("<4sI6h", b"data", 2 * SAMPLES, *range(SAMPLES))


class Readers:
    """Each takes bytes; it returns nothing, or raises what it may raise."""

    def __init__(self, folder):
        self.path = folder / "metrics.jsonl"

    def zipped(self, data):
        self.path.write_bytes(data)
        assert idx.read(self.path, 3).ndim == 3

    def unzipped(self, data):
        self.zipped(gzip.compress(data, 1))

    def recording(self, data):
        self.path.write_bytes(data)
        assert len(wav.read(self.path, samples=SAMPLES)) == SAMPLES

    def sparse_text(self, data):
        self.path.write_bytes(data)
        sparse_text.read(self.path, self.path.parent, "train")

    def lines(self, data):
        self.path.write_bytes(data)
        report.table([self.path.parent])

    def lines_to_go_on_from(self, data):
        self.path.write_bytes(data)
        kept = metrics.Metrics(self.path, keep=True)
        kept.cut("ist", 0, after=max(kept.rounds("ist", 0), default=0) - 1)
        kept.write()
        kept = metrics.Metrics(self.path, keep=True)
        assert all(isinstance(number, int) for number in kept.rounds("ist", 1))

    def about(self, data):
        found = self._of_round_3(data)
        written = ABOUT | {"statistics": {}}  # of which format 1 has none
        assert found == written, "the seal holds, so it is what was written"

    def sealed(self, data):
        """Damage that came before the seal."""
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(told, dict):
            told["seal"] = descriptions.seal(told)
            found = self._of_round_3(json.dumps(told).encode())
            for leaf in [*found["leaves"].values(), *found["statistics"].values()]:
                assert (type(leaf["shape"]), type(leaf["digest"])) == (list, str)

    def _of_round_3(self, data):
        place = self.path.with_name("checkpoints") / "3" / descriptions.ABOUT / "metadata"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return descriptions.read(epath.Path(place.parents[2]), 3)

    def plan(self, data):
        faults.parse(data.decode("utf-8", "replace"), 4, 0)(3)


GOOD = {
    "zipped": gzip.compress(IMAGES, 1),
    "unzipped": IMAGES,
    "recording": struct.pack("<4sI", b"RIFF", len(RECORDING)) + RECORDING,
    "sparse_text": b"3 9 5\n0,3 1:0.5 5:-2e-3\n 0:1\n4,2,1 8:.5 7:1. 3:1\n",
    "lines": LINES.encode(),
    "lines_to_go_on_from": LINES.encode(),
    "about": json.dumps(ABOUT | {"seal": descriptions.seal(ABOUT)}).encode(),
    "sealed": json.dumps(ABOUT).encode(),
    "plan": b"drop:2@5-9; nan:0@7;slow:3x4;drop:25%",
}


@pytest.mark.parametrize("reader", GOOD)
@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_any_input_is_read_or_refused_with_a_clear_error(tmp_path, reader, count):
    """In 16 MB more than it is itself."""
    read, refused = getattr(Readers(tmp_path), reader), []
    read(GOOD[reader])

    @settings(max_examples=count, deadline=None, database=None)
    @given(CHANGES)
    def one(changes):
        data = changed(GOOD[reader], changes)
        tracemalloc.start()  # here, as Hypothesis would be slow under it
        try:
            read(data)
        except (InputError, CheckpointError) as error:
            refused.append(len(str(error)))
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert most < 2**25

    one()
    assert max(refused, default=0) < 1000
    assert len(refused) > count / 200 or reader == "lines_to_go_on_from"


def tried(read, *args):
    """What a reader gives, or None if it refuses in less than 1,000 characters; in 32 MB."""
    found, refused = None, ""
    tracemalloc.start()
    try:
        found = read(*args)
    except InputError as error:
        refused = str(error)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(refused) < 1000
    assert most < 2**25
    return found


@pytest.fixture
def build(monkeypatch):
    monkeypatch.setattr(graph, "split", lambda keys: np.arange(len(keys)) % 3)
    return fields.Recorded(monkeypatch)


SETS = pytest.mark.parametrize("name", fields.KINDS)
COUNT = pytest.mark.parametrize("count", [60, pytest.param(5_000, marks=pytest.mark.slow)])


@SETS
@COUNT
def test_a_field_that_is_changed_is_refused_or_is_all_that_is_different(
    tmp_path, build, name, count
):
    """Held against what a few lines of code that do not know the readers make of it."""
    kind, draw, read = fields.KINDS[name], random.Random(0), 0
    kind.write(tmp_path / "in", kind.tables)
    assert kind.read(tmp_path / "in", build) == kind.right(kind.tables)
    for _ in range(count):
        tables = fields.with_one_changed(kind, draw)
        try:
            kind.write(tmp_path / "in", tables)
        except (TypeError, ValueError, OverflowError):
            continue  # no file can say so
        found = tried(kind.read, tmp_path / "in", build)
        if found is not None:
            read += 1
            assert found == kind.right(tables)
    assert read > count / 10


@SETS
@COUNT
def test_any_file_of_a_set_is_read_or_refused_with_a_clear_error(tmp_path, build, name, count):
    kind = fields.KINDS[name]
    kind.write(tmp_path / "in", kind.tables)
    good = {path: path.read_bytes() for path in sorted((tmp_path / "in").rglob("*.*"))}
    good |= {path: path.read_bytes() for path in sorted((tmp_path / "in").glob("*Packages"))}

    @settings(max_examples=count, deadline=None, database=None)
    @given(st.sampled_from([*good]), CHANGES, st.booleans())
    def one(path, changes, unpacked):
        if unpacked and path.suffix == ".gz":
            path.write_bytes(gzip.compress(changed(gzip.decompress(good[path]), changes), 1))
        else:
            path.write_bytes(changed(good[path], changes))
        tried(kind.read, tmp_path / "in", build)
        path.write_bytes(good[path])

    one()


def test_clusters_that_were_kept_and_damaged_are_found_again(tmp_path):
    pytest.importorskip("pymetis")
    labels, part = np.array(fields.LABELS), np.array(fields.PART)
    made = graph.build("g", np.eye(12), np.array(fields.ENDS).T, labels, part)
    expected = clusters.metis(made, 3, str(tmp_path))
    (path,) = tmp_path.glob("*/clusters.npy")
    good, draw = path.read_bytes(), random.Random(0)
    for _ in range(20):
        data = bytearray(good)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        np.testing.assert_array_equal(tried(clusters.metis, made, 3, str(tmp_path)), expected)
