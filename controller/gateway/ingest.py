"""The ingest pipeline: batches of many workers go into one transaction, acknowledgements come after its COMMIT.

One pipeline stores for all sessions of the gateway, in the order in which batches came: two at a time could put a
worker's later batch before its earlier one, and the watermark would then swallow the earlier. Its queue is short;
when it is full, sessions stop reading, and the workers' spools hold what comes.

Nothing is ever dropped here. A result that can never be stored goes to the quarantine in the same transaction;
whatever else goes wrong, the same portions are tried again until the database takes them or says that their
session has been superseded.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import psycopg

from controller.gateway.authority import utc_now
from controller.gateway.database import BackOff, Connection, Database, is_transient
from controller.gateway.ownership import Ownership
from controller.gateway.packing import UnstorableError, pack
from controller.gateway.storing import (
    Claimed,
    Entry,
    MissingPartitionError,
    Portion,
    store_copied,
    store_singly,
    store_staged,
)
from streamswarm.v1 import probe_pb2

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_DAY_US = 86_400_000_000
#: Due instants outside of this are no schedule's: a spool is emptied long before, and no run is due tomorrow.
_OLDEST_US, _NEWEST_US = 90 * _DAY_US, _DAY_US
#: Batches of fewer results than this are packed on the event loop; a thread would cost more than it spares.
_PACK_INLINE = 200

MakePartitions = Callable[[Collection[tuple[str, int]]], Awaitable[None]]


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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Results as a session received them; sequence numbers grow."""

    source: Source
    seqs: Sequence[int]
    results: Sequence[probe_pb2.Result]
    #: Bytes that the batch holds of the session's credit.
    size: int


@dataclass(kw_only=True)
class Tally:
    """What the pipeline has done since the start."""

    stored: int = 0
    quarantined: int = 0
    transactions: int = 0
    retries: int = 0
    last_commit_ms: float = 0.0


