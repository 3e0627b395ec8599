"""ICMP and ICMPv6 echo messages and their errors: building them, counting their bytes, naming them.

References: RFC 792, RFC 4443.
"""

from __future__ import annotations

import struct

HEADER_BYTES = 8
_INDEX_BYTES = 4

REQUEST_TYPE = {4: 8, 6: 128}
REPLY_TYPE = {4: 0, 6: 129}

#: Bytes of IP packets that every link must carry (RFC 791, RFC 8200), by IP version.
SMALLEST_MTU = {4: 68, 6: 1280}

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


def request(version: int, cookie: bytes, size: int) -> bytes:
    """Return an echo request with `size` bytes of payload that begin with the cookie.

    Checksum, identifier, sequence number and the index behind the cookie are left at zero, to be filled in.
    """
    head = cookie + bytes(_INDEX_BYTES)
    padding = bytes(position & 0xFF for position in range(size - len(head)))
    return bytes([REQUEST_TYPE[version], 0]) + bytes(6) + head + padding


def internet_sum(data: bytes, order: str = "!") -> int:
    """Return the one's complement sum of the 16-bit words (RFC 1071), without complementing it.

    With the order `=` the words are taken, and the sum is, in this host's byte order.
    """
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"{order}{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


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


def next_mtu(version: int, message: bytes) -> int | None:
    """Return the MTU that an ICMP message names for the next link (RFC 1191, RFC 4443); None where it names none."""
    if version == 4 and message[:2] == b"\x03\x04":
        return int.from_bytes(message[6:8], "big") or None
    if version == 6 and message[:1] == b"\x02":
        return int.from_bytes(message[4:8], "big") or None
    return None


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
