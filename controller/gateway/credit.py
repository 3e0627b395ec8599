"""What a worker may have on its way: results of a session that are read and not stored yet."""

from __future__ import annotations

import asyncio

#: What a worker may have unacknowledged: results, and bytes of the batches that carry them.
CREDIT_RESULTS = 1_000
CREDIT_BYTES = 1_048_576
#: Framing that a worker does not count, for a thousand batches of one result.
_SLACK_BYTES = 65_536


class Credit:
    """The account of one session."""

    __slots__ = ("_bytes", "_results", "_settled")

    def __init__(self) -> None:
        self._results = 0
        self._bytes = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def allows(self, *, results: int, size: int) -> bool:
        """Whether a batch is within the credit. A single one may have more bytes than all of it."""
        too_large = self._bytes + size > CREDIT_BYTES + _SLACK_BYTES and self._bytes > 0
        return self._results + results <= CREDIT_RESULTS and not too_large

    def take(self, *, results: int, size: int) -> None:
        """Count a batch."""
        self._results += results
        self._bytes += size
        self._settled.clear()

    def give_back(self, *, results: int, size: int) -> None:
        """Note that a batch is stored."""
        self._results -= results
        self._bytes -= size
        if self._results == 0:
            self._settled.set()

    def settle(self) -> None:
        """Note that nothing of the session will be stored any more."""
        self._settled.set()

    async def settled(self) -> None:
        """Wait until nothing that was read waits to be stored."""
        await self._settled.wait()