class Ingest:
    """Stores batches; `run` is its one task."""

    def __init__(
        self,
        database: Database,
        make_partitions: MakePartitions,
        *,
        on_stored: Callable[[set[int], set[int]], None] = lambda _tests, _one_shots: None,
        queue_length: int = 64,
        most_rows: int = 10_000,
    ) -> None:
        self._database = database
        self._make_partitions = make_partitions
        #: Told after each COMMIT: tests that got results, and one-shot jobs that have run.
        self._on_stored = on_stored
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(queue_length)
        self._most_rows = most_rows
        self._ownership = Ownership()
        self.tally = Tally()

    @property
    def waiting(self) -> int:
        """Batches in the queue."""
        return self._queue.qsize()

    async def submit(self, batch: Batch) -> None:
        """Hand in a batch; waits while the queue is full."""
        await self._queue.put(batch)

    async def run(self) -> None:
        """Store batches until cancelled."""
        while True:
            batches = [await self._queue.get()]
            rows = len(batches[0].seqs)
            while rows < self._most_rows and not self._queue.empty():
                batches.append(self._queue.get_nowait())
                rows += len(batches[-1].seqs)
            await self._store(batches)

    async def _store(self, batches: Sequence[Batch]) -> None:
        """Store these batches, however often it takes, and acknowledge them."""
        by_source: dict[int, list[Batch]] = {}
        for batch in batches:
            by_source.setdefault(id(batch.source), []).append(batch)
        groups = list(by_source.values())
        portions = await self._retrying(partial(self._prepare, groups=groups))
        claimed = await self._store_portions(portions)
        tests: set[int] = set()
        one_shots: set[int] = set()
        for position, group in enumerate(groups):
            if position not in claimed:
                group[0].source.refused()
                continue
            self._count(portions[position], tests, one_shots)
            for batch in group:
                batch.source.stored(batch)
        self._on_stored(tests, one_shots)

    async def _store_portions(self, portions: Sequence[Portion]) -> Claimed:
        """Store by the fastest way that the content allows: together, past duplicates, then row by row."""
        for way in (store_copied, store_staged):
            try:
                return await self._retrying(partial(way, portions=portions), portions)
            except psycopg.Error as error:
                _log.info("%s; the batch takes the slower way", error.diag.message_primary)
        claimed = set()
        for position, portion in enumerate(portions):
            try:
                found = await self._retrying(partial(store_staged, portions=[portion]), [portion])
            except psycopg.Error:
                found = await self._retrying(partial(store_singly, portion=portion), [portion])
            if found:
                claimed.add(position)
        return frozenset(claimed)

    async def _prepare(self, connection: Connection, groups: Sequence[Sequence[Batch]]) -> list[Portion]:
        """Check and pack; jobs that are not known, or do not fit, are looked up once more first."""
        self._ownership.trim()
        unknown = [
            result.job_id
            for group in groups
            for batch in group
            for result in batch.results
            if not self._ownership.fits(batch.source.worker_id, result)
        ]
        if unknown:
            await self._ownership.load(connection, unknown)
        count = sum(len(batch.seqs) for group in groups for batch in group)
        if count < _PACK_INLINE:
            return self._pack(groups)
        return await asyncio.to_thread(self._pack, groups)

    def _pack(self, groups: Sequence[Sequence[Batch]]) -> list[Portion]:
        now_us = int(utc_now().timestamp() * 1_000_000)
        return [
            Portion(
                worker_id=group[0].source.worker_id,
                epoch=group[0].source.epoch,
                spool_id=group[0].source.spool_id,
                entries=[
                    self._entry(batch.source.worker_id, seq, result, now_us)
                    for batch in group
                    for seq, result in zip(batch.seqs, batch.results, strict=True)
                ],
            )
            for group in groups
        ]

    def _entry(self, worker_id: uuid.UUID, seq: int, result: probe_pb2.Result, now_us: int) -> Entry:
        packed, fault = None, self._ownership.fault(worker_id, result)
        if fault is None and not now_us - _OLDEST_US < result.scheduled_at_us < now_us + _NEWEST_US:
            fault = "scheduled_at lies more than 90 days back or a day ahead"
        if fault is None:
            try:
                packed = pack(result)
            except UnstorableError as error:
                fault = str(error)
            except Exception as error:  # noqa: BLE001  one result that nobody foresaw must not stop all the others
                _log.exception("a result of job %s cannot be packed", result.job_id)
                fault = f"it cannot be packed: {error!r}"
        payload = b"" if packed is not None else result.SerializeToString()
        return Entry(seq=seq, packed=packed, fault=fault or "", payload=payload)

    async def _retrying(
        self, work: Callable[[Connection], Awaitable[_T]], portions: Sequence[Portion] = ()
    ) -> _T:
        """Do the work until the database takes it; an error about the rows' content is the caller's."""
        back_off = BackOff()
        while True:
            try:
                async with self._database.connection() as connection:
                    begun = time.monotonic()
                    done = await work(connection)
                self.tally.transactions += 1
                self.tally.last_commit_ms = (time.monotonic() - begun) * 1000
                return done
            except MissingPartitionError:
                await self._add_partitions(portions)
            except Exception as error:
                if is_about_content(error):
                    raise
                if is_transient(error):
                    _log.warning("results wait for the database: %s", error)
                else:
                    _log.exception("results cannot be stored and wait; the schema may not fit this release")
            self.tally.retries += 1
            await back_off.wait()

    async def _add_partitions(self, portions: Sequence[Portion]) -> None:
        days = {
            (entry.packed.kind, entry.packed.scheduled_at_us // _DAY_US)
            for portion in portions
            for entry in portion.entries
            if entry.packed is not None
        }
        try:
            await self._make_partitions(days)
        except Exception as error:  # noqa: BLE001  whatever it is, the results wait and it is tried again
            _log.warning("partitions for %s days cannot be made now: %s", len(days), error)

    def _count(self, portion: Portion, tests: set[int], one_shots: set[int]) -> None:
        for entry in portion.entries:
            if entry.packed is None:
                self.tally.quarantined += 1
                continue
            self.tally.stored += 1
            job = self._ownership.job(entry.packed.job_id)
            tests.add(job.test_id)
            if job.one_shot:
                one_shots.add(entry.packed.job_id)


def is_about_content(error: Exception) -> bool:
    """Whether the database refuses the rows for what they hold, so that trying again is in vain."""
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(
        "54"
    )  # too complex, too long
