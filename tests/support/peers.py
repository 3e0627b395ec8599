"""A session as the ingest pipeline sees it, which notes what becomes of its batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from controller.gateway.batches import Batch


class Peer:
    """A session as the pipeline sees it."""

    def __init__(self, worker_id: uuid.UUID) -> None:
        self.worker_id, self.epoch, self.spool_id = worker_id, 1, "spool"
        self.stored_seqs: list[int] = []
        self.endings: list[str] = []

    def stored(self, batch: Batch) -> None:
        """Note the acknowledgement."""
        self.stored_seqs += batch.seqs

    def refused(self) -> None:
        """Note the end."""
        self.endings.append("refused")

    def broken(self) -> None:
        """Note the end."""
        self.endings.append("broken")

    def batch(self, results: Sequence[Any], first_seq: int = 1) -> Batch:
        """Return results as a batch."""
        wire = [result.SerializeToString() for result in results]
        return Batch(
            source=self, seqs=range(first_seq, first_seq + len(wire)), wire=wire, size=sum(map(len, wire))
        )
