"""ICMP errors for echo requests, as they come: from the error queue of a datagram socket, or to a raw socket of their own.

The error queue of a raw socket would be given the errors for everything that the host sends by ICMP, and shares its
room with replies and stamps: somebody who forges errors could fill it. So raw sockets have no such queue; the errors
come to a second one, to which the kernel lets only those through that quote the identifier (classic BPF).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

from worker.wire import icmp_messages, options, stamps
from worker.wire.icmp.run import LOW_AT
from worker.wire.turns import Turn

#: Errors are shorter than that (RFC 1812, RFC 4443); and room for those that wait, which are small.
_LONGEST = 2048
_ROOM_BYTES = 1 << 20
#: Unreachable, too big, time exceeded, parameter problem.
_TYPES = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_ECHO_PROTOCOL = {4: 1, 6: 58}
_HEADER = {4: 20, 6: 40}
#: In a quoted header: protocol, the last 32 bits of the destination.
_PROTOCOL_AT = {4: 9, 6: 6}
_LOW_END = {4: 20, 6: 40}
#: IPv6 requests that were fragmented on the way out have a header for that (RFC 8200, section 4.5).
_FRAGMENT, _FRAGMENT_BYTES = 44, 8

# Classic BPF (linux/filter.h): load, compare, return; those with X are relative to the length of the IPv4 header.
_BYTE, _HALF, _BYTE_X, _HALF_X, _HEADER_LENGTH_TO_X = 0x30, 0x28, 0x50, 0x48, 0xB1
_EQUAL, _RETURN = 0x15, 0x06


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


def queued(entry: stamps.QueuedError, address: bytes, version: int) -> Error:
    """Return an error from the error queue, whose message came with a socket address."""
    at = LOW_AT[version]
    size = 2 * _HEADER[version] + icmp_messages.HEADER_BYTES + len(entry.quoted)
    return Error(entry.type, entry.code, entry.offender, address[at : at + 4], entry.quoted, size)


def open_for(version: int, ident: int) -> socket.socket:
    """Return a raw socket that is given the errors for echo requests with an identifier; raises OSError."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    sock = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        sock.setblocking(False)
        options.take_icmp_types(sock, version, _TYPES[version])
        options.attach_filter(sock, options.assembled(_filter4(ident) if version == 4 else _filter6(ident)))
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
    if version == 4:
        message = data[(data[0] & 0x0F) * 4 :] if data else b""
        # The kernel hands IPv4 packets to raw sockets before it looks at their ICMP checksum.
        if icmp_messages.internet_sum(message) != 0xFFFF:
            return None
    else:
        message, size = data, size + _HEADER[version]
    header = message[icmp_messages.HEADER_BYTES :]
    start = _HEADER[version]
    if len(header) < start:
        return None
    protocol = header[_PROTOCOL_AT[version]]
    if version == 6 and protocol == _FRAGMENT and len(header) > start:
        protocol, start = header[start], start + _FRAGMENT_BYTES
    if message[0] not in _TYPES[version] or protocol != _ECHO_PROTOCOL[version]:
        return None
    low = header[_LOW_END[version] - 4 : _LOW_END[version]]
    return Error(message[0], message[1], offender.partition("%")[0], low, header[start:], size)


def _filter4(ident: int) -> list[options.Instruction]:
    """Let errors pass that quote an echo request with the identifier; our requests have no IP options."""
    quoted = icmp_messages.HEADER_BYTES
    request = quoted + _HEADER[4]
    return [
        (_HEADER_LENGTH_TO_X, 0, 0, 0),
        (_BYTE_X, 0, 0, quoted + _PROTOCOL_AT[4]),
        (_EQUAL, 0, 5, _ECHO_PROTOCOL[4]),  # or to the end
        (_BYTE_X, 0, 0, request),
        (_EQUAL, 0, 3, icmp_messages.REQUEST_TYPE[4]),
        (_HALF_X, 0, 0, request + 4),
        (_EQUAL, 0, 1, ident),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ]


def _filter6(ident: int) -> list[options.Instruction]:
    """Let errors pass that quote an echo request with the identifier, whole or the first fragment of one."""
    quoted = icmp_messages.HEADER_BYTES
    request = quoted + _HEADER[6]
    fragmented = request + _FRAGMENT_BYTES
    kind = icmp_messages.REQUEST_TYPE[6]
    return [
        (_BYTE, 0, 0, quoted + _PROTOCOL_AT[6]),
        (_EQUAL, 0, 4, _ECHO_PROTOCOL[6]),  # or to the comparison with fragments
        (_BYTE, 0, 0, request),
        (_EQUAL, 0, 10, kind),  # or to the end
        (_HALF, 0, 0, request + 4),
        (_EQUAL, 7, 8, ident),  # to the last but one, or to the end
        (_EQUAL, 0, 7, _FRAGMENT),
        (_BYTE, 0, 0, request),
        (_EQUAL, 0, 5, _ECHO_PROTOCOL[6]),
        (_BYTE, 0, 0, fragmented),
        (_EQUAL, 0, 3, kind),
        (_HALF, 0, 0, fragmented + 4),
        (_EQUAL, 0, 1, ident),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ]
