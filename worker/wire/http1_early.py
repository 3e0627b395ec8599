"""Answers in HTTP/1.1 that begin while their request is still being sent (RFC 9112, section 9.5). Pure."""

from __future__ import annotations

import re

from worker.wire.http_exchange import LONGEST_HEAD

BEGINNING = b"HTTP/1."
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})")
_HEAD_END = re.compile(rb"\n\r?\n")


class EarlyAnswer:
    """Finds in what comes while a request is being sent whether the rest of it is not wanted.

    A server may answer well and read on meanwhile, and interim answers say nothing: any other status ends the request.
    """

    def __init__(self) -> None:
        self._head = b""
        #: An answer that is not interim has begun, or what is none at all.
        self.begun = False

    def refuses(self, data: bytes) -> bool:
        """Take the next bytes; whether the rest of the request is not wanted."""
        if self.begun:
            return False
        self._head += data
        while status := _STATUS.match(self._head):
            if not status[1].startswith(b"1"):
                self.begun = True
                return not status[1].startswith(b"2")
            end = _HEAD_END.search(self._head)
            if end is None:
                break
            self._head = self._head[end.end() :]
        self.begun = not self._head.startswith(BEGINNING[: len(self._head)]) or len(self._head) > LONGEST_HEAD
        return self.begun
