"""Images in a folder for each class, read with Pillow."""

from pathlib import Path
from typing import Any

from ist_jax.core.errors import InputError
from ist_jax.data import files, options, own
from ist_jax.data.dataset import Dataset
from ist_jax.data.extras import needed
from ist_jax.data.sources import folders, image_sets

KINDS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
)


def load(
    path: str = "",
    *,
    size: Any = 64,
    grey: Any = False,
    test: Any = 0.2,
    seed: Any = 0,
    skip_bad: bool = False,
    cache: str = "",
) -> Dataset:
    """Images float32 [n, size, size, 3], values 0 to 1; the classes are the folders, sorted.

    Args:
      path: ``FOLDER/CLASS/*.png``, or ``FOLDER/train/CLASS/*.png`` and ``FOLDER/test/CLASS/*.png``.
      size: pixels of a side: the shorter side is resized to it, and the middle is cut out.
      grey: one channel instead of three.
      test: the share for test, if the folder has no part ``test`` or ``validation``.
      seed: of that draw.
      skip_bad: leave images out that cannot be decoded.
      cache: where labels and digest are kept, of sets that take over a gigabyte once decoded.

    Raises:
      InputError: fewer than two classes, a class without images, or an image that cannot be
        decoded. It is named.
    """
    size = image_sets.check_size(size)
    channels = 1 if options.flag("grey", grey) else 3
    root = own.place(path, "image_folder", folders.LAYOUT)
    if not root.is_dir():
        raise InputError(f"{root} is no folder; image_folder reads {folders.LAYOUT}")
    with needed("datasets"):
        from PIL import Image  # noqa: F401  (images are opened with it, much later)
    found = folders.read(root, KINDS, test, seed, "image")
    parts = {
        part: (f"{root.name}, {part} part", Files(its))
        for part, its in (("train", found.train), ("test", found.test))
    }
    shape = (size, size, channels)
    opened = image_sets.Opened(root.name or "images", root, len(found.classes), shape, parts)
    all_files = [file for file, _ in (*found.train, *found.test)]
    settings = {"test": test, "seed": seed}
    return image_sets.load(opened, size, skip_bad, cache, all_files, settings)


class Files:
    """Files as a source of images (``image_sets``)."""

    def __init__(self, files: list[tuple[Path, int]]):
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> dict[str, Any]:
        file, label = self._files[number]
        return {"image": files.read(file, ""), "label": label}

    def name_of(self, number: int) -> str:
        """What messages call an image."""
        return str(self._files[number][0])
