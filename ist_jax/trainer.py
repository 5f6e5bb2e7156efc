"""What a round tells, and what can be done with a method that is built (``ist_jax.build``)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from ist_jax.cost import traffic
from ist_jax.sharded.state import State

PyTree = Any


class Report(NamedTuple):
    """What a round tells; arrays over the S workers.

    ``loss`` is each worker's mean over its local steps: not finite where its data or its net is
    not, and NaN where ``on_nonfinite="drop"`` left out the worker's update. Bytes are those of the
    parameters, and of the optimiser's moments where they are kept, that a worker receives and sends
    to take part in the round. ``passes`` are those of each journey between devices
    (``traffic.wire`` says what they come to).
    """

    loss: Float[Array, " S"]
    took_part: np.ndarray
    bytes_received: np.ndarray
    bytes_sent: np.ndarray
    passes: dict[str, Array]


class Trainer(NamedTuple):
    """Pure functions, and the bytes they move; ``round`` donates the state it is given.

    ``init(params, key)`` takes a net, or a function ``key -> net``, which is run where its result
    is to lie: no device ever holds all of it. To look at the net between rounds without gathering
    it, ``over(function)(home(state), ...)`` runs ``function(net, ...)`` on the net as it lies.

    ``natural(state)`` is a copy of the state with every leaf in its natural shape, of which each
    device has its part if D divides the width (``shapes`` says how they lie); ``whole(state)`` is
    the same with all of it on every device. Such a state does not depend on the number of devices
    or processes: it is what a checkpoint holds, and ``resume(state)`` goes on from it, also with
    another number of workers (neurons are then drawn anew).

    ``state.params`` is laid out for the devices, and every round lays it out anew: it is not the
    net, and not to be changed by hand. ``map_params(function, state)`` is the state with
    ``function(leaf)`` in place of every leaf of the net, all of it in its natural shape; what it
    gives has that shape and dtype. It is for functions of one leaf alone: whatever remembers
    something of each parameter (the momentum of an outer step) would have to move with the neurons.

    ``wire(report, J)`` is what every device received from others in that round, in bytes, and
    ``lower`` gives the round's program, to compile and look at.
    """

    init: Callable[[Any, Key[Array, ""]], State]
    resume: Callable[[State], State]
    round: Callable[..., tuple[State, Report]]
    natural: Callable[[State], State]
    whole: Callable[[State], State]
    map_params: Callable[[Callable[[Array], Array], State], State]
    shapes: State
    home: Callable[[State], PyTree]
    over: Callable[[Callable[..., Any]], Callable[..., Any]]
    lower: Callable[..., jax.stages.Lowered]
    wire: Callable[[Report, int], float]
    moved: traffic.Moved
