"""What a run has moved over its connections, and the most that it may: see Need. Pure."""

from __future__ import annotations


class SpentError(Exception):
    """A run has moved all that it may; the message says how much that is."""


class Volume:
    """Bytes of all connections and datagram exchanges of one run; headers of TCP, UDP and IP are not counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.sent = 0
        self.received = 0

    def room(self, size: int) -> int:
        """Return how much of `size` bytes may be moved now; raises SpentError when that is nothing."""
        left = self._most - self.sent - self.received
        if left <= 0 < size:
            raise SpentError(f"this run has moved {self._most} bytes, the most that the test's limits allow")
        return min(size, left)
