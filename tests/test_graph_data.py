"""Graphs from texts, from WordNet and from the files that others publish; clean, or refused."""

import codecs
import gzip
import io
import json
import os
import pickle
import shutil
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse

from ist_jax.core.errors import InputError
from ist_jax.data import files, graph
from ist_jax.data.sources import debian, debian_graph, graph_files, pickled, wordnet

DRAW = np.random.default_rng(0)
N = 12
FEATURES = DRAW.normal(size=(N, 3)).astype(np.float32)
LABELS = np.arange(N) % 3
PART = np.array([0] * 6 + [1] * 3 + [2] * 3)
ENDS = np.array([[0, 1, 1, 2, 5, 5, 9], [1, 0, 2, 1, 5, 6, 0]])  # both ways, again, a loop


def test_edges_go_both_ways_and_once_and_what_is_left_out_is_counted():
    made = graph.build("g", FEATURES, ENDS, LABELS, PART)
    edges = set(zip(made.receivers.tolist(), made.senders.tolist(), strict=True))
    assert edges == {(0, 1), (1, 0), (1, 2), (2, 1), (5, 6), (6, 5), (0, 9), (9, 0)}
    assert len(made.receivers) == 8
    assert sorted(edges) == list(zip(made.receivers.tolist(), made.senders.tolist(), strict=True))
    told = {"loops": 1, "repeated": 2, "isolated": 6, "unlabelled": 0, "blank": 0}
    assert made.counted == told
    assert made.classes == 3
    assert [len(made.nodes(part)) for part in (0, 1, 2)] == [6, 3, 3]


def test_nodes_without_label_or_features_are_kept_and_counted():
    labels, features = LABELS.copy(), FEATURES.copy()
    labels[0], features[3:5] = -1, 0
    made = graph.build("g", features, ENDS, labels, PART)
    assert (made.counted["unlabelled"], made.counted["blank"]) == (1, 2)
    assert made.nodes(0).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": np.array([[0, 3], [1, 12]])}, r"edge 1 joins \[3, 12\]; nodes are 0 to 11"),
        ({"ends": np.array([[0], [-1]])}, r"edge 0 joins \[0, -1\]"),
        ({"features": FEATURES * [1, np.nan, 1]}, "node 0 has a feature that is not finite"),
        ({"labels": LABELS - 2}, "node 0 has label -2, expected 0 to"),
        ({"labels": LABELS, "classes": 2}, "node 2 has label 2, expected 0 to 1"),
        ({"part": np.zeros(N, int)}, "no node of the validation part has a label"),
        ({"labels": np.where(PART == 2, -1, LABELS)}, "no node of the test part has a label"),
        ({"part": PART[:-1]}, r"must fit; found \[12, 3\], \[12\], \[11\], \[2, 7\]"),
        ({"labels": LABELS[:, None]}, r"must fit; found \[12, 3\], \[12, 1\]"),
        ({"ends": ENDS + 0.5}, "edges must be whole numbers, found float64"),
        ({"labels": LABELS * np.nan, "classes": 3}, "labels must be whole numbers, found float64"),
        ({"part": PART.astype(str)}, "parts must be whole numbers, found <U"),
        ({"part": PART + 254}, "node 0 is of part 254; there are 0 "),
        ({"features": FEATURES.astype(object)}, "features must be numbers, found object"),
        ({"features": FEATURES.astype(float) * 1e300}, "node 0 has a feature that is not finite"),
    ],
)
def test_a_graph_that_is_none_is_refused(change, message):
    given = {"features": FEATURES, "ends": ENDS, "labels": LABELS, "part": PART} | change
    with pytest.raises(InputError, match=message):
        graph.build("g", **given)


def test_graphs_of_one_name_and_size_are_told_apart():
    """Clusterings are kept by this digest."""
    given = {"features": FEATURES, "ends": ENDS, "labels": LABELS, "part": PART}
    changes: list[dict] = [{}, {"ends": ENDS[:, :-1]}, {"features": FEATURES + 1}]
    changes += [{"labels": LABELS[::-1]}, {"part": PART[::-1]}]
    made = [graph.build("g", **given | change).sha256 for change in changes]
    assert len(set(made)) == len(made)
    assert graph.build("g", **given).sha256 == made[0]


def test_parts_are_drawn_by_key_and_never_split_one():
    keys = [f"source{n // 3}" for n in range(3000)]
    part = graph.split(keys)
    assert (part.reshape(-1, 3) == part[::3, None]).all()
    shares = np.bincount(part) / len(part)
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.05)
    assert (graph.split(keys[::-1]) == part[::-1]).all()


