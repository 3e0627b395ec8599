"""What sessions hand to the ingest pipeline, and where it waits."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Source(Protocol):
    """A session, as the pipeline sees it."""

    @property
    def worker_id(self) -> uuid.UUID:
        """Whose results these are."""

    @property
    def epoch(self) -> int:
        """Under which session they came."""

    @property
    def spool_id(self) -> str:
        """The spool whose numbers they carry."""

    def stored(self, batch: Batch) -> None:
        """The batch is committed: acknowledge it."""

    def refused(self) -> None:
        """The session is not the worker's newest, or the worker is revoked: end it."""

    def broken(self) -> None:
        """A batch can neither be stored nor set aside: end the session, acknowledge nothing."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Results as a session received them; sequence numbers grow."""

    source: Source
    seqs: Sequence[int]
    #: Result messages as they came.
    wire: Sequence[bytes]
    #: Bytes that the batch holds of the session's credit.
    size: int


class Queue(asyncio.Queue[Batch]):
    """Batches that wait; full when they hold so many results or bytes, since their number says little."""

    def __init__(self, *, most_results: int, most_bytes: int) -> None:
        super().__init__()
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._results = 0
        self._bytes = 0

    def full(self) -> bool:
        """Whether whoever has more must wait."""
        return self._results >= self._most_results or self._bytes >= self._most_bytes

    @property
    def next_size(self) -> int:
        """Bytes of the batch that is next; there must be one."""
        size: int = self._queue[0].size  # type: ignore[attr-defined]
        return size

    def get_nowait(self) -> Batch:
        """Return the next batch, and let as many of those who wait put theirs as could find room in its place."""
        batch = super().get_nowait()  # which wakes one of them
        for _ in batch.seqs[1:]:
            self._wakeup_next(self._putters)  # type: ignore[attr-defined]
        return batch

    def _put(self, item: Batch) -> None:
        super()._put(item)
        self._results += len(item.seqs)
        self._bytes += item.size

    def _get(self) -> Batch:
        batch = super()._get()
        self._results -= len(batch.seqs)
        self._bytes -= batch.size
        return batch
