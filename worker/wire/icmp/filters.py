"""What the kernel lets through to raw ICMP sockets, which would be given every ICMP message of the host (classic BPF)."""

from __future__ import annotations

import socket

from worker.wire import icmp_messages, options

#: Types of errors: unreachable, too big, time exceeded, parameter problem.
ERROR_TYPES = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
ECHO_PROTOCOL = {4: 1, 6: 58}
#: Bytes of a quoted header, and where its protocol stands; our IPv4 requests have no options.
HEADER_BYTES = {4: 20, 6: 40}
PROTOCOL_AT = {4: 9, 6: 6}
#: IPv6 requests that were fragmented on the way out have a header for that (RFC 8200, section 4.5).
FRAGMENT, FRAGMENT_BYTES = 44, 8

# linux/filter.h: load, compare, jump, return; those with X are relative to the length of the IPv4 header.
_BYTE, _HALF, _BYTE_X, _HALF_X, _HEADER_LENGTH_TO_X = 0x30, 0x28, 0x50, 0x48, 0xB1
_EQUAL, _JUMP, _RETURN = 0x15, 0x05, 0x06
_WHOLE = 0x40000


def take(sock: socket.socket, version: int, ident: int, *, replies: bool, errors: bool) -> None:
    """Have a raw socket given echo replies with an identifier, errors that quote a request with it, or both."""
    types = [icmp_messages.REPLY_TYPE[version]] if replies else []
    # The kernel's own filter first.
    options.take_icmp_types(sock, version, [*types, *(ERROR_TYPES[version] if errors else ())])
    options.attach_filter(sock, options.assembled(_program4(ident) if version == 4 else _program6(ident)))


def _program4(ident: int) -> list[options.Instruction]:
    """Sockets of IPv4 see packets from their IP header on."""
    quoted = icmp_messages.HEADER_BYTES
    request = quoted + HEADER_BYTES[4]
    return [
        (_HEADER_LENGTH_TO_X, 0, 0, 0),
        (_BYTE_X, 0, 0, 0),
        (_EQUAL, 6, 0, icmp_messages.REPLY_TYPE[4]),  # to the last load
        (_BYTE_X, 0, 0, quoted + PROTOCOL_AT[4]),
        (_EQUAL, 0, 6, ECHO_PROTOCOL[4]),  # otherwise drop it
        (_BYTE_X, 0, 0, request),
        (_EQUAL, 0, 4, icmp_messages.REQUEST_TYPE[4]),
        (_HALF_X, 0, 0, request + 4),
        (_JUMP, 0, 0, 1),
        (_HALF_X, 0, 0, 4),
        *_with(ident),
    ]


def _program6(ident: int) -> list[options.Instruction]:
    """Sockets of IPv6 see messages from their ICMP header on; a request is quoted whole, or the first fragment of it."""
    quoted = icmp_messages.HEADER_BYTES
    request = quoted + HEADER_BYTES[6]
    fragmented = request + FRAGMENT_BYTES
    kind = icmp_messages.REQUEST_TYPE[6]
    return [
        (_BYTE, 0, 0, 0),
        (_EQUAL, 13, 0, icmp_messages.REPLY_TYPE[6]),  # to the last load
        (_BYTE, 0, 0, quoted + PROTOCOL_AT[6]),
        (_EQUAL, 0, 4, ECHO_PROTOCOL[6]),  # otherwise to the comparison with fragments
        (_BYTE, 0, 0, request),
        (_EQUAL, 0, 11, kind),  # otherwise drop it
        (_HALF, 0, 0, request + 4),
        (_JUMP, 0, 0, 8),
        (_EQUAL, 0, 8, FRAGMENT),
        (_BYTE, 0, 0, request),
        (_EQUAL, 0, 6, ECHO_PROTOCOL[6]),
        (_BYTE, 0, 0, fragmented),
        (_EQUAL, 0, 4, kind),
        (_HALF, 0, 0, fragmented + 4),
        (_JUMP, 0, 0, 1),
        (_HALF, 0, 0, 4),
        *_with(ident),
    ]


def _with(ident: int) -> list[options.Instruction]:
    """Let the packet pass when the number that was loaded is the identifier."""
    return [(_EQUAL, 1, 0, ident), (_RETURN, 0, 0, 0), (_RETURN, 0, 0, _WHOLE)]
