"""What a config names: one of ours, or anyone's as ``"their_package.module:function"``.

Wherever a name is looked up, what is said of an unknown one comes from ``hint``; wherever options
are handed to a function, ``check_options`` compares them with its signature.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ist_jax.core.errors import InputError, first_line

NEEDED: Any = inspect.Parameter.empty  # in place of a default: the option has none


def is_theirs(name: Any) -> bool:
    """Whether a name is of the form ``module:function``."""
    return isinstance(name, str) and ":" in name


def hint(name: Any, known: Iterable[str], all_of_them: str = "known:") -> str:
    """What is said behind an unknown name: the nearest known ones, or else all of them.

    Example:
      >>> hint("adma", ["sgd", "adam"]), hint("x", ["sgd", "adam"]), hint("x", [], "it has")
      ("; did you mean 'adam'?", '; known: adam, sgd', '; it has none')
    """
    names = sorted(map(str, known))
    return near(name, names) or f"; {all_of_them} {', '.join(names) or 'none'}"


def near(name: Any, known: Iterable[str]) -> str:
    """The same, but nothing where none is near."""
    lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(str(name)[:100].lower(), list(lower), n=3)
    asked = " or ".join(repr(lower[word]) for word in close)
    return f"; did you mean {asked}?" if close else ""


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
        raise InputError(
            f"{key}: there is no {name!r}{hint(name, ours)} (or 'module:function' of your own)"
        )
    module, _, attribute = name.partition(":")
    try:
        its = importlib.import_module(module)
    except Exception as error:  # whatever a stranger's module does as it is imported
        raise InputError(
            f"{key}={name!r}: module {module!r} cannot be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    value = getattr(its, attribute, None)
    if not callable(value):
        raise InputError(
            f"{key}={name!r}: module {module!r} has no function {attribute!r}"
            f"{near(attribute, vars(its))}"
        )
    return value


def options_of(function: Callable[..., Any], skip: Collection[str] = ()) -> dict[str, Any]:
    """The arguments of a function that have a name, and their defaults (``NEEDED`` without one).

    Args:
      skip: those that a config does not give.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.default
        for name, parameter in parameters(function).items()
        if parameter.kind in named and name not in skip
    }


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function takes arguments of any name (``**options``)."""
    kinds = {parameter.kind for parameter in parameters(function).values()}
    return inspect.Parameter.VAR_KEYWORD in kinds or not _has_signature(function)


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    what: str,
    key: str = "",
    skip: Collection[str] = (),
) -> None:
    """Compares options with the signature of the function that they are for.

    Args:
      what: the function is called, for messages; ``key`` is where the options stand.
      skip: arguments that somebody else gives.

    Raises:
      InputError: an option that it does not have (the nearest are named), or none where it needs
        one.

    Example:
      >>> check_options(lambda rate, b1=0.9: None, {"b1": 0.8}, "mine", skip=("rate",))
    """
    known, start = options_of(function, skip), f"{key}: {what}" if key else what
    for name in options:
        if name not in known and not (takes_any(function) and name not in skip):
            raise InputError(f"{start} has no option {name!r}{hint(name, known, 'it has')}")
    missing = [name for name, usual in known.items() if usual is NEEDED and name not in options]
    if missing:
        raise InputError(f"{start} needs a value for {', '.join(missing)}")


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What it takes, by name; nothing of what does not say it."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some of C have none
        return {}
    kinds = [parameter.kind for parameter in found.values()]
    hidden = kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]
    if hidden and inspect.isclass(function):  # by a metaclass, as of NNX
        own = inspect.signature(function.__init__).parameters
        return dict(list(own.items())[1:])
    return found


def _has_signature(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return True