LINES = {  # offset, file, kind, words, pointers | gloss
    "data.noun": [
        "00000001 03 n 01 thing 0 002 ~ 00000002 n 0000 + 00000001 v 0101 | what a thing is  ",
        "00000002 05 n 02 dog 0 hound a 001 @ 00000001 n 0000 | an animal that is a thing  ",
    ],
    "data.verb": ["00000001 38 v 01 go 0 000 01 + 02 00 | what an animal does  "],
    "data.adj": [
        "00000001 00 s 01 big 0 001 & 00000002 a 0000 | of a big thing  ",
        "00000002 00 a 01 large 0 001 & 00000001 s 0000 | of a large animal  ",
    ],
    "data.adv": ["00000001 02 r 01 so 0 000 | what is so  "],
}


def wordnet_folder(folder, **changes):
    folder.mkdir(exist_ok=True)
    for name, lines in (LINES | changes).items():
        text = "  1 the licence  \n" + "\n".join(lines) + "\n"
        (folder / name).write_text(text)
    return folder


def test_wordnet_is_read_pointer_by_pointer(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "split", lambda keys: np.arange(len(keys)) % 3)
    found = wordnet.load(str(wordnet_folder(tmp_path / "in")), cache=str(tmp_path / "cache"))
    edges = sorted(zip(found.receivers.tolist(), found.senders.tolist(), strict=True))
    assert edges == [(0, 1), (0, 2), (1, 0), (2, 0), (3, 4), (4, 3)]
    assert found.labels.tolist() == [3, 5, 38, 0, 0, 2]
    assert found.classes == 45
    assert len(found.sha256) == 64
    (told,) = (tmp_path / "cache").glob("*/set.json")
    digests = json.loads(told.read_text())["told"]["files"]
    assert digests == {name: files.digest(tmp_path / "in" / name) for name in LINES}
    again = wordnet.load(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
    assert again.sha256 == found.sha256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00000001 xx n 01 thing 0 000 | a  ", r"data\.noun, line 2 is no synset: invalid lit"),
        ("00000001 45 n 01 thing 0 000 | a  ", "line 2 is no synset: lexicographer file 45"),
        ("00000001 03 n 01 thing 0 009 ~ 1 n | a  ", "line 2 is no synset"),
        ("00000001 03 n 01 thing 0 001 ~ 00000009 n 0000 | a  ", "synset n00000009, which is not"),
    ],
)
def test_a_line_of_wordnet_that_is_no_synset_is_named(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        wordnet.read(wordnet_folder(tmp_path / "in", **{"data.noun": [line]}))
    with pytest.raises(InputError, match="apt-get install wordnet-base"):
        wordnet.load(str(tmp_path / "no"))


def test_files_of_wordnet_that_are_empty_or_no_text_are_refused(tmp_path):
    folder = wordnet_folder(tmp_path / "in")
    for name in LINES:
        (folder / name).write_text("  1 the licence\n")
    with pytest.raises(InputError, match=r"not a single synset in data\.noun"):
        wordnet.read(folder)
    (folder / "data.noun").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"data\.noun, line 1 is no text"):
        wordnet.read(folder)


@pytest.mark.slow
@pytest.mark.skipif(not (wordnet.PLACE / "data.noun").exists(), reason="needs wordnet-base")
def test_wordnet_3_0_is_as_large_as_it_is(tmp_path):
    found = wordnet.load(cache=str(tmp_path))
    assert (len(found.features), len(found.senders), found.classes) == (117_659, 2 * 183_789, 45)
    told = {"loops": 19, "repeated": 193_784, "isolated": 1_009, "unlabelled": 0, "blank": 173}
    assert found.counted == told


def test_packages_are_joined_to_what_they_need(monkeypatch):
    names = [f"p{n}" for n in range(40)]
    packages = debian.Documents(
        texts=[f"{name} does thing{n % 5} with tool{n % 7}" for n, name in enumerate(names)],
        labels=[["p0", "unknown"]] * 40,
        sources=[f"s{n // 2}" for n in range(40)],
        digests={},
        names=names,
        sections=["", "libs", "web", "libs"] * 10,
    )
    found = debian_graph.from_documents(packages)
    assert found.classes == 2
    assert found.labels[:4].tolist() == [-1, 0, 1, 0]
    assert len(found.receivers) == 2 * 39
    assert set(found.senders[found.receivers == 0]) == set(range(1, 40))
    assert found.counted["loops"] == 1
    assert (found.part[::2] == found.part[1::2]).all()


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write("\n".join(",".join(map(str, row)) for row in rows) + "\n")


