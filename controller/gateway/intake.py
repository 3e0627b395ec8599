"""What a worker may say in a session: how much at once, how much that is not stored yet, and in which order.

What costs least is looked at first: a batch is counted before it is walked through, so that one which is too large costs a
gateway no more than to take it in.
"""

from __future__ import annotations

from controller.gateway.batches import Batch, Source
from controller.gateway.credit import Credit
from controller.gateway.limits import Allowance
from streamswarm.v1.gateway_pb2 import ResultBatch

#: A session that says more than it may is read more slowly; one that goes on so for this long is ended, seconds.
_MOST_SHORT_S = 300.0


class RuleBrokenError(Exception):
    """The session cannot go on after this message; the text is the worker's to read."""


class Intake:
    """The account of one session."""

    __slots__ = ("_allowance", "_credit", "_last_seq")

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._credit = Credit()
        self._last_seq = 0

    def pay(self, results: ResultBatch | None) -> float:
        """Count a message; return for how many seconds nothing more should be read. Raises RuleBrokenError."""
        wait_s = self._allowance.take(
            results=0 if results is None else len(results.results),
            size=0 if results is None else results.ByteSize(),
        )
        if self._allowance.short_s > _MOST_SHORT_S:
            raise RuleBrokenError(
                f"more messages were sent than any worker sends, for {_MOST_SHORT_S:g} s without a rest"
            )
        return wait_s

    def batch(self, source: Source, results: ResultBatch) -> Batch:
        """Return what is to be stored, which uses up credit until `stored`. Raises RuleBrokenError."""
        if results.spool_id != source.spool_id:
            raise RuleBrokenError("results came from another spool than the one that Hello named")
        count, size = len(results.results), results.ByteSize()
        if not count or len(results.seqs) != count:
            raise RuleBrokenError("a batch must have as many sequence numbers as results, and at least one")
        if not self._credit.allows(results=count, size=size):
            raise RuleBrokenError("more was sent than the credit allows")
        for seq in results.seqs:
            if seq <= self._last_seq:
                raise RuleBrokenError(f"sequence number {seq} does not follow {self._last_seq}")
            self._last_seq = seq
        self._credit.take(results=count, size=size)
        return Batch(source=source, seqs=list(results.seqs), wire=list(results.results), size=size)

    def stored(self, batch: Batch) -> None:
        """Give the credit of a committed batch back."""
        self._credit.give_back(results=len(batch.seqs), size=batch.size)

    def settle(self) -> None:
        """Note that nothing of the session will be stored any more."""
        self._credit.settle()

    async def settled(self) -> None:
        """Wait until nothing that was read waits to be stored."""
        await self._credit.settled()
