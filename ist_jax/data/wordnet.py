"""WordNet 3.0 as a graph: meanings, what points to what, and the field that each belongs to.

A node is a synset, an edge a pointer between two, a label one of the 45 lexicographer files (noun
of animals, verb of motion, ...). Features are of the words of its gloss. Debian: ``wordnet-base``
(Fellbaum, ed., 1998; a permissive licence). The format is that of wndb(5WN).
"""

from pathlib import Path

import numpy as np

from ist_jax.data import graph, prepared
from ist_jax.errors import InputError

PLACE = Path("/usr/share/wordnet")
FILES = {"n": "data.noun", "v": "data.verb", "a": "data.adj", "r": "data.adv"}
CLASSES = 45
VERSION = 1  # of what is made of the files


def load(path: str = "", *, cache: str = "") -> graph.Graph:
    """The graph; ``path`` is a folder with WordNet's four data files.

    Raises:
      InputError: a file that is not there, or a line of it that is not a synset (named).
    """
    folder = Path(path).expanduser() if path else PLACE
    files = [folder / name for name in FILES.values()]
    if missing := [file for file in files if not file.exists()]:
        raise InputError(
            f"no {missing[0]}. On Debian: apt-get install wordnet-base; or set data.path to a "
            f"folder with {', '.join(FILES.values())}"
        )

    def fill(out: Path) -> dict:
        digests = {file.name: prepared.digest_of(file) for file in files}
        return {**graph.write(read(folder), out), "files": digests}

    name = prepared.name_of("wordnet", folder)
    place, told = prepared.folder(cache, name, prepared.digest(files, {"version": VERSION}), fill)
    return graph.mapped("wordnet", "stand-in", place, told)


def read(folder: Path) -> graph.Graph:
    """The graph, from the files."""
    keys: list[str] = []
    labels, glosses = [], []
    pointers: list[tuple[int, str]] = []
    for kind, name in FILES.items():
        try:
            lines = (folder / name).read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{folder / name} is no text: {error}") from None
        for number, line in enumerate(lines, start=1):
            if line.startswith("  "):
                continue  # the licence
            try:
                fields, _, gloss = line.partition(" | ")
                words = fields.split()
                offset, field, count = words[0], int(words[1]), int(words[3], 16)
                begin = 4 + 2 * count
                for at in range(begin + 1, begin + 1 + 4 * int(words[begin]), 4):
                    _, to, part, _ = words[at : at + 4]
                    pointers.append((len(keys), ("a" if part == "s" else part) + to))
                if not 0 <= field < CLASSES:
                    raise ValueError(f"lexicographer file {field}")
            except (ValueError, IndexError) as error:
                raise InputError(f"{folder / name}, line {number} is no synset: {error}") from None
            keys.append(kind + offset)
            labels.append(field)
            glosses.append(gloss)
    if not keys:
        raise InputError(f"{folder}: not a single synset in {', '.join(FILES.values())}")
    place = {key: node for node, key in enumerate(keys)}
    if strangers := [to for _, to in pointers if to not in place]:
        raise InputError(f"{folder}: a pointer leads to synset {strangers[0]}, which is not there")
    ends = np.array([[node, place[to]] for node, to in pointers], np.int64).reshape(-1, 2).T
    features = graph.of_texts(glosses)
    return graph.build(
        "wordnet", features, ends, np.array(labels), graph.split(keys), CLASSES, "stand-in"
    )
