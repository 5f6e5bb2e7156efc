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
from ist_jax.optimizer_state import carried, carry, checks, server
from ist_jax.optimizer_state.carried import Carried
from ist_jax.optimizer_state.carry import Memory
from ist_jax.optimizer_state.server import Server
from ist_jax.partition import Assignment, Context
from ist_jax.sharded import layout, placement
from ist_jax.sharded.layout import Layout

PyTree = Any
MANY = 1 << 10  # neurons of a group that stands for any other


class Plan(NamedTuple):
    """What a round is made of.

    Attributes:
      loss: of a subnet.
      optimizer: of a subnet, with its ``memory``: what is carried of its state between rounds.
      server: the outer optimizer, if the method has one.
      draw: ``(key, number, previous) -> assignment``, compiled.
      synchronous: gradients are averaged at every step, and nothing is cut.
      drop_nonfinite: a worker whose update is not finite is left out.
      mesh: the devices.
      net, subnet: all of it, and what one worker holds.
      slots: of a worker, in each group that is cut; those of ``external`` groups come with every
        round.
      carried: the net with what is carried of its optimizers' states.
      layout, carried_layout: how the parameters are spread over the devices, and how all that is
        carried.
      held: neurons that each worker holds of each cut group, where external slots are all filled.
      moved: bytes of a round then.
      moved_with: the same, of the neurons that each worker holds of each external group.
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    memory: Memory
    server: Server | None
    draw: Callable[..., Assignment]
    synchronous: bool
    drop_nonfinite: bool
    mesh: Mesh
    net: Net
    subnet: Net
    slots: dict[str, int]
    external: dict[str, int]
    carried: Carried
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
    _check_method(method, net, slots, workers)
    slots |= external
    subnet, mesh = net.subnet(slots), placement.fitting(mesh, workers)
    memory, outer = _optimizers(optimizer, optimizer_state, method, net, subnet, slots, workers)
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
    everything = carried.describe(net, optimizer, memory, outer, workers)
    per_round = traffic.per_round(net, everything, method, workers, code)
    draw, first = _drawing(method, drawn, workers)
    held = traffic.held_in(first, net.widths, workers, external)
    return Plan(
        *(loss, optimizer, memory, outer, draw),
        synchronous=method.exchange == "step",
        drop_nonfinite=on_nonfinite == "drop",
        mesh=mesh,
        net=net,
        subnet=subnet,
        slots=slots,
        external=external,
        carried=everything,
        layout=spread(net),
        carried_layout=spread(everything.net, roles=everything.roles),
        held=held,
        moved=per_round(held),
        moved_with=lambda now: per_round(held | dict(now)),
    )


def _check_method(method: Method, net: Net, slots: Mapping[str, int], workers: int) -> None:
    """Complains about a method that cannot train this net with so many workers.

    Args:
      slots: of a worker, in each group that is cut (``partition.slot_counts``).

    Raises:
      InputError: an unknown exchange, another number of workers than the method is for, nothing to
        cut, or members of an ensemble that would share a leaf.
    """
    if method.exchange not in ("round", "step", "never"):
        raise InputError(f"exchange must be 'round', 'step' or 'never', found {method.exchange!r}")
    if method.workers not in (None, workers):
        raise InputError(f"{method.name} is for {method.workers} worker, found workers={workers}")
    if workers == 1 or (method.exchange != "never" and not (slots or _would_cut(method, net))):
        return
    shared = [leaf.path for leaf in net.leaves if not any(leaf.names)]
    if len(shared) == len(net.leaves):
        raise InputError(f"{method.name} has nothing to cut: no axis of any leaf has a name")
    if shared and method.exchange == "never":
        raise InputError(
            f"{method.name}: leaf {shared[0]} has no axis to cut, so the members would share it. "
            "Name an axis of it, or drop it."
        )


def _would_cut(method: Method, net: Net) -> bool:
    """Whether the draw would cut some group if the net had one."""
    return not net.widths and bool(partition.slot_counts(method.draw, {"neurons": MANY}, 2))


def _optimizers(
    optimizer: optax.GradientTransformation,
    optimizer_state: str,
    method: Method,
    net: Net,
    subnet: Net,
    slots: Mapping[str, int],
    workers: int,
) -> tuple[Memory, Server | None]:
    """What is carried of the workers' optimizer, and the outer one, both checked."""
    policy = _policy(method, optimizer_state)
    memory = carry.Memory(optimizer, policy)
    checks.check(optimizer, policy, net, subnet, slots, workers, method.exchange == "step")
    return memory, _server(method, net, slots)


def _policy(method: Method, optimizer_state: str) -> str:
    """The method's, or else the one that is asked for."""
    if optimizer_state == "own" and method.exchange != "round":
        raise InputError(
            f"optimizer_state='own' is for methods that exchange once a round; {method.name} "
            f"{'never does' if method.exchange == 'never' else 'does in every step'}"
        )
    return method.memory or optimizer_state


def _server(method: Method, net: Net, slots: Mapping[str, int]) -> Server | None:
    """The method's outer optimizer, if it has one."""
    if method.server is None:
        return None
    if method.exchange != "round":
        raise InputError(
            f"an outer optimizer steps where workers exchange once a round; {method.name} "
            f"{'never does' if method.exchange == 'never' else 'does in every step'}"
        )
    made = Server(method.server, net)
    server.check(made, net, slots)
    return made


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
