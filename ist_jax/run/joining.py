"""How a process joins its team: it meets the others, and JAX starts with all of them."""

import os
import sys
import threading
from typing import Any

import jax
from jax._src import distributed
from jax._src import xla_bridge as clients
from jax._src.lib import _jax as jaxlib
from jax.extend.backend import register_backend_factory

from ist_jax.core.errors import InputError
from ist_jax.run import lasting
from ist_jax.run.address import Address
from ist_jax.run.meeting import meet
from ist_jax.run.team import Team, store

MOST = 2**16  # processes


def join(coordinator: str | None, count: int | None, number: int | None, patience: int) -> Team:
    """Meets the other processes.

    Args:
      coordinator: ``host:port`` of process 0; None where Slurm, Open MPI or Kubernetes say.
      count, number: how many processes there are, and which this is; None likewise.
      patience: seconds to wait for them.

    Raises:
      InputError: an address or numbers that cannot be, nobody at the address in time, or nothing
        that says where to meet.
    """
    present = [value is not None for value in (coordinator, count, number)]
    if any(present) and not all(present):
        raise InputError("--coordinator, --processes and --process belong together: give all three")
    listen = None
    if coordinator is not None and count is not None and number is not None:
        if not 1 <= count <= MOST:
            raise InputError(f"--processes must be at least 1 and at most {MOST}, found {count}")
        if not 0 <= number < count:
            raise InputError(f"--process must be 0 to {count - 1}, found {number}")
        address = Address.read(coordinator, "--coordinator")
        coordinator = str(address)
        listen = str(address.to_listen_at()) if number == 0 else None
        meet(address, count, number, patience)
        if address.is_loopback:
            _stay_on(address.host)
    os.environ.update(grpc_proxy="")  # for gRPC alone, before http_proxy and https_proxy: none
    jax.config.update("jax_check_proxy_envs", False)  # a warning of what cannot be now
    try:
        _initialise(
            patience,
            coordinator_address=coordinator,
            num_processes=count,
            process_id=number,
            coordinator_bind_address=listen,
        )
    except ValueError as error:
        raise InputError(
            f"--distributed found no cluster that says where to meet ({error}). Give "
            "--coordinator=host:port --processes=N --process=0, 1, ..."
        ) from None
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"the processes did not come together: {str(error).splitlines()[0]}. Are all started, "
            "with the same --coordinator?"
        ) from None
    found = distributed.global_state  # jax.process_index() would start the devices too early
    return Team(found.process_id, found.num_processes, patience)


def _initialise(patience: int, **how: Any) -> None:
    """JAX's own meeting, in a thread, for it listens to no Ctrl-C and aborts when time is over."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            jax.distributed.initialize(**how, initialization_timeout=patience + 60)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        print(
            f"error: the processes did not come together within {patience} s: one of them has "
            "gone. Its own output says what became of it.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)  # JAX cannot be stopped otherwise
    if raised:
        raise raised[0]
    lasting.wait_for_links()


def _stay_on(host: str) -> None:
    """Has the processes send each other arrays over this host; else JAX asks what the name of the
    machine stands for, which may be an address that other machines see, or nothing.
    """

    def client() -> Any:
        gloo = jaxlib.make_gloo_tcp_collectives(distributed_client=store(), hostname=host)
        return clients.make_cpu_client(collectives=gloo)

    if jax.config.values["jax_cpu_collectives_implementation"] == "gloo":
        register_backend_factory("cpu", client, priority=0, fail_quietly=False)
