"""Published files with one field changed, and what is right to read from them.

Each kind has ``tables``, the fields of its files; ``write`` makes the files, ``read`` gives what a
reader of the library makes of them, and ``right`` what they say, by the shortest of code that knows
nothing of the readers: it raises ValueError for what is not to be read.
"""

import copy
import gzip
import pickle
import re
from typing import ClassVar

import numpy as np
import scipy.sparse

from ist_jax.data import graph
from ist_jax.data.sources import debian, graph_files, sparse_text, wordnet

NODES, CLASSES, WIDTH = 12, 3, 3
PART = [0] * 6 + [1] * 3 + [2] * 3
LABELS = [n % CLASSES for n in range(NODES)]
ENDS = [(0, 1), (1, 0), (1, 2), (2, 1), (5, 5), (5, 6), (9, 0)]
FEATURES = [[n + 1.0, 0.0, -n / 4] for n in range(NODES)]
WHOLE = [0, 1, 2, 5, 7, 11, 12, -1, -2, 255, 2**30, 2**31 - 1, 2**31, 2**32 + 1, 2**62]
TEXTS = [*map(str, WHOLE), str(2**63), str(10**30), "9" * 5000, "", " ", "1.5", "1e3", "nan", "inf"]
TEXTS += ["-0", "+1", " 2", "x", "#", "# 1", "0x10", "1_0", "\u0663", "1;2", "01", "1e-3", "1e999"]
REALS = [0.0, 1.0, -2.5, 1e30, 1e300, float("nan"), float("inf"), 3.0]


def whole(text, least=0, end=2**63):
    if not re.fullmatch(r"[-+]?[0-9]+", text := str(text).strip()) or len(text) > 4000:
        raise ValueError(text)
    if not least <= int(text) < end:
        raise ValueError(text)
    return int(text)


def real(text):
    with np.errstate(over="ignore"):
        if "_" in str(text) or not np.isfinite(np.float32(text)):
            raise ValueError(text)
    return np.float32(text)


def built(features, ends, labels, part):
    """What ``graph.build`` is to be called with."""
    for number in (0, 1, 2):
        if not any(p == number and label >= 0 for p, label in zip(part, labels, strict=True)):
            raise ValueError(f"no node of part {number}")
    return [np.asarray(a).tolist() for a in (features, ends, labels, part)]


class Recorded:
    """``graph.build``, which also remembers what it was called with."""

    def __init__(self, monkeypatch):
        self._build = graph.build
        monkeypatch.setattr(graph, "build", self)
        monkeypatch.setattr(graph_files, "_prepared", lambda folder, files, cache, read: read())
        monkeypatch.setattr(graph, "of_texts", lambda texts: np.array([[hash(t)] for t in texts]))

    def __call__(self, name, features, ends, labels, part, *rest):
        made = self._build(name, features, ends, labels, part, *rest)
        rows = np.asarray(features, np.float32) if features.dtype != np.int64 else features
        self.last = [a.tolist() for a in (rows, np.asarray(ends).T, labels, part)]
        return made


class Ogb:
    values: ClassVar = TEXTS
    tables: ClassVar = {
        "raw/edge": [[str(a), str(b)] for a, b in ENDS],
        "raw/node-feat": [[str(v) for v in row] for row in FEATURES],
        "raw/node-label": [[str(label)] for label in LABELS],
    } | {
        f"split/time/{name}": [[str(n)] for n in range(NODES) if PART[n] == number]
        for number, name in enumerate(("train", "valid", "test"))
    }

    def write(self, folder, tables):
        for name, rows in tables.items():
            path = folder / f"{name}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "\n".join(",".join(row) for row in rows) + "\n"
            path.write_bytes(gzip.compress(text.encode(), 1))

    def read(self, folder, build):
        graph_files.ogb(str(folder))
        return build.last

    def right(self, tables):
        part = [-1] * NODES
        for number, name in enumerate(("train", "valid", "test")):
            for row in tables[f"split/time/{name}"]:
                node = whole(*row, end=NODES)
                if part[node] >= 0:
                    raise ValueError("twice")
                part[node] = number
        return built(
            [[real(v) for v in row] for row in tables["raw/node-feat"]],
            [[whole(v, end=NODES) for v in row] for row in tables["raw/edge"]],
            [whole(*row, least=-1, end=2**31 - 1) for row in tables["raw/node-label"]],
            part,
        )


def csr(rows):
    m = scipy.sparse.csr_matrix(np.array(rows, np.float32))
    parts = {what: getattr(m, what).tolist() for what in ("data", "indices", "indptr")}
    return {**parts, "shape": list(m.shape)}


