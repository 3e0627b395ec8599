"""Writes small databases in MaxMind's format, version 2.0 (https://maxmind.github.io/MaxMind-DB/), for tests."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MARKER = b"\xab\xcd\xefMaxMind.com"


def write(path: Path, entries: Mapping[str, Any], *, version: int = 6) -> None:
    """Write a database with an entry for each network."""
    nodes: list[list[Any]] = [[None, None]]
    for text, entry in entries.items():
        network = ipaddress.ip_network(text)
        bits = format(int(network.network_address), f"0{network.max_prefixlen}b")[: network.prefixlen]
        if version == 6 and network.version == 4:
            bits = "0" * 96 + bits
        at = 0
        for bit in bits[:-1]:
            if nodes[at][int(bit)] is None:
                nodes.append([None, None])
                nodes[at][int(bit)] = len(nodes) - 1
            at = nodes[at][int(bit)]
        nodes[at][int(bits[-1])] = _Leaf(entry)
    data = b""
    tree = b""
    for node in nodes:
        for record in node:
            if isinstance(record, _Leaf):
                value = len(nodes) + 16 + len(data)
                data += _encode(record.entry)
            else:
                value = len(nodes) if record is None else record
            tree += value.to_bytes(3, "big")
    about = {
        "node_count": len(nodes), "record_size": 24, "ip_version": version, "database_type": "Test", "languages": ["en"],
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1, "description": {"en": "test"},
    }  # fmt: skip
    path.write_bytes(tree + bytes(16) + data + _MARKER + _encode(about))


class _Leaf:
    def __init__(self, entry: Any) -> None:
        self.entry = entry


def _encode(value: Any) -> bytes:
    if isinstance(value, dict):
        return _control(7, len(value)) + b"".join(_encode(key) + _encode(item) for key, item in value.items())
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encode, value))
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _control(3, 8) + struct.pack("!d", value)
    number = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(6, len(number)) + number


def _control(kind: int, size: int) -> bytes:
    small = size if size < 29 else 29
    head = bytes([kind << 5 | small]) if kind < 8 else bytes([small, kind - 7])
    return head + (b"" if size < 29 else bytes([size - 29]))
