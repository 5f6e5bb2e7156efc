"""WordNet 3.0 as a graph: meanings, what points to what, and the field that each belongs to.

A node is a synset, an edge a pointer between two, a label one of the 45 lexicographer files (noun
of animals, verb of motion, ...). Features are of the words of its gloss. Debian: ``wordnet-base``
(Fellbaum, ed., 1998; a permissive licence). The format is that of wndb(5WN).
"""

from pathlib import Path

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import files, graph, prepared

PLACE = Path("/usr/share/wordnet")
FILES = {"n": "data.noun", "v": "data.verb", "a": "data.adj", "r": "data.adv"}
KINDS = {"n": "n", "v": "v", "a": "as", "r": "r"}  # what synsets of a file may be
CLASSES = 45
VERSION = 1  # of what is made of the files


def load(path: str = "", *, cache: str = "") -> graph.Graph:
    """The graph; ``path`` is a folder with WordNet's four data files.

    Raises:
      InputError: a file that is not there, or a line of it that is not a synset (named).
    """
    folder = expanded(path, "data.path") if path else PLACE
    found = [folder / name for name in FILES.values()]
    if missing := [file for file in found if not file.exists()]:
        raise InputError(
            f"no {missing[0]}. On Debian: apt-get install wordnet-base; or set data.path to a "
            f"folder with {', '.join(FILES.values())}"
        )

    def fill(out: Path) -> dict:
        about = graph.write(read(folder), out)
        return {**about, "files": {file.name: files.digest(file) for file in found}}

    name = prepared.name_of("wordnet", folder)
    place, about = prepared.folder(cache, name, prepared.digest(found, {"version": VERSION}), fill)
    return graph.mapped("wordnet", "stand-in", place, about)


def read(folder: Path) -> graph.Graph:
    """The graph, from the files."""
    place: dict[str, int] = {}
    labels: list[int] = []
    glosses: list[str] = []
    pointers: list[tuple[int, str]] = []
    for kind, name in FILES.items():
        for number, line in enumerate(files.lines(folder / name), start=1):
            if line.startswith(b"  "):
                continue  # the licence
            try:
                offset, field, targets, gloss = _synset(line.decode(), kind)
            except UnicodeDecodeError as error:
                raise InputError(f"{folder / name}, line {number} is no text: {error}") from None
            except (ValueError, IndexError) as error:
                raise InputError(
                    f"{folder / name}, line {number} is no synset: {error!s:.200}"
                ) from None
            if kind + offset in place:
                raise InputError(f"{folder / name}, line {number}: synset {offset[:20]} again")
            place[kind + offset] = len(place)
            pointers += [(len(labels), to) for to in targets]
            labels.append(field)
            glosses.append(gloss)
    if not place:
        raise InputError(f"{folder}: not a single synset in {', '.join(FILES.values())}")
    if strangers := [to for _, to in pointers if to not in place]:
        raise InputError(
            f"{folder}: a pointer leads to synset {strangers[0][:20]}, which is not there"
        )
    ends = np.array([[node, place[to]] for node, to in pointers], np.int64).reshape(-1, 2).T
    features = graph.of_texts(glosses)
    return graph.build(
        "wordnet", features, ends, np.array(labels), graph.split([*place]), CLASSES, "stand-in"
    )


def _synset(line: str, kind: str) -> tuple[str, int, list[str], str]:
    """A line's offset, lexicographer file, the synsets it points to, and its gloss.

    Raises:
      ValueError, IndexError: it is not one to its last word, or none of that kind.
    """
    fields, _, gloss = line.partition(" | ")
    words = fields.split()
    offset, field, count = words[0], int(words[1]), int(words[3], 16)
    if not (offset.isascii() and offset.isdecimal()):
        raise ValueError(f"offset {offset[:20]!r}")
    if not 0 <= field < CLASSES:
        raise ValueError(f"lexicographer file {field}")
    if words[2] not in KINDS[kind] or count < 1:
        raise ValueError(f"{count} words of kind {words[2][:20]!r}")
    begin = 4 + 2 * count
    end = begin + 1 + 4 * int(words[begin])
    if kind == "v":  # frames of a verb, + and two numbers each
        frames = end + 1 + 3 * int(words[end])
    if len(words) != (frames if kind == "v" else end):
        raise ValueError("more or fewer words and pointers than it says")
    pointers = zip(words[begin + 2 : end : 4], words[begin + 3 : end : 4], strict=True)
    return offset, field, [("a" if part == "s" else part) + to for to, part in pointers], gloss