class Planetoid:
    values: ClassVar = [*WHOLE[:-1], *REALS, 10**30, "x", None]
    test = (10, 9, 11)
    tables: ClassVar = {
        **{"x": csr(FEATURES[:6]), "allx": csr(FEATURES[:9])},
        "tx": csr([FEATURES[n] for n in test]),
        "y": np.eye(CLASSES)[LABELS[:6]].tolist(),
        "ally": np.eye(CLASSES)[LABELS[:9]].tolist(),
        "ty": np.eye(CLASSES)[[LABELS[n] for n in test]].tolist(),
        "graph": {n: [b for a, b in ENDS if a == n] for n in range(NODES)},
        "test.index": [str(n) for n in test],
    }

    def write(self, folder, tables):
        folder.mkdir(exist_ok=True)
        for name, found in tables.items():
            path = folder / f"ind.toy.{name}"
            if name == "test.index":
                path.write_text("\n".join(map(str, found)) + "\n")
                continue
            if "x" in name:
                value = scipy.sparse.csr_matrix((1, 1))
                value.data = np.array(found["data"], np.float64)
                value.indices = np.array(found["indices"])
                value.indptr = np.array(found["indptr"])
                value._shape = tuple(found["shape"])
            else:
                value = found if name == "graph" else np.array(found, np.float64)
            path.write_bytes(pickle.dumps(value, protocol=2))

    def read(self, folder, build):
        graph_files.planetoid(str(folder))
        return build.last

    def dense(self, m, height, most):
        if m["shape"][0] != height or type(m["shape"][1]) is not int or m["shape"][1] > most:
            raise ValueError(m["shape"])
        if m["indptr"][0] != 0 or len(m["data"]) != m["indptr"][-1]:
            raise ValueError(m["indptr"])
        rows = [[0.0] * m["shape"][1] for _ in range(height)]
        for row, begin, end in zip(rows, m["indptr"], m["indptr"][1:], strict=False):
            columns = m["indices"][begin:end]
            if not begin <= end or len(set(columns)) < len(columns):
                raise ValueError(columns)
            for column, value in zip(columns, m["data"][begin:end], strict=True):
                row[whole(column, end=len(row))] = real(value)
        return rows

    def right(self, tables):
        ids = [whole(n, 9, 15) for n in tables["test.index"]]
        if len(set(ids)) < 3:
            raise ValueError("twice")
        n = max(NODES, *[i + 1 for i in ids])
        parts = [self.dense(tables[w], h, 10**4) for w, h in (("x", 6), ("allx", 9), ("tx", 3))]
        _, features, tested = parts
        if len({len(rows[0]) for rows in parts}) > 1:
            raise ValueError("widths")
        for rows in (tables["y"], tables["ally"], tables["ty"]):
            if any(sorted(row) not in ([0, 0, 1], [0, 0, 0]) for row in rows):
                raise ValueError("no label")
        of = [row.index(1) if 1 in row else -1 for row in tables["ally"] + tables["ty"]]
        features = features + [[0.0] * len(features[0])] * (n - 9)
        labels, part = of[:9] + [-1] * (n - 9), PART[:9] + [-1] * (n - 9)
        for i, row, label in zip(ids, tested, of[9:], strict=True):
            features[i], labels[i], part[i] = row, label, 2
        if set(tables["graph"]) != set(range(n)):
            raise ValueError("lists")
        near = tables["graph"].items()
        if any(type(b) is not int for _, of in near for b in of):
            raise ValueError("no node")
        ends = [[a, whole(b, end=n)] for a, of in near for b in of]
        return built(features, ends, labels, part)


