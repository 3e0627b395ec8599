"""Socket addresses from IP addresses, and the options that both families have under different names."""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import socket
from typing import TypeAlias

from worker.probing import IPAddress

#: The kernel's indices are positive C integers; a greater number would be cut down to another interface's.
_MOST_INTERFACE_INDEX = 2**31 - 1

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


def family_of(address: IPAddress) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address in an IPv6 one that stands for it (`::ffff:192.0.2.1`), any other as it is.

    Systems send IPv4 packets there, to which nothing applies that was set for IPv6: DSCP, routes, ICMP errors.
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def without_zone(host: str) -> str:
    """Return a host as others may be told of it: a zone (`%eth0`) has a meaning on this host alone (RFC 4007, RFC 6874)."""
    return host.partition("%")[0]


def host_field(host: str, port: int | None, usual: int) -> str:
    """Return how HTTP names a host (RFC 9110, section 7.2): without its zone, IPv6 in brackets, and a port that is not the usual one."""
    named = without_zone(host)
    if ":" in named:
        named = f"[{named}]"
    return named if port in (None, usual) else f"{named}:{port}"


@functools.lru_cache(maxsize=50_000)
def shown_packed(address: bytes) -> str:
    """Return an address of 4 or 16 bytes as text."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def shown_address(address: IPAddress) -> str:
    """Return an address as text, a good deal faster than `str` where there is no scope."""
    if isinstance(address, ipaddress.IPv4Address):
        return shown_packed(address.packed)
    return str(address)


def socket_address(address: IPAddress, port: int) -> SocketAddress:
    """Return what connect and sendto take; raises OSError for a scope (`%eth0`) that this host does not have."""
    if isinstance(address, ipaddress.IPv4Address):
        return (shown_address(address), port)
    scope = address.scope_id
    if scope is None:
        return (str(address), port, 0, 0)
    return (str(address).partition("%")[0], port, 0, interface_index(scope))


def interface_index(scope: str) -> int:
    """Return the index of the interface that a scope names, by its name or number; raises OSError without one."""
    if not (scope.isascii() and scope.isdigit()):
        try:
            return socket.if_nametoindex(scope)
        except OSError as error:  # it comes without a number
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
    index = int(scope)
    if index > _MOST_INTERFACE_INDEX:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return index


def endpoint(address: IPAddress, port: int) -> str:
    """Return `address:port` for messages, IPv6 in brackets."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def set_dscp(sock: socket.socket, dscp: int) -> None:
    """Mark everything that the socket sends; the octet is `dscp << 2`, its ECN bits stay the kernel's."""
    set_octet(sock, dscp << 2)


def set_octet(sock: socket.socket, octet: int) -> None:
    """Send everything with this octet of DSCP and ECN."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, octet)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, octet)
