"""The address at which processes meet: a host and a port, read, printed and looked up."""

import ipaddress
import os
import socket
from typing import NamedTuple

from ist_jax.core.errors import InputError


class Address(NamedTuple):
    """A host (a name, IPv4, or IPv6 without its brackets) and a port."""

    host: str
    port: int

    @classmethod
    def read(cls, text: str, what: str) -> "Address":
        """``host:port`` or ``[IPv6]:port``; ``what`` is the flag that holds it."""
        host, _, port = text.rpartition(":")
        bracketed = host[:1] == "[" and host[-1:] == "]"
        host = host[1:-1] if bracketed else host
        if ":" in host and not bracketed:
            raise InputError(
                f"{what} must be host:port, with brackets around an IPv6 address as in "
                f"[::1]:5000, found {text!r}"
            )
        if not host:
            raise InputError(f"{what} must be host:port, found {text!r}")
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 2**16):
            raise InputError(
                f"{what} must be host:port with a port from 1 to {2**16 - 1}, found {text!r}"
            )
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def found(self) -> list[tuple[int, str]]:
        """All that the name stands for on this machine: families and numeric hosts."""
        try:
            every = socket.getaddrinfo(*self, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a label of 64 letters is no Unicode to Python
            raise InputError(f"there is no host {self.host!r} ({error})") from None
        return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in every))

    @property
    def is_loopback(self) -> bool:
        """Whether the address itself says that no other machine takes part."""
        return self.host == "localhost" or _is_loopback(self.host)

    def to_listen_at(self) -> "Address":
        """Where process 0 listens if others reach it at this address.

        Debian has a machine's own name as 127.0.1.1, where others could not reach it. A name that
        is loopback here tells no interface, so there it is all of them.
        """
        if bind := os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
            return Address.read(bind, "JAX_COORDINATOR_BIND_ADDRESS")
        if self.is_loopback or not all(_is_loopback(host) for _, host in self.found()):
            return self
        return Address("::" if socket.has_dualstack_ipv6() else "0.0.0.0", self.port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