class Reddit:
    values: ClassVar = [*WHOLE, *REALS]
    tables: ClassVar = {
        "feature": FEATURES,
        "label": LABELS,
        "node_types": [p + 1 for p in PART],
        "row": [a for a, _ in ENDS],
        "col": [b for _, b in ENDS],
        "data": [1.0] * len(ENDS),
        "shape": [NODES, NODES],
    }

    def write(self, folder, tables):
        folder.mkdir(exist_ok=True)
        arrays = {name: np.array(found) for name, found in tables.items()}
        of_nodes = {name: arrays.pop(name) for name in ("feature", "label", "node_types")}
        np.savez(folder / "reddit_data.npz", **of_nodes)
        np.savez_compressed(folder / "reddit_graph.npz", format=np.array(b"coo"), **arrays)

    def read(self, folder, build):
        graph_files.reddit(str(folder))
        return build.last

    def right(self, tables):
        whole_tables = {k: np.array(tables[k]) for k in ("label", "row", "col", "shape")}
        if any(a.dtype.kind != "i" for a in whole_tables.values()):
            raise ValueError("no whole numbers")
        if tables["shape"] != [NODES, NODES]:
            raise ValueError("shape")
        return built(
            [[real(v) for v in row] for row in tables["feature"]],
            [
                [whole(a, end=NODES), whole(b, end=NODES)]
                for a, b in zip(tables["row"], tables["col"], strict=True)
            ],
            [whole(v, least=-1, end=2**31 - 1) for v in tables["label"]],
            [
                {1: 0, 2: 1, 3: 2}.get(v, whole("x" if v not in (1, 2, 3) else 0))
                for v in tables["node_types"]
            ],
        )


class Xmc:
    """Rows as ``[[labels], [[feature, value], ...]]``."""

    values: ClassVar = TEXTS
    tables: ClassVar = {
        "head": ["3", "9", "5"],
        "rows": [
            [["0", "3"], [["1", "0.5"], ["5", "-2e-3"]]],
            [["4"], [["0", "1"]]],
            [["4", "2", "1"], [["8", ".5"], ["7", "1."], ["3", "1"]]],
        ],
    }

    def write(self, folder, tables):
        folder.mkdir(exist_ok=True)
        lines = [" ".join(tables["head"])]
        for labels, pairs in tables["rows"]:
            lines.append(",".join(labels) + "".join(f" {f}:{v}" for f, v in pairs))
        (folder / "train.txt").write_text("\n".join(lines) + "\n")

    def read(self, folder, build):
        told = sparse_text.read(folder / "train.txt", folder, "train")
        arrays = {
            what: np.load(folder / f"train_{what}.npy").tolist()
            for what in ("label_starts", "labels", "starts", "ids", "values")
        }
        rows = []
        for n in range(told["examples"]):
            of = slice(*arrays["label_starts"][n : n + 2])
            has = slice(*arrays["starts"][n : n + 2])
            pairs = zip(arrays["ids"][has], arrays["values"][has], strict=True)
            rows.append([arrays["labels"][of], sorted(pairs)])
        return [told["examples"], told["features"], told["labels"], rows]

    def right(self, tables):
        n, wide, count = (whole(v, end=2**31) for v in tables["head"])
        if n != len(tables["rows"]):
            raise ValueError("length")
        rows = []
        for labels, pairs in tables["rows"]:
            of = [whole(v, end=count) for v in labels] if "".join(labels).strip() else []
            has = sorted((whole(f, end=wide), float(real(v))) for f, v in pairs)
            if len(set(of)) < len(of) or len({f for f, _ in has}) < len(has):
                raise ValueError("twice")
            rows.append([of, has])
        return [n, wide, count, rows]


class Debian:
    """Packages ``[name, source, depends, md5, section]``, descriptions ``[name, md5, text]``."""

    values: ClassVar = [
        "",
        " ",
        "a",
        "b",
        "zz",
        "a (>= 1)",
        "a | b",
        "a:any, b",
        "\u0663",
        "\xe4 o",
        "x" * 5000,
    ]
    values += ["a\n more", "a\nno field", "a\nPackage: b", "a\r", ":", "a,,b", "\x0b"]
    tables: ClassVar = {
        "packages": [
            ["a", "s (1)", "b", "m1", "web"],
            ["b", "s", "a, c | d", "m2", "libs"],
            ["c", "t", "a (>= 2), b:any", "m3", "libs"],
        ],
        "described": [["a", "m1", "of a"], ["b", "m2", "of\n b\n ."], ["c", "m3", "of c"]],
    }
    keys: ClassVar = {
        "packages": ["Package", "Source", "Depends", "Description-md5", "Section"],
        "described": ["Package", "Description-md5", "Description-en"],
    }
    files: ClassVar = {"packages": "binary-amd64_Packages", "described": "i18n_Translation-en"}

    def write(self, folder, tables):
        folder.mkdir(exist_ok=True)
        for name, rows in tables.items():
            pairs = [zip(self.keys[name], row, strict=True) for row in rows]
            text = "\n".join("".join(f"{k}: {v}\n" for k, v in pair) for pair in pairs)
            path = folder / f"x_dists_bookworm_main_{self.files[name]}"
            path.write_bytes(text.encode())

    def read(self, folder, build):
        found = debian.read(folder)
        return [found.names, found.texts, found.labels, found.sources, found.sections]

    def right(self, tables):
        if any(
            "\n" in v and not re.fullmatch(r"[^\n]*(\n [^\n]+)*", v)
            for rows in tables.values()
            for row in rows
            for v in row
        ):
            raise ValueError("a line of its own")
        first = lambda v: "\n".join([v.split("\n")[0].strip(), *re.findall(r"(?<=\n )[^\n]+", v)])
        tables = {k: [[first(v) for v in row] for row in rows] for k, rows in tables.items()}
        texts = {(name, md5): text for name, md5, text in tables["described"]}
        found = [[], [], [], [], []]
        for name, source, depends, md5, section in tables["packages"]:
            needed = []
            for item in depends.split(","):
                words = re.split(r"[\s(:|]", item.strip())[0]
                needed += [words] if words and words not in needed else []
            text = texts.get((name, md5))
            if text and name and needed:
                row = name, f"{name} {text}", needed, (source or name).split()[0], section
                for column, value in zip(found, row, strict=True):
                    column.append(value)
        if not found[0]:
            raise ValueError("nothing")
        return found


