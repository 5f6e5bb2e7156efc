"""Debian's own packages as an extreme classification problem: a description, and what it needs.

A document is a package's name and description, its labels are the packages it depends on,
recommends or suggests (of alternatives the first, without versions). Words that only one document
has are left out, the others weighted by tf-idf. Documents of one source package resemble each
other, so that train and test are split by source: SHA-1 of its name, a fifth is test.

It stands in for the sets of the Extreme Classification Repository where those cannot be had, and is
written in their text format. It changes with Debian's point releases: the digests of the lists it
was made of are written beside it, and belong to every result.
"""

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ist_jax.core import strict_json
from ist_jax.core.errors import InputError
from ist_jax.data import files
from ist_jax.data.extras import needed
from ist_jax.data.graph import WORD

VERSION = 2  # of what is made of the lists
LISTS = Path("/var/lib/apt/lists")
PACKAGES = "*_dists_bookworm_main_binary-amd64_Packages*"
DESCRIPTIONS = "*_dists_bookworm_main_i18n_Translation-en*"
RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests")
UNPACK = ("/usr/lib/apt/apt-helper", "cat-file")  # apt's own tool for its own packing
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
        for s in _stanzas(unpacked[1], found[1])
        if {"Package", "Description-md5", "Description-en"} <= s.keys()
    }
    digests = {
        path.name: hashlib.sha256(data).hexdigest()
        for path, data in zip(found, unpacked, strict=True)
    }
    documents = Documents([], [], [], digests, [], [])
    left_out = 0
    for package in _stanzas(unpacked[0], found[0]):
        name = package.get("Package", "")
        text = described.get((name, package.get("Description-md5", "")))
        left_out += not text
        needed = _needed(package)
        if name and text and (needed or lonely):
            documents.texts.append(f"{name} {text}")
            documents.labels.append(needed)
            documents.sources.append((package.get("Source") or name).split()[0])
            documents.names.append(name)
            documents.sections.append(package.get("Section", ""))
    if left_out:
        print(f"{found[0].name}: {left_out} packages without a description", file=sys.stderr)
    if not documents.texts:
        raise InputError(f"{found[0]} lists no package with a description in {found[1]}")
    return documents


def write(documents: Documents, folder: Path) -> None:
    """``train.txt``, ``test.txt`` and ``about.json`` in a folder that exists."""
    with needed("commands"):
        from sklearn.feature_extraction.text import TfidfVectorizer  # a slow import

    test = np.array([_is_test(source) for source in documents.sources])
    weigh = TfidfVectorizer(min_df=2, sublinear_tf=True, token_pattern=WORD)
    seen = [text for text, held_out in zip(documents.texts, test, strict=True) if not held_out]
    try:
        weigh.fit(seen)
    except ValueError as error:  # not a word is left
        raise InputError(f"{len(seen)} descriptions make no features: {error}") from None
    x = weigh.transform(documents.texts)
    number = {name: n for n, name in enumerate(sorted({n for of in documents.labels for n in of}))}
    written = {}
    for part, chosen in (("train", np.flatnonzero(~test)), ("test", np.flatnonzero(test))):
        path = folder / f"{part}.txt"
        with path.open("w") as file:
            file.write(f"{len(chosen)} {x.shape[1]} {len(number)}\n")
            for row in chosen:
                begin, end = x.indptr[row : row + 2]
                entries = zip(x.indices[begin:end], x.data[begin:end], strict=True)
                labels = ",".join(str(number[name]) for name in documents.labels[row])
                file.write(labels + "".join(f" {i}:{v:.6g}" for i, v in entries) + "\n")
        written[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {
        "lists": documents.digests,
        "sha256": written,
        "words": list(map(str, weigh.get_feature_names_out())),
        "labels": list(number),
    }
    (folder / "about.json").write_text(strict_json.dumps(about, "about.json") + "\n")


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".lz4":
        return files.read(path)
    with files.opened(path):  # which complains of what is no file
        allowed = files.most(path)
    try:
        with subprocess.Popen(
            [*UNPACK, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as helper:
            assert helper.stdout is not None
            data = helper.stdout.read(allowed + 1)
            helper.stdout.close()  # it ends, though it may have more to say
    except OSError as error:
        raise InputError(f"{path} cannot be unpacked ({error}). {HOW}") from None
    if helper.returncode or len(data) > allowed:
        raise InputError(f"{path} cannot be unpacked, or only to over {allowed} bytes. {HOW}")
    return data


def _stanzas(data: bytes, path: Path) -> Iterator[dict[str, str]]:
    """Paragraphs of ``Key: value`` lines; a line that begins with a space goes on."""
    found: dict[str, list[str]] = {}
    key = ""
    for number, raw in enumerate(io.BytesIO(data), start=1):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if found:
                yield {key: "\n".join(lines) for key, lines in found.items()}
            found = {}
        elif line[0].isspace() and found:
            found[key].append(line[1:])
        else:
            key, colon, value = line.partition(":")
            if not colon or key in found or key.split() != [key]:
                what = "a field that is there twice" if key in found else "no field (Key: value)"
                raise InputError(f"{path}, line {number} is {what}: {key[:40]!r}")
            found[key] = [value.strip()]
    if found:
        yield {key: "\n".join(lines) for key, lines in found.items()}


def _needed(package: dict[str, str]) -> list[str]:
    """Names of other packages, in their order, each once."""
    items = (item.strip() for field in RELATIONS for item in package.get(field, "").split(","))
    names = (re.split(r"[\s(:|]", item, maxsplit=1)[0] for item in items)
    return list(dict.fromkeys(name for name in names if name))


def _is_test(source: str) -> bool:
    return int(hashlib.sha1(source.encode()).hexdigest(), 16) % 5 == 0
