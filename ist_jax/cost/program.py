"""What can be read off a function's program before it is compiled: its work and its width."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

PyTree = Any


def flops(function: Callable[..., Any], *arguments: PyTree) -> int:
    """Floating-point operations of the matrix products and convolutions in a function.

    Two for each multiply and add, read off its program (``jax.make_jaxpr``), so that they hold for
    any architecture; a ``scan`` counts as often as it runs, a ``while_loop`` (which no gradient
    contains) once. Arguments may be shapes.
    """
    return _flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def widest(function: Callable[..., Any], *arguments: PyTree) -> int:
    """Numbers in the largest array that a function computes. Arguments may be shapes.

    As its program says it; a compiler may fuse that array into what reads it. Where branches are
    for platforms, the widest branch counts.

    Example:
      >>> import jax.numpy as jnp
      >>> widest(lambda x: jnp.sum(jnp.outer(x, x)), jnp.ones(8))
      64
    """
    return _widest_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops_of(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2 * out * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
            out = math.prod(equation.outvars[0].aval.shape)
            total += 2 * out * math.prod(kernel) // out_features // params["batch_group_count"]
        times = params.get("length", 1) if name == "scan" else 1
        inner = [_flops_of(sub) for sub in _inner(params)]
        total += times * (max(inner, default=0) if name == "cond" else sum(inner))
    return total


def _widest_of(jaxpr: Any) -> int:
    most = 0
    for equation in jaxpr.eqns:
        own = (math.prod(out.aval.shape) for out in equation.outvars)
        most = max(most, *own, *map(_widest_of, _inner(equation.params)))
    return most


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
