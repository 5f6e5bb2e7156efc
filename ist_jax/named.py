"""Methods by name, with their options: what a config asks for."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ist_jax import depth, method, partition
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.method import Method
from ist_jax.partition import Draw

DRAWS: Mapping[str, Draw] = {
    "permutation": partition.permutation,
    "balanced": partition.balanced,
    "rotating": partition.rotating,
    "joint": depth.joint,
}


def _draw(assignment: str, shares: Sequence[float | int]) -> Draw:
    if assignment not in DRAWS:
        raise InputError(f"unknown assignment {assignment!r}{by_name.hint(assignment, DRAWS)}")
    if not shares:
        return DRAWS[assignment]
    if assignment != "permutation":
        raise InputError(f"shares need assignment='permutation', found {assignment!r}")
    return functools.partial(partition.permutation, shares=tuple(shares))


def _served(how: Method, name: str, lr: float, momentum: float) -> Method:
    """A method with the outer optimizer of that name, or without."""
    return method.with_server(how, method.server(name, lr, momentum)) if name else how


def _ist(
    assignment: str = "permutation",
    shares: Sequence[float | int] = (),
    server: str = "",
    server_lr: float = 1.0,
    server_momentum: float = 0.0,
) -> Method:
    how = method.ist(_draw(assignment, shares))
    return _served(how, server, server_lr, server_momentum)


def _ensemble(assignment: str = "permutation", shares: Sequence[float | int] = ()) -> Method:
    draw = functools.partial(partition.fixed, draw=_draw(assignment, shares))
    return method.ensemble(draw)


def _resist(
    min_depth: int = 0, server: str = "", server_lr: float = 1.0, server_momentum: float = 0.0
) -> Method:
    return _served(method.resist(min_depth), server, server_lr, server_momentum)


def _loft(server: str = "", server_lr: float = 1.0, server_momentum: float = 0.0) -> Method:
    return _served(method.loft(), server, server_lr, server_momentum)


def _local_sgd(server: str = "", server_lr: float = 1.0, server_momentum: float = 0.0) -> Method:
    return _served(method.local_sgd(), server, server_lr, server_momentum)


METHODS: Mapping[str, Callable[..., Method]] = {
    "ist": _ist,
    "local_sgd": _local_sgd,
    "data_parallel": method.data_parallel,
    "ensemble": _ensemble,
    "single": method.single,
    "rotate": method.rotate,
    "dense_subnet": method.dense_subnet,
    "dense_local_sgd": method.dense_local_sgd,
    "dense_diloco": method.dense_diloco,
    "dense_ensemble": method.dense_ensemble,
    "resist": _resist,
    "loft": _loft,
    "shallow_ensemble": method.shallow_ensemble,
    "diloco": method.diloco,
    "fedavgm": method.fedavgm,
    "fedadam": method.fedadam,
    "fedyogi": method.fedyogi,
    "snoo": method.snoo,
}


def find(name: str, /, **options: Any) -> Method:
    """The method a config names: one of ``METHODS``, or ``"module:function"`` that returns one.

    Args:
      options: of ``ist`` and ``ensemble``, ``assignment`` (``DRAWS``) and ``shares``, the relative
        capacity of each worker; of ``resist``, ``min_depth``; of ``ist``, ``local_sgd``, ``resist``
        and ``loft``, an outer optimizer: ``server`` (``method.SERVERS``), ``server_lr`` and
        ``server_momentum``; of ``diloco`` and others that have one, ``lr`` and ``momentum``; of a
        method of your own, its arguments.

    Raises:
      InputError: an unknown method, option, assignment or outer optimizer (the nearest are named),
        or shares with an assignment that has none.

    Example:
      >>> find("ist", assignment="balanced").draw is partition.balanced
      True
    """
    make = by_name.found(name, METHODS, "config.methods")
    by_name.check_options(make, options, f"method {name!r}")
    try:
        made = make(**options)
    except TypeError as error:
        raise InputError(f"{name} must return a Method ({error})") from None
    if not isinstance(made, Method):
        raise InputError(f"{name} must return a Method, found {type(made).__name__}")
    return made
