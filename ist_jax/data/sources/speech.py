"""Speech Commands v0.02: one-second recordings of 35 words (Warden, 2018; CC BY 4.0), as features.

The raw archive is read, a folder for each word, and turned into the features of ``mel`` once; they
lie in files that are mapped into memory afterwards (``prepared``). Who keeps training and test
apart is either the archive, whose lists name the clips for validation and for test, or the SHA-1 of
the speaker, a fifth of whom are test. Clips for validation are in neither part.

Not all recordings of the archive have 16,000 samples. The IST release takes only those which do;
that is ``skip_bad=True``, and how many were left out is told.

Where the archive cannot be had, ``load_synthetic`` reads the same words spoken by a synthesiser,
in the same way. It is another data set: results on it are not results on Speech Commands.
"""

import hashlib
import os
import posixpath
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import description, files, prepared
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources.words import TEST, VALIDATION, WORDS

PREPARE = "ist_jax.data.sources.clip_features:prepare"  # with JAX, which not all readers need
HOLDOUTS = ("lists", "speakers")
TEST_PERCENT = 20
LONGEST_NAME = 200  # letters of a listed name that a message shows


class Clip(NamedTuple):
    name: str  # "word/speaker_nohash_0.wav"
    label: int


def load(
    path: str = "", *, skip_bad: bool = False, cache: str = "", holdout: str = "lists"
) -> Dataset:
    """Features float32 [n, 4096] of all clips, mapped from files, and their words (0 to 34).

    Args:
      path: the folder in which the archive was unpacked.
      skip_bad: leave out clips that cannot be read or have another rate or length, and tell how
        many those were; without it, the first one is an error.
      cache: where the features are kept (573 MB for 35,000 clips); ``~/.cache/ist_jax`` if empty.
      holdout: who is in the test part: ``"lists"``, the clips that the archive names for it, or
        ``"speakers"``, a fifth of the speakers.

    Raises:
      InputError: there is no such folder, a word or list is missing, a word has no clip, a list is
        empty or names what is no clip or is named before, or a clip is bad. The file is named.
    """
    return _load("speech_commands", "real", path, skip_bad, cache, holdout)


def load_synthetic(path: str = "", *, cache: str = "", clips: Any = 35_000) -> Dataset:
    """The same words, spoken by espeak-ng; the voices of the test part are in no other.

    Args:
      path: a folder with clips that were synthesised before; if empty, they are synthesised into
        the cache, for which ``espeakng-loader`` must be installed.
      cache: where clips (1.1 GB for 35,000) and features are kept.
      clips: how many, a multiple of 35; not used if there is a path.

    Raises:
      InputError: there is no synthesiser, or what ``load`` raises.
    """
    if not path:
        from ist_jax.data.sources import espeak  # others have no use for it

        path = str(espeak.synthesise(cache, clips))
    return _load("speech_synthetic", "synthetic", path, False, cache, "lists")


def _load(name: str, origin: str, path: str, skip_bad: bool, cache: str, holdout: str) -> Dataset:
    from ist_jax.data.sources.mel import VERSION  # here: the synthesiser's processes have no JAX

    if holdout not in HOLDOUTS:
        raise InputError(f"data.options.holdout must be one of {HOLDOUTS}, found {holdout!r}")
    root = _root(path)
    parts = _split(root, _listing(root), holdout)
    read = [VALIDATION, TEST] if holdout == "lists" else []
    read += [clip.name for its in parts.values() for clip in its]
    settings = {
        "features": VERSION,
        "holdout": holdout,
        "skip_bad": skip_bad,
        "files": [[file, *_stamp(root / file)] for file in read],
    }
    job = {"name": name, "root": str(root), "skip_bad": skip_bad, "parts": parts}

    def fill(folder: Path) -> dict[str, Any]:
        return prepared.aside(PREPARE, {**job, "folder": str(folder)})

    source, kept_as = prepared.digest([], settings), prepared.name_of(f"{name}_{holdout}", root)
    folder, told = prepared.folder(cache, kept_as, source, fill)
    if told["skipped"]:
        print(
            f"{name}: {told['skipped']} bad clips were left out, the first: {told['first_bad']}",
            file=sys.stderr,
        )
    x = [np.load(folder / f"{part}_x.npy", mmap_mode="r") for part in parts]
    y = [np.load(folder / f"{part}_y.npy") for part in parts]
    more = {"skipped": told["skipped"], "sha256": description.digest_of_set(folder)}
    return Dataset(name, x[0], y[0], x[1], y[1], len(WORDS), origin=origin, **more)


