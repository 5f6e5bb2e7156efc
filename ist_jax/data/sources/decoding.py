"""Images decoded as they are needed, with Pillow.

TensorFlow Datasets without TensorFlow takes a palette's numbers for grey, and leaves CMYK as it is.
"""

import io
from typing import Any

import numpy as np

from ist_jax.core.errors import InputError

LARGEST = 2**26  # pixels of an image; ImageNet's largest has 61 million


class Images:
    """Images of many sizes as one array ``float32 [n, size, size, channels]``, decoded when asked
    for.

    The shorter side is resized to ``size`` and the middle is cut out; values are 0 to 1.

    Args:
      source: examples with an ``image``, by number.
      size: pixels of a side.
      where: what messages call it.
      chosen: numbers of the examples that count; all if None.
      channels: 3 for colours, 1 for grey.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        source: Any,
        size: int,
        where: str,
        chosen: np.ndarray | None = None,
        channels: int = 3,
    ):
        self._source, self._size, self._where = source, size, where
        self._channels = channels
        self._chosen = np.arange(len(source)) if chosen is None else chosen

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self._chosen), self._size, self._size, self._channels)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, chosen: np.ndarray | slice) -> np.ndarray:
        """``[..., size, size, channels]`` for numbers ``[...]``.

        Raises:
          InputError: an image that cannot be decoded.
        """
        numbers = self._chosen[chosen]
        out = np.empty((numbers.size, *self.shape[1:]), np.float32)
        for row, number in enumerate(numbers.flat):
            out[row] = self._one(int(number))
        return out.reshape(*numbers.shape, *self.shape[1:])

    def _one(self, number: int) -> np.ndarray:
        from PIL import Image, ImageOps

        image, _ = example(self._source, number, self._where, decode=True)
        image = ImageOps.fit(
            image.convert("L") if self._channels == 1 else image,
            (self._size, self._size),
            Image.Resampling.BILINEAR,
        )
        return np.asarray(image, np.float32).reshape(self.shape[1:]) / 255


def example(source: Any, number: int, where: str, decode: bool) -> tuple[Any, int]:
    """An image, in colours if ``decode``, and its label.

    Raises:
      InputError: it cannot be read, or is larger than ``LARGEST``; ``where`` and its number, or
        what the source calls it, are named.
    """
    from PIL import Image

    try:
        found = source[number]
        image = found["image"]
        if decode and isinstance(image, bytes):
            image = Image.open(io.BytesIO(image))
            if image.width * image.height > LARGEST:  # before it is unpacked
                raise ValueError(f"{image.width} x {image.height} pixels, more than {LARGEST}")
            if image.mode.startswith(("I", "F")):  # Pillow would clip it to white
                raise ValueError(f"it is of mode {image.mode}: make it one of 8 bits")
            image = image.convert("RGB")
        elif decode:
            image = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
        return image, int(found["label"])
    except Exception as error:  # of the decoder, of the record, of the file
        name = source.name_of(number) if hasattr(source, "name_of") else f"example {number}"
        raise InputError(
            f"{where}: {name} cannot be read ({first_line(error)}). Leave such examples "
            "out with data.skip_bad=True."
        ) from None


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
