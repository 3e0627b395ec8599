"""ICMP and ICMPv6 echo messages: building them, and recognising our own among what comes back.

References: RFC 792, RFC 4443.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER_BYTES = 8
_ECHO = struct.Struct("!BBHHH")
_INDEX = struct.Struct("!I")
_COOKIE_BYTES = 8
#: The smallest payload that holds cookie and index.
SMALLEST_PAYLOAD = _COOKIE_BYTES + _INDEX.size

_REQUEST_TYPE = {4: 8, 6: 128}
_REPLY_TYPE = {4: 0, 6: 129}

_UNREACHABLE_V4 = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    13: "communication administratively prohibited",
}
_UNREACHABLE_V6 = {
    0: "no route",
    1: "administratively prohibited",
    2: "beyond the scope of the source address",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed policy",
    6: "route rejected",
}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What tells the requests of one run from everybody else's."""

    #: IP version, 4 or 6.
    version: int
    #: ICMP identifier, random.
    ident: int
    #: Sequence number of the first request, random.
    first_sequence: int
    #: Random bytes that begin the payload.
    cookie: bytes
    #: Bytes of payload.
    size: int
    #: Requests in the run.
    count: int

    def request(self, index: int) -> bytes:
        """Return the request of that index; the checksum is filled in for IPv4, by the kernel for IPv6."""
        head = self.cookie + _INDEX.pack(index)
        payload = head + bytes((position & 0xFF) for position in range(self.size - len(head)))
        sequence = (self.first_sequence + index) & 0xFFFF
        kind = _REQUEST_TYPE[self.version]
        check = 0
        if self.version == 4:
            check = checksum(_ECHO.pack(kind, 0, 0, self.ident, sequence) + payload)
        return _ECHO.pack(kind, 0, check, self.ident, sequence) + payload

    def index_of_reply(self, message: bytes) -> int | None:
        """Return which request a message replies to, or None when it is no reply to this run.

        The whole of what was sent must have come back: identifier, sequence number, cookie and length.
        """
        if len(message) != HEADER_BYTES + self.size:
            return None
        kind, code, _check, ident, sequence = _ECHO.unpack_from(message)
        if kind != _REPLY_TYPE[self.version] or code != 0 or ident != self.ident:
            return None
        if message[HEADER_BYTES : HEADER_BYTES + _COOKIE_BYTES] != self.cookie:
            return None
        index: int = _INDEX.unpack_from(message, HEADER_BYTES + _COOKIE_BYTES)[0]
        if index >= self.count or (self.first_sequence + index) & 0xFFFF != sequence:
            return None
        return index

    def index_of_quoted(self, quoted: bytes) -> int | None:
        """Return which request an ICMP error quotes, or None when it is not one of this run.

        Routers need not quote more than the header (RFC 792), so the cookie is compared as far as it is there.
        """
        if len(quoted) < HEADER_BYTES:
            return None
        kind, code, _check, ident, sequence = _ECHO.unpack_from(quoted)
        if kind != _REQUEST_TYPE[self.version] or code != 0 or ident != self.ident:
            return None
        cookie = quoted[HEADER_BYTES : HEADER_BYTES + _COOKIE_BYTES]
        if cookie != self.cookie[: len(cookie)]:
            return None
        index: int = (sequence - self.first_sequence) & 0xFFFF
        return index if index < self.count else None


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def without_ip_header(packet: bytes) -> bytes | None:
    """Return the ICMP message in an IPv4 packet as raw sockets deliver it, or None when it is cut short."""
    if len(packet) < 20:
        return None
    length = (packet[0] & 0x0F) * 4
    return packet[length:] if length >= 20 and len(packet) >= length + HEADER_BYTES else None


def ip_bytes(version: int, icmp_bytes: int, mtu: int | None) -> int:
    """Return the bytes of all IP packets that carry an ICMP message, as fragments where the MTU asks for it."""
    header = 20 if version == 4 else 40
    if mtu is None or header + icmp_bytes <= mtu:
        return header + icmp_bytes
    if version == 6:
        header += 8  # each fragment carries a fragment header
    room = (mtu - header) // 8 * 8
    fragments = -(-icmp_bytes // room) if room > 0 else 1
    return icmp_bytes + fragments * header


def error_name(version: int, icmp_type: int, code: int) -> str:
    """Return the words for an ICMP error."""
    if version == 4:
        names = {3: _UNREACHABLE_V4.get(code, f"unreachable, code {code}"), 4: "source quench"}
        names[11] = "time exceeded on the way" if code == 0 else "time exceeded reassembling fragments"
        names[12] = "parameter problem"
    else:
        names = {1: _UNREACHABLE_V6.get(code, f"unreachable, code {code}"), 2: "packet too big"}
        names[3] = "hop limit exceeded on the way" if code == 0 else "time exceeded reassembling fragments"
        names[4] = "parameter problem"
    return names.get(icmp_type, f"ICMP type {icmp_type} code {code}")
