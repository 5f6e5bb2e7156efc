"""CIFAR10 and ImageNet, as TensorFlow Datasets prepares them (see ``tfds_folder``).

ImageNet may be TensorFlow Datasets' own (1,000 classes) or any set with the features ``image`` and
``label`` that was prepared so, as whoever has the full one (21,841 classes) must do.
"""

from typing import Any

from ist_jax.core.errors import InputError
from ist_jax.data.dataset import Dataset
from ist_jax.data.sources import image_sets, tfds_folder


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
    opened = tfds_folder.opened(name, path, ("train", "test"))
    if opened.shape != (32, 32, 3):
        raise InputError(f"{path} is not {name}: its images are {opened.shape}, not (32, 32, 3)")
    return image_sets.in_memory(opened, 32, skip_bad)


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
    size = image_sets.check_size(size)
    opened = tfds_folder.opened("imagenet2012", path, ("train", "validation"))
    return image_sets.as_needed(opened, size, skip_bad, cache, tfds_folder.files_of(opened.folder))
