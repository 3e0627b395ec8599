"""ICMP errors for echo requests, as they come: from the error queue of a datagram socket, or to a raw socket of their own.

The error queue of a raw socket would be given the errors for everything that the host sends by ICMP, and shares its
room with replies and stamps: somebody who forges errors could fill it. So raw sockets have no such queue; the errors
come to a second one, to which the kernel lets only those through that quote the identifier; see `filters`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

from worker.wire import icmp_messages, options, stamps
from worker.wire.icmp import filters
from worker.wire.icmp.filters import (
    ECHO_PROTOCOL,
    ERROR_TYPES,
    FRAGMENT,
    FRAGMENT_BYTES,
    HEADER_BYTES,
    PROTOCOL_AT,
)
from worker.wire.icmp.run import LOW_AT
from worker.wire.turns import Turn

#: Errors are shorter than that (RFC 1812, RFC 4443); and room for those that wait, which are small.
_LONGEST = 2048
_ROOM_BYTES = 1 << 20
#: In a quoted header: where the last 32 bits of the destination end.
_LOW_END = {4: 20, 6: 40}


class Error(NamedTuple):
    """One ICMP error that quotes an echo request."""

    type: int
    code: int
    #: Who sent it, where known.
    offender: str | None
    #: The last 32 bits of the address that the request was sent to.
    low: bytes
    #: The request as far as it is quoted, from its ICMP header on.
    quoted: bytes
    #: Bytes of the IP packet.
    size: int
    #: Of a request that was too big: the MTU of the next link, where it was named.
    mtu: int | None


def queued(entry: stamps.QueuedError, address: bytes, version: int) -> Error:
    """Return an error from the error queue, whose message came with a socket address."""
    at = LOW_AT[version]
    size = 2 * HEADER_BYTES[version] + icmp_messages.HEADER_BYTES + len(entry.quoted)
    low = address[at : at + 4]
    return Error(entry.type, entry.code, entry.offender, low, entry.quoted, size, entry.info or None)


def open_for(version: int, ident: int) -> socket.socket:
    """Return a raw socket that is given the errors for echo requests with an identifier; raises OSError."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    sock = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        sock.setblocking(False)
        filters.take(sock, version, ident, replies=False, errors=True)
        options.enlarge_receiving(sock, _ROOM_BYTES)
    except BaseException:
        sock.close()
        raise
    return sock


def read(sock: socket.socket, version: int) -> Iterator[Error]:
    """Yield what has come to a socket of `open_for`, for a turn."""
    turn = Turn()
    while turn.goes_on():
        try:
            data, sender = sock.recvfrom(_LONGEST)
        except OSError:
            return  # there is nothing more
        error = parse(version, data, str(sender[0]))
        if error is not None:
            yield error


def parse(version: int, data: bytes, offender: str) -> Error | None:
    """Read an error as a raw socket delivers it, with its IP header in IPv4 alone; None for what is none of a request."""
    size = len(data)
    message = data
    if version == 4:
        message = data[(data[0] & 0x0F) * 4 :] if data else b""
    else:
        size += HEADER_BYTES[version]
    if not message or message[0] not in ERROR_TYPES[version]:
        return None
    # The kernel hands IPv4 packets to raw sockets before it looks at their ICMP checksum.
    if version == 4 and icmp_messages.internet_sum(message) != 0xFFFF:
        return None
    header = message[icmp_messages.HEADER_BYTES :]
    start = HEADER_BYTES[version]
    if len(header) < start:
        return None
    protocol = header[PROTOCOL_AT[version]]
    if version == 6 and protocol == FRAGMENT and len(header) > start:
        protocol, start = header[start], start + FRAGMENT_BYTES
    if protocol != ECHO_PROTOCOL[version]:
        return None
    low = header[_LOW_END[version] - 4 : _LOW_END[version]]
    mtu = icmp_messages.next_mtu(version, message)
    return Error(message[0], message[1], offender.partition("%")[0], low, header[start:], size, mtu)
