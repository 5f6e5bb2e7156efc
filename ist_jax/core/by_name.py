"""What a config names: one of ours, or anyone's as ``"their_package.module:function"``."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ist_jax.core.errors import InputError, first_line


def is_theirs(name: Any) -> bool:
    """Whether a name is of the form ``module:function``."""
    return isinstance(name, str) and ":" in name


def found(name: str, ours: Mapping[str, Callable[..., Any]], key: str) -> Callable[..., Any]:
    """The function or class of that name.

    Args:
      name: a name in ``ours``, or ``module:function``. The module is imported as Python finds it:
        installed, in the working folder, or on ``PYTHONPATH``.
      key: of the config, for messages.

    Raises:
      InputError: no such name, a module that cannot be imported, or nothing to call in it.

    Example:
      >>> found("math:sqrt", {}, "config.data.name")(4.0)
      2.0
    """
    if not is_theirs(name):
        if name in ours:
            return ours[name]
        close = difflib.get_close_matches(name, ours, n=1)
        raise InputError(
            f"{key} must be one of {', '.join(sorted(ours))}, or 'module:function' of your own; "
            f"found {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        )
    module, _, attribute = name.partition(":")
    try:
        value = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever a stranger's module does as it is imported
        raise InputError(
            f"{key}={name!r}: module {module!r} cannot be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    if not callable(value):
        raise InputError(f"{key}={name!r}: module {module!r} has no function {attribute!r}")
    return value
