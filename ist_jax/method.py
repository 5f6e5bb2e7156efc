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
``rotate``            one of S fixed        subnets, every J steps  what IST is without new partners
                      subnets, in turn
``dense_subnet``      all of a net of a     gradients, every step   data parallel on a net with the
                      subnet's width                                widths of one subnet
``dense_local_sgd``,  the same              parameters, every J     as ``local_sgd``, ``diloco``
``dense_diloco``
``dense_ensemble``    a net of its own      once, at the end        S nets of a subnet's width
``shallow_ensemble``  a net of its own, as  once, at the end        Dun et al., UAI 2022
                      deep as a subnet
``diloco``            everything            parameters, every J;    Douillard et al., DiLoCo, 2023
                                            outer Nesterov
``fedavgm``           everything            parameters, every J;    Hsu et al., 2019
                                            outer momentum
``fedadam``,          everything            parameters, every J;    Reddi et al., ICLR 2021
``fedyogi``                                 outer Adam, Yogi
``snoo``              one worker, all       with itself, every J;   Kallusky et al., SNOO, 2025
                                            outer Nesterov
====================  ====================  ======================  ================================

Any method that exchanges once a round may have an outer optimizer: ``with_server``.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from ist_jax import depth, partition
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.partition import Draw

PyTree = Any
SERVERS: Mapping[str, Callable[[float, float], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "nesterov": lambda lr, momentum: optax.sgd(lr, momentum, nesterov=True),
    "adam": lambda lr, momentum: optax.adam(lr, momentum, 0.99, 1e-3),
    "yogi": lambda lr, momentum: optax.yogi(lr, momentum, 0.99, 1e-3),
}


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
      server: an outer optimizer, which steps on the merged update of a round: the net before minus
        the merged net is its gradient. Where the net is cut it must work entry by entry.
    """

    name: str
    draw: Draw
    exchange: str = "round"
    disjoint: bool = True
    memory: str | None = None
    workers: int | None = None
    meant: Meant = Meant()
    server: optax.GradientTransformation | None = None


def server(name: str, lr: float = 1.0, momentum: float = 0.0) -> optax.GradientTransformation:
    """An outer optimizer by name (``SERVERS``).

    Args:
      lr: its learning rate; with ``"sgd"`` and 1 the net becomes the merged one.
      momentum: of ``"adam"`` and ``"yogi"`` that of the first moment; of the second it is .99, and
        tau .001, as Reddi et al. use them.

    Raises:
      InputError: an unknown name, a rate of 0 or less, or a momentum outside of [0, 1).
    """
    if name not in SERVERS:
        raise InputError(f"unknown outer optimizer {name!r}{by_name.hint(name, SERVERS)}")
    if not 0 < lr < math.inf:
        raise InputError(f"an outer optimizer needs a learning rate above 0, found {lr}")
    if not 0 <= momentum < 1:
        raise InputError(f"an outer optimizer needs a momentum from 0 to below 1, found {momentum}")
    return SERVERS[name](lr, momentum)


def with_server(how: Method, server: optax.GradientTransformation) -> Method:
    """A method with an outer optimizer, any of optax: ``optax.sgd(0.7, 0.9, nesterov=True)``."""
    return how._replace(server=server)


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


def rotate() -> Method:
    """S subnets that are drawn once, and go from worker to worker."""
    return Method("rotate", partition.rotating)


def dense_local_sgd() -> Method:
    """Local SGD on a dense net that is as wide as one worker's subnet."""
    return local_sgd()._replace(name="dense_local_sgd", meant=Meant(narrow="ist"))


def dense_diloco(lr: float = 0.7, momentum: float = 0.9) -> Method:
    """DiLoCo on a dense net that is as wide as one worker's subnet."""
    return diloco(lr, momentum)._replace(name="dense_diloco", meant=Meant("ist"))


def dense_ensemble() -> Method:
    """Every worker trains a net of its own, as wide as IST's subnets; they are asked together."""
    return shallow_ensemble()._replace(name="dense_ensemble", meant=Meant("ist", members=True))


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


def diloco(lr: float = 0.7, momentum: float = 0.9) -> Method:
    """DiLoCo: Nesterov's momentum takes the workers' mean update for a gradient.

    The moments of each worker's optimizer (AdamW in the paper) stay its own.
    """
    return _outer("diloco", server("nesterov", lr, momentum), memory="own")


def fedavgm(lr: float = 1.0, momentum: float = 0.9) -> Method:
    """Federated averaging with momentum at the server."""
    return _outer("fedavgm", server("sgd", lr, momentum))


def fedadam(lr: float = 0.01, momentum: float = 0.9) -> Method:
    """Federated averaging with Adam at the server."""
    return _outer("fedadam", server("adam", lr, momentum))


def fedyogi(lr: float = 0.01, momentum: float = 0.9) -> Method:
    """Federated averaging with Yogi at the server."""
    return _outer("fedyogi", server("yogi", lr, momentum))


def snoo(lr: float = 0.7, momentum: float = 0.9) -> Method:
    """One worker, and Nesterov's momentum on what it learns in J steps."""
    made = _outer("snoo", server("nesterov", lr, momentum), memory="own")
    return made._replace(workers=1)


def _outer(name: str, server: optax.GradientTransformation, memory: str | None = None) -> Method:
    """Local SGD with an outer optimizer."""
    return with_server(local_sgd()._replace(name=name, memory=memory), server)


def sends(method: Method, workers: int) -> bool:
    """Whether workers send each other anything while they train."""
    return workers > 1 and method.exchange != "never"


def cuts(method: Method, widths: Mapping[str, int], workers: int) -> bool:
    """Whether a worker holds less than the whole net."""
    return workers > 1 and bool(partition.slot_counts(method.draw, widths, workers))
