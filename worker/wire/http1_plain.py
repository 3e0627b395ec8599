"""Answers in HTTP/1.1 as nearly all are that tests ask for: short ones, whole in what was read first.

Only what leaves no question of interpretation is taken: a status line and field lines of printable ASCII (RFC 9112,
sections 4 and 5), exactly one Content-Length, and as many bytes after the head. Everything else is for the library,
which costs several times as much.
"""

from __future__ import annotations

import re

from worker.wire.http_exchange import MOST_FIELDS, Exchange

_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [ -~]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+)\r\n"
)
#: Their answers have no body, whatever Content-Length says (RFC 9112, section 6.3).
_NO_BODY_METHODS = {"HEAD", "CONNECT"}
_NO_BODY_STATUS = {204, 304}
_MOST_DIGITS = 9


def take(data: bytes, method: str, exchange: Exchange) -> bytes | None:
    """Fill in the head of the answer to a request and return its body; None, and nothing is filled in, for any other."""
    match = _HEAD.match(data)
    if match is None or method in _NO_BODY_METHODS:
        return None
    lines = match[2].decode("ascii").splitlines()
    if len(lines) > MOST_FIELDS:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length", "")
    status = int(match[1])
    if not length.isdecimal() or len(length) > _MOST_DIGITS or "transfer-encoding" in headers:
        return None
    if len(data) - match.end() != int(length) or status in _NO_BODY_STATUS:
        return None
    exchange.version, exchange.status, exchange.headers = 1.1, status, headers
    return data[match.end() :]


def closes(exchange: Exchange) -> bool:
    """Say whether the server closes the connection after its answer (RFC 9112, section 9.6)."""
    options = exchange.headers.get("connection", "").lower().split(",")
    return any(option.strip() == "close" for option in options)
