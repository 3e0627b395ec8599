"""The ingest pipeline: batches of many workers go into one transaction, acknowledgements come after its COMMIT.

A few lanes store side by side, each in a thread of its own with its own connection, so that one packs while the
database works for another and the event loop never waits for either. A worker's batches always take the same lane,
in the order in which they came: in two lanes a later batch could be stored before an earlier one, and the watermark
would then swallow the earlier. The lanes' queues are short; when one is full, its sessions stop reading, and the
workers' spools hold what comes.

Nothing is ever dropped here. A result that can never be stored goes to the quarantine in the same transaction; what
the database cannot do now is tried again until it takes the portions or says that their session has been superseded.
What spoils a load is looked for portion by portion, then row by row, and whose portion it was is remembered for a
while, so that one worker's oddities cost the others next to nothing. What takes longer than the database allows goes
into smaller transactions, portion by portion and then piece by piece, so that no load stops its lane for good.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psycopg

from controller.gateway.asides import Asides
from controller.gateway.batches import Batch, Queue, Source
from controller.gateway.database import (
    BackOff,
    BlockingConnection,
    Database,
    Line,
    is_in_vain,
    is_out_of_time,
    is_transient,
)
from controller.gateway.isolating import load_apart
from controller.gateway.lately import Lately
from controller.gateway.loads import Load, Portion
from controller.gateway.preparing import Preparation
from controller.gateway.storing import Claimed, MissingPartitionError, Stored, store_copied, store_singly
from streamswarm.zones import DAY_US

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
#: So long after a worker has sent what spoils a load, its portions are treated with care.
_WARY_S = 300.0
#: A transaction costs as much as a few dozen results. Who has less than so many rows waits a moment for more.
_FEW_ROWS, _GATHER_S = 1_000, 0.02
#: Who has less than so many, and no rest before, waits until the last transaction of the lane began so long ago.
_SINGLE_ROWS, _APART_S = 100, 0.1
#: Work that the database has ended so often for taking too long is divided; the first time something else may have been
#: in the way.
_TIMES_OUT = 2

MakePartitions = Callable[[Collection[tuple[str, int]]], Awaitable[None]]


class InVainError(Exception):
    """What these rows meet with however often they are tried; the cause is the error itself."""


class OutOfTimeError(Exception):
    """The database has ended the work because it took longer than a transaction may."""


def _wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(kw_only=True)
class Tally:
    """What the pipeline has done since the start."""

    stored: int = 0
    #: Acknowledged and not stored: they were there already, or had been set aside before.
    repeated: int = 0
    quarantined: int = 0
    #: Acknowledged and not stored: older than the retention, or of tests or workers deleted with their data.
    expired: int = 0
    deleted: int = 0
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
        now_us: Callable[[], int] = _wall_us,
        on_stored: Callable[[set[int], set[int]], None] = lambda _tests, _one_shots: None,
        retention_days: int = 0,
        lanes: int = 2,
        most_waiting: int = 32_000,
        most_waiting_bytes: int = 16 * 2**20,
        most_rows: int = 10_000,
        most_bytes: int = 4 * 2**20,
    ) -> None:
        self.tally = Tally()
        self._lanes = [
            Lane(
                database.line(),
                make_partitions,
                now_us=now_us,
                on_stored=on_stored,
                tally=self.tally,
                retention_days=retention_days,
                queue=Queue(most_results=most_waiting, most_bytes=most_waiting_bytes),
                most_rows=most_rows,
                most_bytes=most_bytes,
            )
            for _ in range(lanes)
        ]

    @property
    def waiting(self) -> int:
        """Batches in the queues."""
        return sum(lane.queue.qsize() for lane in self._lanes)

    async def submit(self, batch: Batch) -> None:
        """Hand in a batch; waits while its lane is full."""
        await self._lanes[batch.source.worker_id.int % len(self._lanes)].queue.put(batch)

    async def run(self) -> None:
        """Store batches until cancelled; a transaction that is under way then still ends by itself."""
        try:
            await asyncio.gather(*(lane.run() for lane in self._lanes))
        finally:
            for lane in self._lanes:
                lane.close()


class Lane:
    """Stores the batches of some workers, one transaction after the other."""

    def __init__(
        self,
        line: Line,
        make_partitions: MakePartitions,
        *,
        now_us: Callable[[], int],
        on_stored: Callable[[set[int], set[int]], None],
        tally: Tally,
        retention_days: int,
        queue: Queue,
        most_rows: int,
        most_bytes: int,
    ) -> None:
        self.queue = queue
        self._line = line
        self._make_partitions = make_partitions
        #: Told after each COMMIT: tests that got results, and one-shot jobs that have run.
        self._on_stored = on_stored
        self._tally = tally
        #: A load's results, and its bytes: these bound the rows of child tables, thousands of which a result may bring.
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._preparation = Preparation(now_us=now_us, retention_days=retention_days)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest")
        #: Workers that have sent what is stored already, and those whose portions had to be stored row by row or in pieces.
        self._repeating: Lately[uuid.UUID] = Lately(_WARY_S)
        self._spoiling: Lately[uuid.UUID] = Lately(_WARY_S)
        #: Of what they have sent since nothing may be stored: the watermark would pass over the batch that failed.
        self._broken: weakref.WeakSet[Source] = weakref.WeakSet()
        self._asides = Asides()

    async def run(self) -> None:
        """Store batches until cancelled."""
        began_at = -_APART_S
        while True:
            batches = [await self.queue.get()]
            rows = self._take_more(batches)
            if rows < _FEW_ROWS:
                apart_s = began_at + _APART_S - time.monotonic() if rows < _SINGLE_ROWS else 0.0
                await asyncio.sleep(max(_GATHER_S, apart_s))
                self._take_more(batches)
            began_at = time.monotonic()
            try:
                await self._store(batches)
            except Exception:  # noqa: BLE001  whatever it is, the others' results must go on
                _log.exception("a load can neither be stored nor set aside; its sessions end")
                for batch in batches:
                    self._give_up(batch.source)

    def _take_more(self, batches: list[Batch]) -> int:
        """Add what waits in the queue, as much as goes into one load; return how many rows there are."""
        rows = sum(len(batch.seqs) for batch in batches)
        size = sum(batch.size for batch in batches)
        while (
            rows < self._most_rows
            and not self.queue.empty()
            and size + self.queue.next_size <= self._most_bytes
        ):
            batches.append(self.queue.get_nowait())
            rows += len(batches[-1].seqs)
            size += batches[-1].size
        return rows

    def close(self) -> None:
        """Take no more work; the connection closes once the thread is done with it."""
        self._thread.submit(self._line.close)
        self._thread.shutdown(wait=False)

    async def _store(self, batches: Sequence[Batch]) -> None:
        """Store these batches, however often it takes, and acknowledge them."""
        by_source: dict[int, list[Batch]] = {}
        for batch in batches:
            if batch.source not in self._broken:
                by_source.setdefault(id(batch.source), []).append(batch)
        groups = list(by_source.values())
        if not groups:
            return
        load = await self._prepare([_portion(group) for group in groups])
        claimed, broken = await self._store_load(load)
        for position, group in enumerate(groups):
            source = group[0].source
            if position in broken:
                self._give_up(source)
            elif position not in claimed:
                source.refused()
            else:
                for batch in group:
                    source.stored(batch)

    def _give_up(self, source: Source) -> None:
        self._broken.add(source)
        source.broken()

    async def _prepare(self, portions: Sequence[Portion]) -> Load:
        try:
            return await self._retrying(partial(self._preparation.load, portions=portions))
        except InVainError as error:
            _log.warning("results cannot be prepared together, and are prepared one by one: %s", error)
        return await self._retrying(partial(load_apart, self._preparation, portions=portions))

    async def _store_load(self, load: Load) -> tuple[Claimed, frozenset[int]]:
        """Store by the fastest way that the content allows; return what was claimed, and what cannot be stored at all."""
        everyone = range(len(load.portions))
        apart = [position for position in everyone if load.portions[position].worker_id in self._spoiling]
        together = [position for position in everyone if position not in apart] if apart else everyone
        claimed: set[int] = set()
        broken: set[int] = set()
        try:
            if together:
                claimed |= await self._store_together(load, together)
        except (InVainError, OutOfTimeError) as error:
            _log.info("%s; the load is stored portion by portion", error)
            apart = list(everyone)
        for position in apart:
            worker_id = load.portions[position].worker_id
            try:
                if await self._store_alone(load, position):
                    claimed.add(position)
            except InVainError:
                _log.exception("results of worker %s cannot be stored", worker_id)
                broken.add(position)
            except OutOfTimeError as error:
                _log.warning("a single result of worker %s cannot be stored in time: %s", worker_id, error)
                broken.add(position)
        return frozenset(claimed), frozenset(broken)

    async def _store_together(self, load: Load, positions: Sequence[int]) -> Claimed:
        """Store portions in one transaction, past what is stored already."""
        wary = {position for position in positions if load.portions[position].worker_id in self._repeating}
        try:
            return await self._copy(load, positions, wary)
        except InVainError as error:
            if not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise
            _log.info("%s; what is stored already is looked for", error)
        return await self._copy(load, positions, positions)

    async def _store_alone(self, load: Load, position: int) -> bool:
        """Store a portion in transactions of its own, the earlier results first; whether all of it was claimed.

        Pieces that take too long are halved. Each advances the watermark to its own last result, so that a stop between
        two of them loses nothing. A single result that takes too long raises OutOfTimeError, and none comes after it.
        """
        places = load.places(position)
        most = len(places)
        while places:
            whole = len(places) == len(load.places(position)) <= most
            piece, place = (load, position) if whole else (load.piece(places[:most]), 0)
            try:
                if not await self._store_piece(piece, place):
                    return False
            except OutOfTimeError as error:
                if most == 1:
                    raise
                most = (most + 1) // 2
                self._spoiling.add(load.portions[position].worker_id)
                _log.info("%s; the portion is stored in pieces of %s results", error, most)
            else:
                places = places[most:]
        return True

    async def _store_piece(self, load: Load, position: int) -> Claimed:
        """Store what is one transaction's, row by row if it must be."""
        try:
            return await self._copy(load, [position], [position])
        except InVainError as error:
            _log.info("%s; the portion is stored row by row", error)
        self._spoiling.add(load.portions[position].worker_id)
        stored: Stored = await self._retrying(partial(store_singly, load=load, position=position), load)
        self._count(load, stored)
        return stored.claimed

    async def _copy(self, load: Load, positions: Collection[int], wary: Collection[int]) -> Claimed:
        work = partial(store_copied, load=load, positions=positions, wary=wary)
        stored: Stored = await self._retrying(work, load)
        for position in stored.repeating:
            self._repeating.add(load.portions[position].worker_id)
        self._count(load, stored)
        return stored.claimed

    def _count(self, load: Load, done: Stored) -> None:
        """Note what a transaction has stored, and tell of it."""
        counts = self._preparation.count(load, done)
        self._tally.transactions += 1
        self._tally.stored += counts.stored
        self._tally.repeated += counts.repeated
        self._tally.quarantined += counts.asides.total()
        self._asides.tell(counts.asides)
        self._tally.expired += counts.expired.total()
        self._asides.tell_expired(counts.expired)
        self._tally.deleted += counts.deleted
        self._on_stored(counts.tests, counts.one_shots)

    async def _retrying(self, work: Callable[[BlockingConnection], _T], load: Load | None = None) -> _T:
        """Do the work until the database takes it; raises InVainError for what would come again with the same rows.

        When it stores a load, what takes too long again raises OutOfTimeError.
        """
        back_off = BackOff()
        times_out = 0
        while True:
            begun = time.monotonic()
            try:
                done = await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work)
            except MissingPartitionError:
                if load is not None:
                    await self._add_partitions(load)
            except OutOfTimeError as error:
                times_out += 1
                if load is not None and times_out == _TIMES_OUT:
                    raise
                _log.warning("results wait for the database: %s", error)
            except Exception as error:
                if is_in_vain(error):
                    raise InVainError(_told(error)) from error
                if is_transient(error):
                    _log.warning("results wait for the database: %s", error)
                else:
                    _log.exception("results cannot be stored and wait; the schema may not fit this release")
            else:
                if load is not None:
                    self._tally.last_commit_ms = (time.monotonic() - begun) * 1000
                return done
            self._tally.retries += 1
            await back_off.wait()

    def _attempt(self, work: Callable[[BlockingConnection], _T]) -> _T:
        with self._line.connection() as connection:
            begun = time.monotonic()
            try:
                return work(connection)
            except psycopg.Error as error:
                if is_out_of_time(error, lasted_s=time.monotonic() - begun):
                    raise OutOfTimeError(_told(error)) from error
                raise

    async def _add_partitions(self, load: Load) -> None:
        days = {(kind, due_us // DAY_US) for kind, due_us in load.due()}
        try:
            await self._make_partitions(days)
        except Exception as error:  # noqa: BLE001  whatever it is, the results wait and it is tried again
            _log.warning("partitions for %s days cannot be made now: %s", len(days), error)


def _portion(group: Sequence[Batch]) -> Portion:
    source = group[0].source
    return Portion(
        worker_id=source.worker_id,
        epoch=source.epoch,
        spool_id=source.spool_id,
        seqs=group[0].seqs if len(group) == 1 else [seq for batch in group for seq in batch.seqs],
        wire=group[0].wire if len(group) == 1 else [text for batch in group for text in batch.wire],
    )


def _told(error: Exception) -> str:
    return (error.diag.message_primary if isinstance(error, psycopg.Error) else "") or repr(error)