def ogb(folder):
    written(folder / "raw/edge.csv.gz", ENDS.T)
    written(folder / "raw/node-feat.csv.gz", FEATURES)
    written(folder / "raw/node-label.csv.gz", LABELS[:, None])
    for name, part in (("train", 0), ("valid", 1), ("test", 2)):
        written(folder / f"split/time/{name}.csv.gz", np.flatnonzero(part == PART)[:, None])


def planetoid(folder):
    folder.mkdir()
    one_hot = np.eye(3, dtype=np.int32)[LABELS]
    sparse = scipy.sparse.csr_matrix(FEATURES)
    test = np.array([10, 9, 11])
    neighbours = {node: [] for node in range(N)}
    for a, b in ENDS.T.tolist():
        neighbours[a].append(b)
    parts = {"x": sparse[:6], "allx": sparse[:9], "tx": sparse[test], "graph": neighbours}
    parts |= {"y": one_hot[:6], "ally": one_hot[:9], "ty": one_hot[test]}
    for name, value in parts.items():
        (folder / f"ind.toy.{name}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / "ind.toy.test.index").write_text("10\n9\n11\n")


def reddit(folder):
    folder.mkdir()
    np.savez(folder / "reddit_data.npz", feature=FEATURES, label=LABELS, node_types=PART + 1)
    matrix = scipy.sparse.coo_matrix((np.ones(ENDS.shape[1]), ENDS), (N, N))
    scipy.sparse.save_npz(folder / "reddit_graph.npz", matrix)


KINDS = {"ogb": (graph_files.ogb, ogb), "planetoid": (graph_files.planetoid, planetoid)}
KINDS |= {"reddit": (graph_files.reddit, reddit)}


@pytest.mark.parametrize("kind", KINDS)
def test_published_files_give_the_graph_they_hold(tmp_path, kind):
    load, make = KINDS[kind]
    make(tmp_path / "in")
    folder = str(tmp_path / "in")
    found = load(folder, cache=str(tmp_path / "cache"))
    expected = graph.build(found.name, FEATURES, ENDS, LABELS, PART)
    for what in graph.ARRAYS:
        np.testing.assert_allclose(getattr(found, what), getattr(expected, what), rtol=1e-6)
    assert found.counted == expected.counted
    with pytest.raises(InputError, match="is no folder; it must have"):
        load(str(tmp_path / "no"))
    for file in [path for path in (tmp_path / "in").rglob("*") if path.is_file()]:
        for damage in (b"", b"spoilt, and no number at all"):
            kept = file.read_bytes()
            file.write_bytes(damage)
            with pytest.raises(InputError, match=rf"^{folder}.*: "):
                load(folder, cache=str(tmp_path / "other"))
            file.write_bytes(kept)
    shutil.rmtree(tmp_path / "in")


@pytest.mark.parametrize("told", ["9\n9\n11\n", "9\n10\n999999999999\n", "8\n9\n10\n", "9\n10\n"])
def test_an_index_of_test_nodes_that_is_none(tmp_path, told):
    planetoid(tmp_path / "in")
    (tmp_path / "in/ind.toy.test.index").write_text(told)
    with pytest.raises(InputError, match="must name 3 nodes from 9 on, each once"):
        graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


def test_a_graph_may_be_without_edges(tmp_path):
    planetoid(tmp_path / "in")
    alone = {node: [] for node in range(N)}
    (tmp_path / "in/ind.toy.graph").write_bytes(pickle.dumps(alone, protocol=2))
    found = graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
    assert (len(found.senders), found.counted["isolated"]) == (0, N)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    """Bytes that are another, in every file: a graph, or a complaint, and never a traceback."""
    load, make = KINDS[kind]
    make(tmp_path / "in")
    if kind == "reddit":
        arrays = dict(np.load(tmp_path / "in/reddit_data.npz"))
        np.savez_compressed(tmp_path / "in/reddit_data.npz", **arrays)
    draw, refused = np.random.default_rng(0), 0
    for file in sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file()):
        kept = file.read_bytes()
        for place in draw.integers(0, len(kept), 40):
            spoilt = bytearray(kept)
            spoilt[place] ^= int(draw.integers(1, 256))
            file.write_bytes(spoilt)
            try:
                load(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
            except InputError:
                refused += 1
        file.write_bytes(kept)
    assert refused > 40


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("test.index", b"10\n9\n", r"test\.index must name 3 nodes from 9 on"),
        ("test.index", b"10\n9\n-1\n", r"test\.index must name 3 nodes from 9 on"),
        ("x", pickle.dumps({}, protocol=2), "must be sparse matrices"),
        ("graph", pickle.dumps({"a": ["b"]}, protocol=2), "graph must be lists of nodes by node"),
        ("ty", pickle.dumps(np.eye(3)[:2], protocol=2), "are of different sizes"),
    ],
)
def test_files_of_planetoid_that_do_not_belong_together_are_refused(tmp_path, name, value, message):
    planetoid(tmp_path / "in")
    (tmp_path / f"in/ind.toy.{name}").write_bytes(value)
    with pytest.raises(InputError, match=message):
        graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


