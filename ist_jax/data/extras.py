"""Libraries that only some data sets need; the extra that has them is named where one lacks."""

import contextlib
from collections.abc import Iterator

from ist_jax.core.errors import InputError


@contextlib.contextmanager
def needed(extra: str) -> Iterator[None]:
    """For imports of what the extra of that name installs.

    Raises:
      InputError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(f"{error}: pip install 'ist_jax[{extra}]'") from None
