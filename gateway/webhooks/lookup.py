"""What the system says about names and addresses: a name's addresses, and whether an address is this machine's."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from gateway.webhooks.addresses import Address

Resolve = Callable[[str, int], Sequence[Address]]
"""Every address of a name (and port); OSError where there is none."""


def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a name, in the system's order.

    Raises:
        OSError: it has none, or nobody knows.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(_address(sockaddr) for *_, sockaddr in found))


def _address(sockaddr: tuple[object, ...]) -> Address:
    text = str(sockaddr[0])
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in text:
        text += f"%{sockaddr[3]}"  # an address bound to an interface stays recognisable
    return ipaddress.ip_address(text)


def own(address: Address) -> bool:
    """True for an address of this very machine: only such can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
