"""What makes IST, local SGD, data parallel and an ensemble different: a small description.

All run through the one round of ``one_round``. They differ in who holds what and when the workers
exchange; some of the relatives also in the net that they are meant for, which the caller builds
(``Meant``).

====================  ====================  ======================  ================================
method                who holds what        exchanged               source
====================  ====================  ======================  ================================
``ist``               a new permutation     subnets, every J steps  Yuan et al., PVLDB 15(8), 2022
``local_sgd``         everything            parameters, every J     Lin et al., ICLR 2020
``data_parallel``     everything            gradients, every step   synchronous SGD
``resist``            blocks of a stage, a  subnets, every J steps  Dun et al., UAI 2022
                      least number each
``loft``              inner filters of      subnets, every J steps  Dun et al. (LoFT)
                      blocks
``ensemble``          the first draw        once, at the end        Yuan et al., section 3, table 3
``single``            one worker, all       never                   ordinary training
``dense_subnet``      all of a net of a     gradients, every step   data parallel on a net with the
                      subnet's width                                widths of one subnet
``shallow_ensemble``  a net of its own, as  once, at the end        Dun et al., UAI 2022
                      deep as a subnet
====================  ====================  ======================  ================================
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ist_jax import depth, partition
from ist_jax.axes import Net
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.partition import Draw

PyTree = Any
MANY = 1 << 10  # neurons of a group that stands for any other


class Meant(NamedTuple):
    """The net that a method is meant for. The caller builds it; no round reads this.

    Attributes:
      narrow: as wide as one subnet of the method of that name; as wide as it is if empty.
      members: so many of those (``ist_jax.models.ensemble``) as there are workers.
      scaled: in evaluation, the contribution of a cut group is multiplied by the share of it that
        a worker held on average (``depth.mean_shares``). No worker ever trained beside all of it.
    """

    narrow: str = ""
    members: bool = False
    scaled: bool = False


class Method(NamedTuple):
    """A way to train with S workers.

    Attributes:
      name: what tables and figures call it.
      draw: which neurons each worker holds in a round (``partition.Draw``).
      exchange: ``"round"``, ``"step"`` (gradients are averaged before every step) or ``"never"``.
      disjoint: of the groups that it cuts, the draw never gives a neuron to two workers.
      memory: the optimizer's policy where the method leaves no choice: ``"keep"`` where each
        worker's optimizer goes on from its own state, which never moves.
      workers: how many workers it is for; any number if None.
      meant: the net that the caller builds for it.
    """

    name: str
    draw: Draw
    exchange: str = "round"
    disjoint: bool = True
    memory: str | None = None
    workers: int | None = None
    meant: Meant = Meant()


def ist(draw: Draw = partition.permutation) -> Method:
    """Independent Subnet Training; any disjoint draw in place of the paper's permutation."""
    return Method("ist", draw)


def resist(least: int = 1) -> Method:
    """ResIST: residual blocks are dealt out, at least so many to every worker; disjoint if 0.

    One is the least that the paper uses; a config's option ``min_depth`` is 0 where none is named.
    """
    draw = functools.partial(depth.overlapping, least=least)
    return Method("resist", draw, disjoint=least == 0, meant=Meant(scaled=True))


def local_sgd() -> Method:
    """Every worker trains the whole net; parameters are averaged after J steps."""
    return Method("local_sgd", partition.replicated)


def data_parallel() -> Method:
    """Gradients are averaged at every step."""
    return Method("data_parallel", partition.replicated, exchange="step", memory="keep")


def ensemble(draw: Draw = partition.fixed) -> Method:
    """Subnets drawn once and trained apart; merged into the net wherever it is evaluated."""
    return Method("ensemble", draw, exchange="never", memory="keep")


def single() -> Method:
    """One worker with the whole net and all the data: ordinary training."""
    return Method("single", partition.replicated, exchange="never", memory="keep", workers=1)


def dense_subnet() -> Method:
    """Data parallel training of a dense net that is as wide as one worker's subnet.

    The caller builds that net: ``model.clone(widths=partition.sub_widths(...))``.
    """
    return data_parallel()._replace(name="dense_subnet", meant=Meant(narrow="ist"))


def shallow_ensemble() -> Method:
    """Every worker trains a net of its own, as deep as ResIST's subnets; they are asked together.

    The caller builds an ``Ensemble`` of S nets with the widths of a subnet.
    """
    return Method(
        "shallow_ensemble",
        functools.partial(partition.contiguous, only="members"),
        exchange="never",
        memory="keep",
        meant=Meant(narrow="resist", members=True),
    )


def loft() -> Method:
    """LoFT: the inner filters of residual blocks are dealt out (IST, where those are groups)."""
    return Method("loft", partition.permutation)


DRAWS: Mapping[str, Draw] = {
    "permutation": partition.permutation,
    "balanced": partition.balanced,
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


def _ist(assignment: str = "permutation", shares: Sequence[float | int] = ()) -> Method:
    return ist(_draw(assignment, shares))


def _ensemble(assignment: str = "permutation", shares: Sequence[float | int] = ()) -> Method:
    return ensemble(functools.partial(partition.fixed, draw=_draw(assignment, shares)))


def _resist(min_depth: int = 0) -> Method:
    return resist(min_depth)


NAMED: Mapping[str, Callable[..., Method]] = {
    "ist": _ist,
    "local_sgd": local_sgd,
    "data_parallel": data_parallel,
    "ensemble": _ensemble,
    "single": single,
    "dense_subnet": dense_subnet,
    "resist": _resist,
    "loft": loft,
    "shallow_ensemble": shallow_ensemble,
}


def named(name: str, /, **options: Any) -> Method:
    """The method a config names: one of the table, or ``"module:function"`` that returns one.

    Args:
      options: of ``ist`` and ``ensemble``, ``assignment`` (``DRAWS``) and ``shares``, the relative
        capacity of each worker; of ``resist``, ``min_depth``; of one of your own, its arguments.

    Raises:
      InputError: an unknown method, option or assignment (the nearest are named), or shares with an
        assignment that has none.

    Example:
      >>> named("ist", assignment="balanced").draw is partition.balanced
      True
    """
    make = by_name.found(name, NAMED, "config.methods")
    by_name.check_options(make, options, f"method {name!r}")
    try:
        made = make(**options)
    except TypeError as error:
        raise InputError(f"{name} must return a Method ({error})") from None
    if not isinstance(made, Method):
        raise InputError(f"{name} must return a Method, found {type(made).__name__}")
    return made


def sends(method: Method, workers: int) -> bool:
    """Whether workers send each other anything while they train."""
    return workers > 1 and method.exchange != "never"


def cuts(method: Method, widths: Mapping[str, int], workers: int) -> bool:
    """Whether a worker holds less than the whole net."""
    return workers > 1 and bool(partition.slot_counts(method.draw, widths, workers))


def check(method: Method, net: Net, slots: Mapping[str, int], workers: int) -> None:
    """Complains about a method that cannot train this net with so many workers.

    Args:
      slots: of a worker, in each group that is cut (``partition.slot_counts``).

    Raises:
      InputError: an unknown exchange, another number of workers than the method is for,
        nothing to cut, or members of an ensemble that would share a leaf.
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
