"""Where a webhook may connect to: a name is looked up once per attempt, and what was checked is what is called.

A name in the DNS may point anywhere, and elsewhere a moment later: into this plant's own network, at this machine, at a
cloud's metadata. So no address is called but one that this module has let through.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from service.outbox.settings import Network

_NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The name leads nowhere, or nowhere that may be called."""


def resolve(host: str, port: int, allowed: Sequence[Network]) -> Address:
    """The address to call for this host: public, or in an allowed network. AddressRefused says why there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressRefused(f"{host} cannot be looked up: {error.strerror or error}") from error
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    usable = next((address for address in addresses if is_allowed(address, allowed)), None)
    if usable is None:
        raise AddressRefused(
            f"{host} is {', '.join(map(str, dict.fromkeys(addresses)))}, which is not public: allow its network with "
            "GLAD_WEBHOOK_ALLOW, such as 10.20.0.0/16"
        )
    return usable


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Public, or in one of these networks."""
    real = _inner(address)
    if any(one.version == network.version and one in network for one in (address, real) for network in allowed):
        return True
    return real.is_global and not real.is_multicast


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
