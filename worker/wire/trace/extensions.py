"""What routers add to ICMP errors: MPLS labels and interfaces.

References: RFC 4884 (the structure), RFC 4950 (MPLS labels), RFC 5837 (interface information). What does not keep to
them is left out: an extension is an extra, and a router's mistake must not cost the hop. The result has the shape that
RIPE Atlas gives to `icmpext`, with interfaces beside the labels.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from worker.wire.icmp_messages import internet_sum

_OBJECT = struct.Struct("!HBB")
_WORD = struct.Struct("!I")
_VERSION = 2
_MPLS_CLASS, _MPLS_INCOMING_STACK = 1, 1
_INTERFACE_CLASS = 2
_ROLES = ("incoming", "sub-ip incoming", "outgoing", "next-hop")
#: Bits of an interface object's type: what it holds, in this order (RFC 5837, section 4.1).
_HAS_INDEX, _HAS_ADDRESS, _HAS_NAME, _HAS_MTU = 8, 4, 2, 1
#: Quoted bytes after which routers from before RFC 4884 put the structure, without telling so.
_OLD_QUOTE = 128


def structure(message: bytes, version: int) -> bytes | None:
    """Return the extension structure of an ICMP error, from its ICMP header on; None without one."""
    # The length of the quoted packet, in words of 4 bytes (ICMP) or 8 (ICMPv6).
    quoted = message[5] * 4 if version == 4 else message[4] * 8
    if quoted:
        found = message[8 + quoted :]
        return found if _plausible(found) else None
    found = message[8 + _OLD_QUOTE :]
    # Where nobody says that there is one, only a checksum tells it from quoted payload.
    return found if _plausible(found) and found[2:4] != b"\0\0" else None


def _plausible(found: bytes) -> bool:
    if len(found) < 8 or found[0] >> 4 != _VERSION:
        return False
    return found[2:4] == b"\0\0" or internet_sum(found) == 0xFFFF


def parse(found: bytes) -> dict[str, Any] | None:
    """Return the objects of an extension structure that are known; None when there is none of those."""
    objects: list[dict[str, Any]] = []
    at = 4
    while at + 4 <= len(found):
        length, sort, kind = _OBJECT.unpack_from(found, at)
        if length < 4 or at + length > len(found):
            break
        content = found[at + 4 : at + length]
        if (sort, kind) == (_MPLS_CLASS, _MPLS_INCOMING_STACK) and content and len(content) % 4 == 0:
            objects.append({"class": sort, "type": kind, "mpls": _labels(content)})
        elif sort == _INTERFACE_CLASS:
            interface = _interface(kind, content)
            if interface is not None:
                objects.append({"class": sort, "type": kind, "interface": interface})
        at += length
    return {"version": _VERSION, "obj": objects} if objects else None


def _labels(content: bytes) -> list[dict[str, int]]:
    return [
        {"label": word >> 12, "exp": word >> 9 & 7, "s": word >> 8 & 1, "ttl": word & 0xFF}
        for (word,) in _WORD.iter_unpack(content)
    ]


def _interface(kind: int, content: bytes) -> dict[str, Any] | None:
    interface: dict[str, Any] = {"role": _ROLES[kind >> 6]}
    at = 0
    if kind & _HAS_INDEX:
        if len(content) < 4:
            return None
        interface["index"] = _WORD.unpack_from(content)[0]
        at = 4
    if kind & _HAS_ADDRESS:
        if len(content) < at + 4:
            return None
        family = int.from_bytes(content[at : at + 2], "big")
        size = {1: 4, 2: 16}.get(family)
        if size is None or len(content) < at + 4 + size:
            return None
        interface["address"] = str(ipaddress.ip_address(content[at + 4 : at + 4 + size]))
        at += 4 + size
    if kind & _HAS_NAME:
        # The first octet is the length of the field, itself included; at most 64, a multiple of 4, padded with zeros.
        if len(content) <= at or not 1 < content[at] <= 64 or len(content) < at + content[at]:
            return None
        name = content[at + 1 : at + content[at]].rstrip(b"\0").decode("utf-8", "replace")
        interface["name"] = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
        at += content[at]
    if kind & _HAS_MTU:
        if len(content) < at + 4:
            return None
        interface["mtu"] = _WORD.unpack_from(content, at)[0]
    return interface