def test_a_row_without_a_one_is_no_label(tmp_path):
    planetoid(tmp_path / "in")
    labels = np.eye(3, dtype=np.int32)[LABELS][[10, 9, 11]]
    labels[0] = 0
    (tmp_path / "in/ind.toy.ty").write_bytes(pickle.dumps(labels, protocol=2))
    found = graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
    assert found.labels[9:].tolist() == [0, -1, 2]


def test_a_node_in_two_parts_is_refused(tmp_path):
    ogb(tmp_path / "in")
    written(tmp_path / "in/split/time/test.csv.gz", [[0], [11]])
    with pytest.raises(InputError, match="node 0 is in two parts"):
        graph_files.ogb(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_of_numbers_is_what_was_pickled(tmp_path, protocol):
    file = tmp_path / "numbers"
    matrix = scipy.sparse.csr_matrix(FEATURES * (FEATURES > 0))
    for value in (FEATURES, np.asfortranarray(FEATURES), LABELS.astype(">i4"), matrix):
        file.write_bytes(pickle.dumps(value, protocol=protocol))
        found = pickled.load(file)
        assert found.dtype == value.dtype
        assert (found != value).sum() == 0
    file.write_bytes(pickle.dumps({1: [2], 3: []}, protocol=protocol))
    assert pickled.load(file) == {1: [2], 3: []}
    file.write_bytes(pickle.dumps(np.array(["a"], object), protocol=protocol))
    with pytest.raises(InputError, match="is no file of Planetoid: numbers of kind object"):
        pickled.load(file)


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    planetoid(tmp_path / "in")

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    (tmp_path / "in/ind.toy.x").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"ind\.toy\.x is no file of Planetoid: builtins\.print"):
        graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        ("raw/node-label", [*LABELS[:-1], 2**32 + 1], "line 12: label 4294967297, expected"),
        (
            "raw/node-label",
            [*LABELS[:-1], 10**30],
            "line 12: expected 1 whole numbers, found",
        ),
        ("raw/node-label", ["0,1"] * 6, "line 1: expected 1 whole numbers, found '0,1'"),
        ("raw/node-label", LABELS[:-1], "has 11 lines, .*node-feat.csv.gz has 12"),
        ("raw/node-label", ["# labels", *LABELS], "line 1: expected 1 whole numbers, found '# lab"),
        ("raw/node-label", [*LABELS[:3], "", *LABELS[3:]], "line 4: .*found a blank line"),
        ("raw/node-label", [*LABELS, "# the end"], "line 13: .*found '# the end'"),
        ("raw/node-label", [*LABELS[:-1], "1.5"], "line 12: .*found '1.5'"),
        ("raw/edge", ["0,1", "1,12"], "line 2: node 12, expected 0 to 11"),
        ("raw/edge", ["0,1", "1,2,3"], "line 2: expected 2 whole numbers, found '1,2,3'"),
        ("raw/node-feat", ["1,2"] * 11 + ["1"], "line 12: expected 2 numbers, found '1'"),
        ("split/time/train", [0, 1, 2, 0], "line 4: node 0 stands there twice"),
        ("split/time/train", [0, 1, "#2", 3], "line 3: .*found '#2'"),
        ("split/time/train", [0, 1, "", 3], "line 3: .*found a blank line"),
        ("split/time/train", [0, -1], "line 2: node -1, expected 0 to 11"),
        ("split/time/test", [11, 0], "line 2: node 0 is in two parts"),
        ("split/time/test", range(6), "line 1: node 0 is in two parts"),
        ("split/time/test", ["node11"], "line 1: .*found 'node11'"),
    ],
)
def test_a_line_of_ogb_that_is_wrong_is_named_with_its_file(tmp_path, file, rows, message):
    ogb(tmp_path / "in")
    written(tmp_path / f"in/{file}.csv.gz", [[row] for row in rows])
    with pytest.raises(InputError, match=message) as refused:
        graph_files.ogb(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
    assert f"{file}.csv.gz" in str(refused.value)


def test_marks_and_blanks_that_editors_leave_in_lists_of_nodes_are_understood(tmp_path):
    ogb(tmp_path / "in")
    expected = graph_files.ogb(str(tmp_path / "in"), cache=str(tmp_path / "cache")).part
    with gzip.open(tmp_path / "in/split/time/train.csv.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf0\r\n1 \r\n 2\r\n3\t\r\n4\r\n5")
    found = graph_files.ogb(str(tmp_path / "in"), cache=str(tmp_path / "cache")).part
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("what", ["y", "ty", "ally"])
@pytest.mark.parametrize("row", [[0, np.nan, 0], [1, 1, 0], [0, 2, 0], [-1, 0, 1]])
def test_labels_of_planetoid_that_are_not_one_hot_are_refused(tmp_path, what, row):
    planetoid(tmp_path / "in")
    labels = pickle.loads((tmp_path / f"in/ind.toy.{what}").read_bytes()).astype(float)
    labels[2] = row
    (tmp_path / f"in/ind.toy.{what}").write_bytes(pickle.dumps(labels, protocol=2))
    with pytest.raises(InputError, match=rf"ind\.toy\.{what}, row 3: a label is one 1 among"):
        graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


@pytest.mark.parametrize("node", [10**30, 2**63, -1, 12, "3", 1.0])
def test_a_neighbour_that_is_no_node_is_refused(tmp_path, node):
    planetoid(tmp_path / "in")
    lists = {n: [] for n in range(N)} | {3: [node]}
    (tmp_path / "in/ind.toy.graph").write_bytes(pickle.dumps(lists, protocol=2))
    with pytest.raises(InputError, match="numbers from 0 to 11; found"):
        graph_files.planetoid(str(tmp_path / "in"), cache=str(tmp_path / "cache"))


def planetoid_with(**parts):
    def make(folder):
        planetoid(folder)
        for name, data in parts.items():
            (folder / f"ind.toy.{name}").write_bytes(data)

    return make


def short(matrix):
    """One whose last row ends before its last entry, which SciPy would leave out."""
    matrix = scipy.sparse.csr_matrix(matrix)
    matrix.indptr[-1] -= 1
    return matrix


@pytest.mark.parametrize("kind", ["planetoid", "reddit"])
def test_entries_that_are_in_no_row_are_not_left_out_in_silence(tmp_path, kind):
    load, make = KINDS[kind]
    make(tmp_path / "in")
    if kind == "planetoid":
        matrix = short(FEATURES[:6])
        (tmp_path / "in" / "ind.toy.x").write_bytes(pickle.dumps(matrix, protocol=2))
    else:
        matrix = short(scipy.sparse.coo_matrix((np.ones(ENDS.shape[1]), ENDS), (N, N)))
        parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
        np.savez(tmp_path / "in" / "reddit_graph.npz", format=b"csr", shape=matrix.shape, **parts)
    with pytest.raises(InputError, match="entries that are in no row"):
        load(str(tmp_path / "in"))


def wide(rows):
    matrix = scipy.sparse.csr_matrix(FEATURES[:rows])
    matrix._shape = (rows, 2**30)
    return pickle.dumps(matrix, protocol=2)


def ogb_with(**parts):
    def make(folder):
        ogb(folder)
        for name, data in parts.items():
            (folder / f"raw/{name.replace('_', '-')}.csv.gz").write_bytes(gzip.compress(data))

    return make


def reddit_with(declared, size):
    def make(folder):
        reddit(folder)
        header = io.BytesIO()
        told = {"descr": "<f4", "fortran_order": False, "shape": declared}
        np.lib.format.write_array_header_1_0(header, told)
        with zipfile.ZipFile(folder / "reddit_data.npz", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("feature.npy", header.getvalue() + bytes(size))

    return make


TEXT = b"X" + (2**16).to_bytes(4, "little") + b"a" * 2**16 + b"q\x00"  # remembered as number 0
AGAIN = b"h\x01h\0X\6\0\0\0latin1\x86R"  # what number 1 makes of it
ENCODED = b"(c_codecs\nencode\nq\x01" + AGAIN * 4000 + b"t."
GREEDY = {
    "a place far away": ("planetoid", planetoid_with(y=b"\x80\x02]r" + b"\0\0\0\x10" + b".")),
    "a length": ("planetoid", planetoid_with(y=b"\x80\x02T\xff\xff\xff\x7fab.")),
    "a text many times": ("planetoid", planetoid_with(y=b"\x80\x02" + TEXT + ENCODED)),
    "a width": ("planetoid", planetoid_with(x=wide(6), tx=wide(3), allx=wide(9))),
    "edges": ("ogb", ogb_with(edge=b"0,0\n" * 2**18)),
    "zeros": ("ogb", ogb_with(node_feat=b"0" * 2**24)),
    "rows of zeros": ("ogb", ogb_with(node_feat=b"0,0\n" * 2**18)),
    "a shape": ("reddit", reddit_with((2**34,), 10)),
    "an array": ("reddit", reddit_with((2**24,), 2**26)),
}


@pytest.mark.parametrize("what", GREEDY)
def test_a_small_file_takes_no_large_memory_and_no_long_time(tmp_path, monkeypatch, what):
    """With bounds a sixteenth of the real ones, so that the test is short."""
    for bound in ("LEAST", "LONGEST"):
        monkeypatch.setattr(files, bound, 2**20)
    kind, make = GREEDY[what]
    make(tmp_path / "in")
    size = sum(path.stat().st_size for path in (tmp_path / "in").rglob("*") if path.is_file())
    assert size < 500_000
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(InputError):
            KINDS[kind][0](str(tmp_path / "in"), cache=str(tmp_path / "cache"))
        assert tracemalloc.get_traced_memory()[1] < 2**23  # 2 MB, and what it takes to read
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_among_the_files_is_refused_and_not_waited_for(tmp_path, kind):
    load, make = KINDS[kind]
    make(tmp_path / "in")
    for file in sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file()):
        kept = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(InputError, match=rf"{file} cannot be read: it is no regular file"):
            load(str(tmp_path / "in"), cache=str(tmp_path / "cache"))
        file.unlink()
        file.write_bytes(kept)


def test_a_pipe_in_place_of_a_list_of_wordnet_or_apt_is_refused(tmp_path):
    folder = wordnet_folder(tmp_path / "in")
    (folder / "data.verb").unlink()
    os.mkfifo(folder / "data.verb")
    with pytest.raises(InputError, match=r"data\.verb cannot be read: it is no regular file"):
        wordnet.load(str(folder), cache=str(tmp_path / "cache"))
    start = "mirror_dists_bookworm_main_"
    for name in ("binary-amd64_Packages.lz4", "i18n_Translation-en"):
        os.mkfifo(tmp_path / f"{start}{name}")
    with pytest.raises(InputError, match=r"Packages\.lz4 cannot be read: it is no regular file"):
        debian_graph.load(str(tmp_path), cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00000001 03 n 01 thing 0 001 ~ 00000002 n 0000 + 00000001 n 0101 | a", "more or fewer"),
        ("00000001 03 v 01 thing 0 000 | a", "words of kind 'v'"),
        ("00000002 03 n 01 thing 0 000 | a", "line 3: synset 00000002 again"),
    ],
)
def test_a_synset_that_would_lose_a_pointer_or_hide_another_is_refused(tmp_path, line, message):
    lines = [line, LINES["data.noun"][1]]
    with pytest.raises(InputError, match=message):
        wordnet.read(wordnet_folder(tmp_path / "in", **{"data.noun": lines}))


@pytest.mark.parametrize("texts", [[], ["a b"], ["word", "word", "word"], ["one two", "three"]])
def test_texts_without_words_in_common_are_refused(texts):
    with pytest.raises(InputError, match="features cannot be made of"):
        graph.of_texts(texts)


class Coded:
    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return codecs.encode, (self.text, "punycode")


def test_a_text_is_encoded_as_bytes_are_and_in_no_slow_way(tmp_path):
    (tmp_path / "numbers").write_bytes(pickle.dumps(Coded("a\xe4"), protocol=2))
    with pytest.raises(InputError, match="a text that is encoded as 'punycode', or twice"):
        pickled.load(tmp_path / "numbers")
