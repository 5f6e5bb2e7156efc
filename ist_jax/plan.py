"""All that is known of a training before a round runs: checked once, worked out once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ist_jax import axes, compress, loss_check, partition, validate
from ist_jax import method as methods
from ist_jax.axes import Net
from ist_jax.compress import Code
from ist_jax.core import assignment
from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.cost import traffic
from ist_jax.local import Loss
from ist_jax.method import Method
from ist_jax.optimizer_state import carry, checks
from ist_jax.optimizer_state.carry import Memory
from ist_jax.partition import Assignment, Context
from ist_jax.sharded import layout, placement
from ist_jax.sharded.layout import Layout

PyTree = Any


class Plan(NamedTuple):
    """What a round is made of.

    Attributes:
      loss: of a subnet.
      optimizer: of a subnet, with its ``memory``: what is carried of its state between rounds.
      draw: ``(key, number, previous) -> assignment``, compiled.
      synchronous: gradients are averaged at every step, and nothing is cut.
      drop_nonfinite: a worker whose update is not finite is left out.
      mesh: the devices.
      net, subnet: all of it, and what one worker holds.
      slots: of a worker, in each group that is cut; those of ``external`` groups come with every
        round.
      layout, carried_layout: how the parameters are spread over the devices, and how they are
        together with what is carried of the optimizer's state.
      held: neurons that each worker holds of each cut group, where external slots are all filled.
      moved: bytes of a round then.
      moved_with: the same, of the neurons that each worker holds of each external group.
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    memory: Memory
    draw: Callable[..., Assignment]
    synchronous: bool
    drop_nonfinite: bool
    mesh: Mesh
    net: Net
    subnet: Net
    slots: dict[str, int]
    external: dict[str, int]
    layout: Layout
    carried_layout: Layout
    held: dict[str, np.ndarray]
    moved: traffic.Moved
    moved_with: Callable[[Mapping[str, np.ndarray]], traffic.Moved]


def make(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    names: PyTree,
    *,
    method: Method,
    workers: int,
    optimizer_state: str,
    mesh: Mesh | None,
    exact: bool,
    message_bytes: int | None,
    on_nonfinite: str,
    external: Mapping[str, int] | None,
    code: Code | None,
    example: PyTree,
) -> Plan:
    """The plan of a training; arguments and errors are those of ``trainer.build``."""
    validate.check_arguments(params, workers, on_nonfinite)
    net, external = axes.describe(params, names), dict(external or {})
    drawn = _drawn_widths(net, external)
    slots = partition.slot_counts(method.draw, drawn, workers)
    methods.check(method, net, slots, workers)
    slots |= external
    subnet, mesh = net.subnet(slots), placement.fitting(mesh, workers)
    policy, synchronous = method.memory or optimizer_state, method.exchange == "step"
    memory = carry.Memory(optimizer, policy)
    checks.check(optimizer, policy, net, subnet, slots, workers, synchronous)
    loss_check.check(loss, net, subnet, example, slots)
    codes = _codes(code, net, slots, method, workers)
    spread = functools.partial(
        layout.spread_out,
        slots=slots,
        external=external,
        workers=workers,
        devices=placement.groups(mesh),
        disjoint=method.disjoint,
        exact=exact,
        message=message_bytes,
        codes=codes,
    )
    with_state = carry.with_state(net, optimizer, memory)
    per_round = traffic.per_round(net, with_state, method, workers, code)
    draw, first = _drawing(method, drawn, workers)
    held = traffic.held_in(first, net.widths, workers, external)
    return Plan(
        *(loss, optimizer, memory, draw, synchronous),
        drop_nonfinite=on_nonfinite == "drop",
        mesh=mesh,
        net=net,
        subnet=subnet,
        slots=slots,
        external=external,
        layout=spread(net),
        carried_layout=spread(with_state),
        held=held,
        moved=per_round(held),
        moved_with=lambda now: per_round(held | dict(now)),
    )


def _codes(
    code: Code | None, net: Net, slots: Mapping[str, int], method: Method, workers: int
) -> list[Code | None]:
    """The code of each leaf."""
    if code is not None and code.feedback and method.exchange == "step":
        raise InputError(
            "error feedback is for methods that exchange once a round: data parallel sends its "
            f"gradients in {code.name.removesuffix(' with feedback')} without it"
        )
    sent_in = code if methods.sends(method, workers) else None
    return compress.of_leaves(sent_in, net.leaves, slots, method.disjoint)


def _drawn_widths(net: Net, external: Mapping[str, int]) -> dict[str, int]:
    """The widths of the groups that are drawn: those that do not come from outside."""
    for group in external:
        if group not in net.widths:
            raise InputError(
                f"no axis is of the external group {group!r}; there are {list(net.widths)}"
            )
    return {group: width for group, width in net.widths.items() if group not in external}


def _drawing(
    method: Method, widths: Mapping[str, int], workers: int
) -> tuple[Callable[..., Assignment], Assignment]:
    """The draw, compiled, and what it gives in the first round, which is checked."""
    draw = jax.jit(functools.partial(_draw, method, widths, workers))
    first = draw(jax.random.key(0), 0)
    assignment.check_draw(first, widths, workers, method.disjoint, method.name)
    return draw, first


def _draw(
    method: Method,
    widths: Mapping[str, int],
    workers: int,
    key: jax.Array,
    number: Any,
    previous: Assignment | None = None,
) -> Assignment:
    return method.draw(fold(key, "draw"), Context(widths, workers, number, previous))