def synset(line):
    words, gloss = line.split(" | ")
    return [*words.split(), f"| {gloss}"]


class WordNet:
    """Words of a line, and its gloss."""

    values: ClassVar = [
        *TEXTS[:13],
        "",
        "n",
        "v",
        "a",
        "s",
        "00000002",
        "00000009",
        "002",
        "ff",
        "zz",
        "| x",
    ]
    tables: ClassVar = {
        "data.noun": [
            synset("00000001 03 n 01 thing 0 002 ~ 00000002 n 0000 + 00000001 v 0101 | a thing"),
            synset("00000002 05 n 02 dog 0 hound a 001 @ 00000001 n 0000 | an animal"),
        ],
        "data.verb": [synset("00000001 38 v 01 go 0 000 01 + 02 00 | what it does")],
        "data.adj": [
            synset("00000001 00 s 01 big 0 001 & 00000002 a 0000 | of a thing"),
            synset("00000002 00 a 01 large 0 001 & 00000001 s 0000 | of an animal"),
        ],
        "data.adv": [synset("00000001 02 r 01 so 0 000 | what is so")],
    }

    def write(self, folder, tables):
        folder.mkdir(exist_ok=True)
        for name, lines in tables.items():
            text = "  1 the licence\n" + "".join(" ".join(line) + "\n" for line in lines)
            (folder / name).write_text(text)

    def read(self, folder, build):
        wordnet.read(folder)
        return build.last[:3]

    def right(self, tables):
        keys, ends, labels, glosses = [], [], [], []
        for name, kind in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
            for line in tables[f"data.{name}"]:
                head, _, gloss = " ".join(line).partition(" | ")
                words = head.split()
                count = int(words[3], 16)
                pointers = int(words[4 + 2 * count])
                at = 5 + 2 * count
                ends += [
                    (len(keys), words[at + 4 * k + 2].replace("s", "a") + words[at + 4 * k + 1])
                    for k in range(pointers)
                ]
                rest = words[at + 4 * pointers :]
                if len(rest) != (1 + 3 * int(rest[0]) if kind == "v" else 0):
                    raise ValueError(rest)
                if words[2] not in ("as" if kind == "a" else kind) or count < 1 or pointers < 0:
                    raise ValueError(words)
                keys.append(kind + words[0])
                labels.append(int(words[1]))
                glosses.append([hash(gloss)])
        if len(set(keys)) < len(keys) or not all(0 <= label < 45 for label in labels):
            raise ValueError("again")
        return [glosses, [[a, keys.index(b)] for a, b in ends], labels]


KINDS = {
    "ogb": Ogb(),
    "planetoid": Planetoid(),
    "reddit": Reddit(),
    "xmc": Xmc(),
    "debian": Debian(),
    "wordnet": WordNet(),
}


def places(table, path=()):
    """The paths of all fields in nested lists and dictionaries."""
    if isinstance(table, list | dict):
        for key in table if isinstance(table, dict) else range(len(table)):
            yield from places(table[key], (*path, key))
    else:
        yield path


def with_one_changed(kind, draw):
    """Its tables with another value in a field that ``draw`` (a random.Random) chose."""
    tables: ClassVar = copy.deepcopy(kind.tables)
    *path, last = draw.choice([*places(tables)])
    table = tables
    for key in path:
        table = table[key]
    table[last] = draw.choice(kind.values)
    return tables
