"""Debian's packages as a graph: what needs what, and the section that each belongs to.

A node is a package with a description, an edge joins it to one it depends on, recommends or
suggests (of alternatives the first), a label is its section. Features are of the words of its name
and description. Packages of one source resemble each other, so that parts are split by source.
"""

from pathlib import Path

import numpy as np

from ist_jax.core.paths import expanded
from ist_jax.data import graph, prepared
from ist_jax.data.sources import debian

VERSION = 1  # of what is made of the lists


def load(path: str = "", *, cache: str = "") -> graph.Graph:
    """The graph; ``path`` is a folder with apt's lists (``ist_jax.data.sources.debian``).

    Raises:
      InputError: the lists are not there (how to get them is said), or cannot be unpacked.
    """
    lists = expanded(path, "data.path") if path else debian.LISTS
    files = [debian.find(lists, pattern) for pattern in (debian.PACKAGES, debian.DESCRIPTIONS)]

    def fill(out: Path) -> dict:
        packages = debian.read(lists, lonely=True)
        return {**graph.write(from_documents(packages), out), "lists": packages.digests}

    name = prepared.name_of("debian_graph", lists)
    place, about = prepared.folder(cache, name, prepared.digest(files, {"version": VERSION}), fill)
    return graph.mapped("debian_graph", "stand-in", place, about)


def from_documents(packages: debian.Documents) -> graph.Graph:
    """The graph of packages that were read; what they need and is not described is left out."""
    place = {name: node for node, name in enumerate(packages.names)}
    ends = [
        (node, place[name])
        for node, needed in enumerate(packages.labels)
        for name in needed
        if name in place
    ]
    sections = sorted(set(packages.sections) - {""})
    number = {section: label for label, section in enumerate(sections)}
    return graph.build(
        "debian_graph",
        graph.of_texts(packages.texts),
        np.array(ends, np.int64).reshape(-1, 2).T,
        np.array([number.get(section, -1) for section in packages.sections]),
        graph.split(packages.sources),
        len(sections),
        "stand-in",
    )
