"""The spool as the daemon knows it: what is written, what waits, what is acknowledged, and whether there is room.

A result is in the spool when `append` returns: written and synchronised. Results that arrive within a few
milliseconds share one transaction. All file work happens in one thread, so that a slow disk never stops the loop.
The spool never drops a result by itself. When it is full, or the disk takes nothing, it says so through `refusal`;
runs are then not started, and what was missed is counted per job (`miss`), which cannot overflow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from streamswarm.v1 import probe_pb2
from worker.clock import Clock
from worker.concurrency import cancel
from worker.errors import StorageError
from worker.instants import shown_instant
from worker.spool import damage
from worker.spool.file import DamageError, SpoolFile, faults, is_unreadable
from worker.spool.gaps import Gaps, telling
from worker.spool.records import OVERHEAD, Entry, Gap, Record
from worker.spool.room import Limits, Room
from worker.used import Used

log = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a commit waits for more results to join it.
_GATHER_S = 0.003
#: Acknowledged records are deleted with the next commit, or alone after this time.
_DELETE_AFTER_S = 0.25
_LARGEST_COMMIT = 1000
#: Results that may wait in memory for a disk that takes nothing.
_LARGEST_BACKLOG = 5000
_LONGEST_RETRY_S = 10.0
#: For so long a damaged file waits for a disk that cannot be read everywhere; then what lies there is given up.
_PATIENCE_S = 300.0


class ImpossibleAckError(Exception):
    """A controller acknowledged what this spool never sent: the file is older than what the controller knows."""


class Spool:
    """The spool of one worker. `open` first, `close` last."""

    def __init__(self, path: Path, *, clock: Clock, limits: Limits | None = None) -> None:
        self._path = path
        self._clock = clock
        self._room = Room(limits or Limits())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._pending: list[tuple[Entry, asyncio.Future[int]]] = []
        self._gaps = Gaps()
        #: Whether gaps are becoming records.
        self._settling = False
        self._wake = asyncio.Event()
        self._grown = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self._records = 0
        self._bytes = 0
        self._oldest_us = 0
        self._fault = ""
        self._damage = ""
        #: Since when a damaged file waits to be replaced, by the steady clock; None for none. And whether one has taken its
        #: place that is not open yet.
        self._damaged_since_us: int | None = None
        self._fresh = False
        #: How often the file was replaced.
        self._replaced = 0
        #: Up to which number records are acknowledged, deleted and sent; the lock is for a file that takes over meanwhile.
        self._acked = 0
        self._deleted = 0
        self._sent = 0
        self._numbering = threading.Lock()
        #: Says what time it is; the daemon puts the controller's time here.
        self.now_us: Callable[[], int] = clock.wall_us

    # -- life --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, setting a damaged one aside; raises StorageError when the disk does not allow it."""
        await self._in_thread(self._open)
        if self._gaps_can_settle():
            self._wake.set()
        self._writer = asyncio.ensure_future(self._write_loop())

    async def watch(self) -> None:
        """Wait for the writing to end, which it does not while the spool is open; raises what broke it."""
        if self._writer is not None:
            await asyncio.shield(self._writer)

    async def close(self, *, timeout_s: float = 5.0) -> bool:
        """Write what waits and close the file; False when the disk did not take everything in time."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._writer), timeout_s)
            await cancel(self._writer)
        lost = [future for _, future in self._pending if not future.done()]
        for future in lost:
            future.set_exception(
                StorageError(self._fault or "the spool was closed before this could be written")
            )
            future.exception()  # whoever waits sees it; when nobody does, it is in the log below
        if lost:
            log.error(
                "%d results could not be written before the stop and are lost: %s", len(lost), self._fault
            )
        await self._in_thread(lambda: self._file.close())
        self._thread.shutdown(wait=False)
        return not lost

    # -- writing -----------------------------------------------------------------------------------------------

    async def append(self, result: probe_pb2.Result, *, used: Used | None = None) -> int:
        """Write a result, with the instants that its job has used; returns its sequence number when durable."""
        return await self._queue(result, used)

    def miss(self, result: probe_pb2.Result) -> None:
        """Keep the account of a run that did not start: as a record, or counted per job while there is no room."""
        if not self.refusal():
            self._queue(result, None)
            return
        self._gaps.count(result)
        self._wake.set()

    def refusal(self) -> str:
        """Return why no run may start now, or the empty text."""
        if self._fault:
            return self._fault
        if len(self._pending) >= _LARGEST_BACKLOG:
            return f"the disk of the spool {self._path} is too slow: {len(self._pending)} results wait to be written"
        if self._is_full():
            return (
                f"the spool is full: {self._records} results ({self._bytes // 1024} KiB) wait to be acknowledged, "
                f"the oldest of {shown_instant(self._oldest_us)}"
            )
        return ""

    @property
    def alarm(self) -> str:
        """What is wrong with the spool, for people; empty when all is well."""
        return "; ".join(text for text in (self.refusal(), self._damage) if text)

    # -- delivering --------------------------------------------------------------------------------------------

    @property
    def spool_id(self) -> str:
        return self._file.spool_id

    @property
    def next_seq(self) -> int:
        return self._file.next_seq

    @property
    def first_unacked_seq(self) -> int:
        """The oldest record not yet acknowledged, 0 when there is none."""
        first = max(self._acked, self._deleted) + 1
        return first if self._records and first < self.next_seq else 0

    @property
    def all_told(self) -> bool:
        """Whether nothing is left to be delivered: neither a record nor a gap that becomes one when there is room."""
        return not self.first_unacked_seq and not self._settling and self._gaps.empty

    @property
    def records(self) -> int:
        return self._records

    @property
    def size_bytes(self) -> int:
        return self._bytes

    async def read(self, after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
        """Return the next records in order: at most `limit` and `max_bytes`, but at least one if there is any."""
        replaced = self._replaced
        try:
            return await self._in_thread(lambda: self._read(after_seq, limit, max_bytes))
        except DamageError as error:
            reason = str(error)
        # Nothing would be taken for the end of the file as long as the disk does not allow to replace it.
        while not await self._recover(reason, replaced):
            pass
        return []

    async def wait_beyond(self, seq: int, spool_id: str) -> None:
        """Return when there is a record with a larger sequence number, or the spool is another than that one."""
        while self.next_seq <= seq + 1 and self.spool_id == spool_id:
            await self._grown.wait()

    def sent(self, seq: int) -> None:
        """Note that the records up to a sequence number have been sent in a session."""
        self._sent = max(self._sent, seq)

    def acknowledge(self, seq: int) -> None:
        """Let go of the records up to a sequence number; raises ImpossibleAckError for one that was never sent."""
        with self._numbering:
            if seq > self._sent:
                raise ImpossibleAckError(
                    f"number {seq} was acknowledged, but only {self._sent} were ever sent"
                )
            more = seq > self._acked
            self._acked = max(self._acked, seq)
        if more:
            asyncio.get_running_loop().call_later(_DELETE_AFTER_S, self._wake.set)

    async def become_another(self, reason: str) -> None:
        """Take a new spool number and keep all records, to be sent again as those of another spool."""
        self._file.renew_id()
        self._acked = self._deleted = self._sent = 0
        self._raise_damage(f"the spool takes a new number: {reason}; its results are sent again")
        self._announce()

    # -- state of the schedule ---------------------------------------------------------------------------------

    async def used(self) -> dict[int, Used]:
        """Return the due instants that each job has used."""
        return await self._or_replace(lambda: self._file.used(), {})

    async def forget_used(self, *, keep: frozenset[int], before_us: int) -> None:
        """Forget the instants of jobs that are gone and whose last run lies before an instant."""
        await self._or_replace(lambda: self._file.forget_used(keep=keep, before_us=before_us), None)

    async def remember(self, key: str, value: str) -> None:
        """Keep a small value beside the records."""
        await self._or_replace(lambda: self._file.remember(key, value), None)

    async def recall(self, key: str) -> str:
        """Return a value that was kept, or the empty text."""
        return await self._or_replace(lambda: self._file.recall(key), None) or ""

    # -- inside ------------------------------------------------------------------------------------------------

    def _queue(self, result: probe_pb2.Result, used: Used | None) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        entry = Entry(body=result.SerializeToString(), job_id=result.job_id, used=used)
        if self._closing:
            raise StorageError("the spool is being closed")
        self._pending.append((entry, future))
        self._wake.set()
        return future

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _or_replace(self, work: Callable[[], T], otherwise: T) -> T:
        """Return what comes of some work with the file; when that turns out to be damaged, of the one that takes its place."""
        for _ in range(2):
            replaced = self._replaced
            try:
                return await self._in_thread(work)
            except DamageError as error:
                reason = str(error)
            if not await self._recover(reason, replaced):
                break
        return otherwise

    async def _write_loop(self) -> None:
        failures = 0
        while True:
            if not self._closing:
                await self._wake.wait()
                await self._clock.sleep(_GATHER_S)
            self._wake.clear()
            replaced, damaged = self._replaced, ""
            try:
                await self._write_once()
            except StorageError as error:
                failures += 1
                if not self._fault:
                    log.error("%s", error)
                self._fault = str(error)
                await self._clock.sleep(min(_LONGEST_RETRY_S, 0.1 * 2.0 ** min(failures, 16)))
                self._wake.set()
                continue
            except DamageError as error:
                damaged = str(error)
            if damaged:
                await self._recover(damaged, replaced)
                self._wake.set()
                continue
            if self._fault:
                log.info("the spool can be written again")
            self._fault, failures = "", 0
            if self._pending or self._gaps_can_settle():
                self._wake.set()
            elif self._closing:
                return

    async def _write_once(self) -> None:
        batch = self._pending[:_LARGEST_COMMIT]
        gaps = self._gaps.unsaved()
        # In this order: an acknowledgement is one of the file that this number is about, or of the next.
        replaced, acked = self._replaced, self._acked
        if batch or gaps or acked > self._deleted:
            seqs, removed = await self._in_thread(
                lambda: self._commit([entry for entry, _ in batch], gaps, acked, replaced)
            )
            self._gaps.saved(gaps)
            del self._pending[: len(batch)]
            for (_, future), seq in zip(batch, seqs, strict=True):
                if not future.done():
                    future.set_result(seq)
            if seqs:
                self._announce()
            if removed or not self._oldest_us:
                await self._find_oldest()
        if self._gaps_can_settle():
            await self._settle_gaps()

    def _commit(
        self, entries: list[Entry], gaps: list[Gap], acked: int, replaced: int
    ) -> tuple[list[int], int]:
        """Write entries and gaps, and delete what was acknowledged, unless another file has begun its own numbers meanwhile.

        Returns the numbers of the entries, and how many records were deleted.
        """
        delete_to = acked if acked > self._deleted and replaced == self._replaced else 0
        removed, removed_bytes = self._file.size_to(delete_to) if delete_to else (0, 0)
        seqs = self._file.commit(entries, gaps, delete_to=delete_to)
        self._deleted = max(delete_to, self._deleted)
        self._records -= removed
        self._bytes -= removed_bytes
        self._count(entries)
        return seqs, removed

    def _count(self, entries: list[Entry]) -> None:
        """Count records that were written: in the thread, where another file with counts of its own takes over too."""
        self._records += len(entries)
        self._bytes += sum(len(entry.body) + OVERHEAD for entry in entries)

    def _gaps_can_settle(self) -> bool:
        return self._gaps.can_be_told and not self._is_full()

    async def _settle_gaps(self) -> None:
        gaps = self._gaps.take()
        entries = [telling(gap) for gap in gaps]
        self._settling = True
        try:
            await self._in_thread(lambda: self._settle(entries))
        except (StorageError, DamageError):
            self._gaps.put_back(gaps)
            raise
        finally:
            self._settling = False
        self._announce()

    def _settle(self, entries: list[Entry]) -> None:
        self._file.settle_gaps(entries)
        self._count(entries)

    def _announce(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _is_full(self) -> bool:
        age_us = self.now_us() - self._oldest_us if self._records and self._oldest_us else 0
        return self._room.is_full(self._bytes, age_us / 1e6)

    async def _find_oldest(self) -> None:
        records = await self._in_thread(lambda: self._read(self._acked, 1, 1))
        self._oldest_us = 0
        if records:
            self._oldest_us = probe_pb2.Result.FromString(records[0].body).scheduled_at_us

    def _read(self, after_seq: int, limit: int, max_bytes: int) -> list[Record]:
        records = self._file.read(after_seq, limit=limit, max_bytes=max_bytes)
        self._note_damage()
        return records

    def _open(self) -> None:
        with faults(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        damage.finish(self._path)
        damaged = self._found_damaged()
        if damaged:
            self._fresh = False
            self._replace_file(damaged, with_gaps=True)

    def _found_damaged(self) -> str:
        """Go on with the file that is there; returns what speaks against it, and lets go of all that holds it open then."""
        try:
            self._take_file(SpoolFile.open(self._path), with_gaps=True)
        except DamageError as error:
            return str(error)
        except StorageError as error:
            if not is_unreadable(error) or self._patient():
                raise
            return str(error)
        return ""

    def _patient(self) -> bool:
        """Whether a damaged file, since this was asked for the first time, still waits for a disk that can be read again."""
        now_us = self._clock.steady_us()
        if self._damaged_since_us is None:
            self._damaged_since_us = now_us
        return now_us - self._damaged_since_us < _PATIENCE_S * 1e6

    def _take_file(self, file: SpoolFile, *, with_gaps: bool) -> None:
        """Go on with a file, and with the gaps in it when none are in memory; what its reading raises leaves everything as it was."""
        try:
            records, size, first = file.totals()
            oldest = file.read(0, limit=1, max_bytes=1)
            gaps = file.gaps() if with_gaps else None
            told = file.recall(damage.TOLD)
            if told:
                file.remember(damage.TOLD, "")
        except BaseException:
            file.close()
            raise
        self._file = file
        # Nothing can be acknowledged until some of this file was sent; and, in this order, who knows its number knows no
        # acknowledgement of another.
        with self._numbering:
            self._sent = 0
            self._acked = self._deleted = max(0, first - 1)
            self._replaced += 1
        self._records, self._bytes = records, size
        self._oldest_us = probe_pb2.Result.FromString(oldest[0].body).scheduled_at_us if oldest else 0
        if gaps is not None:
            self._gaps.load(gaps)
        self._note_damage()
        if told:
            self._raise_damage(told)
        self._fresh, self._damaged_since_us = False, None

    def _replace_file(self, reason: str, *, with_gaps: bool) -> None:
        try:
            if not self._fresh:
                damage.replace(self._path, reason, patient=self._patient())
                self._fresh = True
            self._take_file(SpoolFile.open(self._path), with_gaps=with_gaps)
        except DamageError as error:
            self._fresh = False
            raise StorageError(
                f"the spool {self._path} was damaged ({reason}), and so is the file that takes its place: {error}",
                mend="the disk does not keep what is written: look at it; what can be read is tried again meanwhile",
            ) from error

    async def _recover(self, reason: str, replaced: int) -> bool:
        """Replace the file while running; what waits in memory goes to the fresh one. False when the disk does not allow it.

        Nothing is done when the file has been replaced since the damage was met: others meet it at the same time. It goes
        on to its end though who has met the damage is cancelled. Who calls this holds the error no more, which holds the
        file open and so locked.
        """
        return await asyncio.shield(asyncio.ensure_future(self._replace_once(reason, replaced)))

    async def _replace_once(self, reason: str, replaced: int) -> bool:
        def work() -> None:
            if self._replaced != replaced:
                return
            with contextlib.suppress(Exception):  # closing a broken file may fail, and it is replaced anyway
                self._file.close()
            self._replace_file(reason, with_gaps=False)

        try:
            await self._in_thread(work)
        except StorageError as error:
            log.error("%s", error)
            self._fault = str(error)
            await self._clock.sleep(1.0)
            return False
        self._fault = ""
        self._gaps.unsave()
        self._announce()
        return True

    def _note_damage(self) -> None:
        """Tell of records that reading found damaged and deleted, and count anew: in the thread, like every count."""
        if self._file.damage:
            self._raise_damage(self._file.damage)
            self._file.damage = ""
            self._records, self._bytes, _ = self._file.totals()

    def _raise_damage(self, text: str) -> None:
        log.error("%s", text)
        self._damage = text
