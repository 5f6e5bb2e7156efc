"""Features of recordings, computed once and kept: what ``speech`` has a fresh process do."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import prepared
from ist_jax.data.sources import mel, wav
from ist_jax.data.sources.words import WORDS

AT_ONCE = 64  # clips; the last ones are filled up, so that one program serves all
READERS = 8  # threads, for folders that are far away


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Features and labels of all clips, into the job's folder. Runs in a fresh process."""
    root, folder = Path(job["root"]), Path(job["folder"])
    show = prepared.Progress(job["name"], sum(map(len, job["parts"].values())), "clips")
    features, done, bad = jax.jit(mel.features), 0, []
    used = np.zeros(len(WORDS), np.int64)
    with ThreadPoolExecutor(READERS) as pool, ExitStack() as outputs:
        for part, clips in job["parts"].items():
            x_file = prepared.Growing(folder / f"{part}_x.npy", np.float32, (mel.WIDTH,))
            y_file = prepared.Growing(folder / f"{part}_y.npy", np.int32)
            outputs.callback(x_file.close)
            outputs.callback(y_file.close)
            for begin in range(0, len(clips), AT_ONCE):
                some = clips[begin : begin + AT_ONCE]
                found = list(pool.map(_read, [root / name for name, _ in some]))
                bad += [one for one in found if isinstance(one, str)]
                if bad and not job["skip_bad"]:
                    raise InputError(
                        f"{bad[0]}. Mend it, or leave bad clips out with data.skip_bad=True."
                    )
                pairs = zip(found, some, strict=True)
                good = [(one, label) for one, (_, label) in pairs if not isinstance(one, str)]
                block = np.zeros((AT_ONCE, mel.SAMPLES), np.int16)
                for row, (clip, _) in enumerate(good):
                    block[row] = clip
                labels = np.array([label for _, label in good], np.int32)
                x_file.append(np.asarray(features(block))[: len(good)])
                y_file.append(labels)
                used += np.bincount(labels, minlength=len(WORDS))
                done += len(some)
                show(done)
    if (empty := np.flatnonzero(used == 0)).size:
        first = f": {bad[0]}" if bad else ""
        raise InputError(f"no clip of {root / WORDS[empty[0]]} can be used{first}")
    shapes = {path.stem: np.load(path, mmap_mode="r").shape for path in folder.glob("*.npy")}
    return {
        "shapes": shapes,
        "words": list(WORDS),
        "skipped": len(bad),
        "first_bad": (bad or [""])[0],
    }


def _read(path: Path) -> np.ndarray | str:
    """A clip's samples, or what is wrong with it."""
    try:
        return wav.read(path)
    except InputError as error:
        return str(error)
