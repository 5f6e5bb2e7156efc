"""CIFAR10 and ImageNet, as TensorFlow Datasets prepares them; read without TensorFlow.

A folder prepared with ``file_format="array_record"`` is read through ``as_data_source``. ImageNet
may be TensorFlow Datasets' own (1,000 classes) or any set with the features ``image`` and ``label``
that was prepared so, as whoever has the full one (21,841 classes) must do.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.core.paths import expanded
from ist_jax.data import prepared
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed
from ist_jax.data.sources.decoding import Images, example, first_line

PARTS = ("train", "test")
VERSION = 2  # of what is kept
USUAL = "~/tensorflow_datasets"
LARGEST_SIDE = 2**12  # pixels that an image is resized to


class Opened(NamedTuple):
    """A prepared set: its folder, classes and shape of images, and the examples of each part.

    ``parts`` has for ``train`` and ``test`` what messages call it, and the source.
    """

    name: str
    folder: Path
    classes: int
    shape: tuple[int | None, ...]
    parts: dict[str, tuple[str, Any]]


def cifar10(path: str = "", *, skip_bad: bool = False) -> Dataset:
    """50,000 + 10,000 images of 32 x 32, 10 classes (Krizhevsky, 2009), in memory.

    Args:
      path: a folder of data sets, or of this one, prepared by TensorFlow Datasets.
      skip_bad: leave images out that cannot be decoded.

    Raises:
      InputError: nothing there; an image that cannot be decoded, or a label out of range.
    """
    return _cifar("cifar10", path, skip_bad)


def cifar100(path: str = "", *, skip_bad: bool = False) -> Dataset:
    """As ``cifar10``, of 100 classes."""
    return _cifar("cifar100", path, skip_bad)


def _cifar(name: str, path: str, skip_bad: bool) -> Dataset:
    opened = _open(name, path, ("train", "test"))
    if opened.shape != (32, 32, 3):
        raise InputError(f"{path} is not {name}: its images are {opened.shape}, not (32, 32, 3)")
    looked = {part: _look(opened, part, skip_bad)[:2] for part in PARTS}
    lazy = _dataset(opened, 32, looked)
    return lazy._replace(train_x=lazy.train_x[:], test_x=lazy.test_x[:])


def imagenet(
    path: str = "", *, skip_bad: bool = False, cache: str = "", size: Any = 224
) -> Dataset:
    """ImageNet, decoded as it is needed; the validation part is the test part.

    Labels are stored between the images, so that the first start reads all of the set. Later ones
    find the labels, and the digest of all images and labels, in the cache.

    Args:
      path: a folder of data sets, or of this one, prepared by TensorFlow Datasets.
      skip_bad: leave images out that cannot be decoded: the first start tries every one. Without
        it, the first one that is met in training is an error.
      cache: where labels and digest are kept.
      size: pixels of a side.

    Raises:
      InputError: as ``cifar10``.
    """
    if type(size) is not int or not 1 <= size <= LARGEST_SIDE:
        raise InputError(
            f"data.options.size must be a whole number from 1 to {LARGEST_SIDE}, found {size!r}"
        )
    opened = _open("imagenet2012", path, ("train", "validation"))

    def fill(folder: Path) -> dict[str, Any]:
        digests = []
        for part in PARTS:
            good, labels, digest = _look(opened, part, skip_bad)
            np.save(folder / f"{part}_good.npy", good)
            np.save(folder / f"{part}_labels.npy", labels)
            digests.append(digest)
        return {"sha256": hashlib.sha256("".join(digests).encode()).hexdigest()}

    files = sorted(path for path in opened.folder.glob("*") if path.is_file())
    source = prepared.digest(files, {"skip_bad": skip_bad, "version": VERSION})
    kept_as = prepared.name_of(f"{opened.name}_labels", opened.folder)
    folder, about = prepared.folder(cache, kept_as, source, fill)
    looked = {
        part: (np.load(folder / f"{part}_good.npy"), np.load(folder / f"{part}_labels.npy"))
        for part in PARTS
    }
    return _dataset(opened, size, looked)._replace(sha256=about["sha256"])


def _dataset(
    opened: Opened, size: int, looked: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Dataset:
    found: dict[str, Any] = {}
    skipped = 0
    for part, (where, source) in opened.parts.items():
        good, labels = looked[part]
        skipped += len(source) - len(good)
        found[f"{part}_x"] = Images(source, size, where, good)
        found[f"{part}_y"] = labels
    return Dataset(opened.name, classes=opened.classes, skipped=skipped, **found)


def _open(name: str, path: str, parts: tuple[str, str]) -> Opened:
    folder = expanded(path or USUAL, "data.path")
    how = (
        f"Prepare it with TensorFlow Datasets ({name}, file_format='array_record') and set "
        "data.path to its folder."
    )
    if not folder.is_dir():
        raise InputError(f"{name} was not found: there is no folder {folder}. {how}")
    check_files(folder, name)
    with needed("datasets"):
        import tensorflow_datasets as tfds  # seconds to import, and seldom needed
        from PIL import Image  # noqa: F401  (images are opened with it, much later)

    try:
        # A builder never prepares by itself, which would download.
        if (folder / "dataset_info.json").exists():
            builder = tfds.builder_from_directory(str(folder))
        else:
            builder = tfds.builder(name, data_dir=str(folder), file_format="array_record")
        features = builder.info.features
        return Opened(
            name,
            Path(builder.data_path),
            features["label"].num_classes,
            tuple(features["image"].shape),
            {
                ours: (f"{name}, {part} part", _packed(builder, part))
                for ours, part in zip(PARTS, parts, strict=True)
            },
        )
    except Exception as error:
        # tfds reports missing data by many exception types (registration, assertion, value, OS).
        raise InputError(
            f"TensorFlow Datasets could not read {name} from {folder}: {first_line(error)}. {how}"
        ) from None


def check_files(folder: Path, name: str) -> None:
    """Complains about a pipe or a device in a prepared set, which would be waited for."""
    for file in (*folder.glob("*"), *(folder / name).glob("**/*")):
        if file.exists() and not file.is_dir() and not file.is_file():
            raise InputError(f"{file} is no regular file. Prepare {name} again.")


def _packed(builder: Any, part: str) -> Any:
    """Examples whose images are bytes; of mock data, whose bytes need TensorFlow, pixels."""
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split=part, decoders={"image": tfds.decode.SkipDecoding()})
        source[0]
        return source
    except ImportError:
        return builder.as_data_source(split=part)


def _look(opened: Opened, part: str, decode: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Which examples count, their labels, and a digest of both and of the images as they are
    stored; with ``decode``, bad images are left out.
    """
    where, source = opened.parts[part]
    show = prepared.Progress(where, len(source), "labels")
    good, labels, digest = [], [], hashlib.sha256()
    for number in range(len(source)):
        try:
            image, label = example(source, number, where, decode=False)
            if decode:
                example(source, number, where, decode=True)
        except InputError:
            if not decode:
                raise
            continue
        if not 0 <= label < opened.classes:
            raise InputError(
                f"{where}: example {number} has label {label}, expected 0 to {opened.classes - 1}"
            )
        good.append(number)
        labels.append(label)
        stored = image if isinstance(image, bytes) else image.tobytes()
        digest.update(f"{number} {label} {len(stored)} ".encode() + stored)
        show(number)
    return np.array(good, np.int64), np.array(labels, np.int32), digest.hexdigest()
