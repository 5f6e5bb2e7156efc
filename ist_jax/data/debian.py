"""Debian's own packages as an extreme classification problem: a description, and what it needs.

A document is a package's name and description, its labels are the packages it depends on,
recommends or suggests (of alternatives the first, without versions). Words that only one document
has are left out, the others weighted by tf-idf. Documents of one source package resemble each
other, so that train and test are split by source: SHA-1 of its name, a fifth is test.

It stands in for the sets of the Extreme Classification Repository where those cannot be had, and is
written in their text format. It changes with Debian's point releases: the digests of the lists it
was made of are written beside it, and belong to every result.
"""

import gzip
import hashlib
import json
import lzma
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ist_jax.data.graph import WORD
from ist_jax.errors import InputError

VERSION = 2  # of what is made of the lists
LISTS = Path("/var/lib/apt/lists")
PACKAGES = "*_dists_bookworm_main_binary-amd64_Packages*"
DESCRIPTIONS = "*_dists_bookworm_main_i18n_Translation-en*"
RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests")
HOW = (
    "Fetch them, without root and into a folder of your own, with\n"
    "  mkdir -p LISTS/lists/partial && apt-get update -o Acquire::Languages=en "
    "-o Dir::State=$PWD/LISTS -o Dir::State::lists=$PWD/LISTS/lists -o Dir::Cache=$PWD/LISTS\n"
    "on Debian 12, and set data.path=LISTS/lists."
)


class Documents(NamedTuple):
    """Packages in the order of the list."""

    texts: list[str]
    labels: list[list[str]]  # packages that it needs
    sources: list[str]
    digests: dict[str, str]  # SHA-256 of the unpacked lists, by their names
    names: list[str]
    sections: list[str]


def find(lists: Path, pattern: str) -> Path:
    """The one list of that name; how to get it, if there is none."""
    found = sorted(lists.glob(pattern)) if lists.is_dir() else []
    if len(found) != 1:
        what = "no" if not found else f"{len(found)}"
        raise InputError(f"{what} file {pattern} in {lists}; there must be one. {HOW}")
    return found[0]


def read(lists: Path = LISTS, lonely: bool = False) -> Documents:
    """The packages of Debian 12 (main, amd64) that have a description and need another one.

    Args:
      lonely: also those that need none.

    Raises:
      InputError: the lists are not there (how to get them is said), or cannot be unpacked.
    """
    found = [find(lists, pattern) for pattern in (PACKAGES, DESCRIPTIONS)]
    unpacked = [_unpacked(path) for path in found]
    described = {
        (s["Package"], s["Description-md5"]): s["Description-en"]
        for s in _stanzas(unpacked[1])
        if {"Package", "Description-md5", "Description-en"} <= s.keys()
    }
    digests = {
        path.name: hashlib.sha256(data).hexdigest()
        for path, data in zip(found, unpacked, strict=True)
    }
    documents = Documents([], [], [], digests, [], [])
    for package in _stanzas(unpacked[0]):
        name = package.get("Package", "")
        text = described.get((name, package.get("Description-md5", "")))
        needed = _needed(package)
        if text and (needed or lonely):
            documents.texts.append(f"{name} {text}")
            documents.labels.append(needed)
            documents.sources.append(package.get("Source", name).split()[0])
            documents.names.append(name)
            documents.sections.append(package.get("Section", ""))
    if not documents.texts:
        raise InputError(f"{found[0]} lists no package with a description in {found[1]}")
    return documents


def write(documents: Documents, folder: Path) -> None:
    """``train.txt``, ``test.txt`` and ``about.json`` in a folder that exists."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # a slow import

    test = np.array([_is_test(source) for source in documents.sources])
    weigh = TfidfVectorizer(min_df=2, sublinear_tf=True, token_pattern=WORD)
    weigh.fit([text for text, held_out in zip(documents.texts, test, strict=True) if not held_out])
    x = weigh.transform(documents.texts)
    number = {name: n for n, name in enumerate(sorted({n for of in documents.labels for n in of}))}
    files = {}
    for part, chosen in (("train", np.flatnonzero(~test)), ("test", np.flatnonzero(test))):
        path = folder / f"{part}.txt"
        with path.open("w") as file:
            file.write(f"{len(chosen)} {x.shape[1]} {len(number)}\n")
            for row in chosen:
                begin, end = x.indptr[row : row + 2]
                entries = zip(x.indices[begin:end], x.data[begin:end], strict=True)
                labels = ",".join(str(number[name]) for name in documents.labels[row])
                file.write(labels + "".join(f" {i}:{v:.6g}" for i, v in entries) + "\n")
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {
        "lists": documents.digests,
        "sha256": files,
        "words": list(map(str, weigh.get_feature_names_out())),
        "labels": list(number),
    }
    (folder / "about.json").write_text(json.dumps(about) + "\n")


def _unpacked(path: Path) -> bytes:
    try:
        if path.suffix == ".lz4":  # apt's own packing, and apt's own tool for it
            command = ["/usr/lib/apt/apt-helper", "cat-file", str(path)]
            return subprocess.run(command, capture_output=True, check=True).stdout
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
        return path.read_bytes()
    except (OSError, EOFError, lzma.LZMAError, subprocess.SubprocessError) as error:
        raise InputError(f"{path} cannot be unpacked ({error}). {HOW}") from None


def _stanzas(data: bytes) -> Iterator[dict[str, str]]:
    """Paragraphs of ``Key: value`` lines; a line that begins with a space goes on."""
    for paragraph in data.decode("utf-8", "replace").split("\n\n"):
        found: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line[:1].isspace():
                found[key] = found.get(key, "") + "\n" + line[1:]
            else:
                key, _, value = line.partition(":")
                found[key] = value.strip()
        if found:
            yield found


def _needed(package: dict[str, str]) -> list[str]:
    """Names of other packages, in their order, each once."""
    items = (item.strip() for field in RELATIONS for item in package.get(field, "").split(","))
    names = (re.split(r"[\s(:|]", item)[0] for item in items)
    return list(dict.fromkeys(name for name in names if name))


def _is_test(source: str) -> bool:
    return int(hashlib.sha1(source.encode()).hexdigest(), 16) % 5 == 0