def _root(path: str) -> Path:
    how = (
        "Unpack the archive speech_commands_v0.02.tar.gz into a folder of its own, which has a "
        "folder for each word then, and give that folder as data.path. Without the archive, "
        "data.name=speech_synthetic has the same words from a synthesiser."
    )
    if not path:
        raise InputError(f"Speech Commands need data.path. {how}")
    root = expanded(path, "data.path")
    if missing := [word for word in WORDS if not (root / word).is_dir()]:
        raise InputError(
            f"{root} has no folder for {len(missing)} of the {len(WORDS)} words: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}. {how}"
        )
    return root


def _listing(root: Path) -> list[Clip]:
    """All clips of the 35 words, in order; whatever else there is, is not looked at."""
    clips = []
    for label, word in enumerate(WORDS):
        try:
            names = sorted(entry for entry in os.listdir(root / word) if entry.endswith(".wav"))
        except OSError as error:
            raise InputError(f"{root / word} cannot be read: {error.strerror}") from None
        if not names:
            raise InputError(
                f"{root / word} holds no .wav file: copy that folder of the archive again"
            )
        clips += [Clip(f"{word}/{name}", label) for name in names]
    return clips


def _split(root: Path, clips: list[Clip], holdout: str) -> dict[str, list[Clip]]:
    parts: dict[str, list[Clip]] = {"train": [], "validation": [], "test": []}
    if holdout == "lists":
        held = _listed(root, clips)
        for clip in clips:
            parts[held.get(clip.name, "train")].append(clip)
    else:
        for clip in clips:
            parts["test" if held_out(clip.name) else "train"].append(clip)
    del parts["validation"]
    for part, its in parts.items():
        if not its:
            raise InputError(
                f"{root}: no clip is in the {part} part (data.options.holdout={holdout})"
            )
    return parts


def held_out(name: str) -> bool:
    """Whether a clip's speaker, the part of its name before ``_nohash_``, is of the fifth for test.

    Warden's rule for the archive's lists: the SHA-1 of the speaker, modulo 2^27, as a percentage.
    (Below 10 is validation there, from 10 to 20 test.)
    """
    speaker = name.rpartition("/")[2].removesuffix(".wav").partition("_nohash_")[0]
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    return digest % 2**27 * 100 < TEST_PERCENT * (2**27 - 1)


def _listed(root: Path, clips: list[Clip]) -> dict[str, str]:
    """The part of each clip that a list names."""
    known = {clip.name for clip in clips}
    held: dict[str, str] = {}
    try:
        for part, name in (("test", TEST), ("validation", VALIDATION)):
            _hold(root / name, part, known, held)
    except InputError as error:
        raise InputError(
            f"{error}. Copy the archive's folders and lists again; without its lists, "
            "data.options.holdout='speakers' splits by speaker."
        ) from None
    return held


def _hold(path: Path, part: str, known: set[str], held: dict[str, str]) -> None:
    """Adds the clips that a list names to ``held``; one that is missed would be trained on.

    Other programs' lists are understood: "./cat/a.wav", backslashes, blanks around a name.
    """
    before = len(held)
    for number, line in enumerate(files.lines(path, ""), start=1):
        name = line.decode(errors="surrogateescape").strip().replace("\\", "/")
        if not name:
            continue
        name, where = posixpath.normpath(name), f"{path}, line {number}: {name[:LONGEST_NAME]!r}"
        if name not in known:
            raise InputError(f"{where} is no clip in {path.parent}")
        if name in held:
            raise InputError(f"{where} is named before, for {held[name]}")
        held[name] = part
    if len(held) == before:
        raise InputError(f"{path} names no clip")


def _stamp(path: Path) -> list[int]:
    """Size and time of a file; nothing if there is none, which reading it will tell."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
