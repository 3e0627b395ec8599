r"""Bytes in parameters that are text: what people write as `220 ` or `PING\r\n`. Pure."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:([rnt\\])|x([0-9A-Fa-f]{2}))")
_SINGLE = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}


def to_bytes(text: str) -> bytes:
    r"""Return text as UTF-8, with `\r`, `\n`, `\t`, `\\` and `\x00` to `\xff` as the single bytes they stand for."""
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode())
        parts.append(_SINGLE[match[1]] if match[1] else bytes([int(match[2], 16)]))
        end = match.end()
    parts.append(text[end:].encode())
    return b"".join(parts)
