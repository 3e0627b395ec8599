"""Checks and packs what sessions have sent: whose jobs, when due, and into which rows."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

from controller.gateway.alike import Block, Flags, pack_alike
from controller.gateway.asides import Aside
from controller.gateway.database import BlockingConnection
from controller.gateway.loads import Load, Portion, Single, owners
from controller.gateway.ownership import OLDEST_DAYS, Ownership
from controller.gateway.packing import UnstorableError, kind_name, pack
from controller.gateway.storing import Stored
from streamswarm.v1 import probe_pb2
from streamswarm.zones import DAY_US

_log = logging.getLogger(__name__)

#: No run is due tomorrow.
_NEWEST_US = DAY_US
_NO_RESULT = "it is no Result message"
#: Acknowledged and counted, not stored and not set aside.
_EXPIRED, _DELETED = Single(packed=None, expired=True), Single(packed=None)


@dataclass(kw_only=True)
class Counts:
    """What a stored load held."""

    stored: int = 0
    #: Stored or set aside before.
    repeated: int = 0
    #: Set aside, by worker and reason.
    asides: Counter[Aside] = field(default_factory=Counter)
    #: Older than the retention, by worker.
    expired: Counter[uuid.UUID] = field(default_factory=Counter)
    #: Of tests or workers that were deleted with their data.
    deleted: int = 0
    #: Tests that got results, and one-shot jobs that have run.
    tests: set[int] = field(default_factory=set)
    one_shots: set[int] = field(default_factory=set)


class Preparation:
    """Makes loads; belongs to one thread."""

    def __init__(self, *, now_us: Callable[[], int], retention_days: int = 0) -> None:
        self._ownership = Ownership()
        #: The time by which results are too old or too far ahead, in microseconds.
        self._now_us = now_us
        #: Whole days for which results are kept; 0 is for ever.
        self._retention_days = retention_days

    def load(self, connection: BlockingConnection, portions: Sequence[Portion]) -> Load:
        """Check and pack; jobs that are not known, or do not fit, are looked up once more first."""
        self._ownership.trim()
        return self.part(connection, portions)

    def part(self, connection: BlockingConnection, portions: Sequence[Portion]) -> Load:
        """Check and pack as `load` does, without forgetting what other parts of the same load have found out."""
        wire = [text for portion in portions for text in portion.wire]
        owner = owners(portions)
        blocks, left = pack_alike(wire)
        messages = {place: _parse(wire[place]) for place in left}
        claims = {
            (position, job_id, block.kind)
            for block in blocks
            for position, job_id in zip(owner[block.places].tolist(), block.job_ids.tolist(), strict=True)
        } | {
            (int(owner[place]), message.job_id, kind_name(message))
            for place, message in messages.items()
            if message is not None
        }
        faults = self._faults(portions, claims)
        if faults:
            self._ownership.load(connection, {job_id for _, job_id, _ in faults})
            faults = self._faults(portions, faults)
        now_us = self._now_us()
        expiry_us = self._expiry_us(now_us)
        job_ids = {job_id for _, job_id, _ in claims}
        unwanted = self._ownership.deleted(job_ids)
        # Later ones are of none of these jobs too old; each of the others is judged by itself.
        oldest_us = self._ownership.oldest_us(job_ids, expiry_us)
        kept = []
        for block in blocks:
            good: Flags = (block.scheduled_at_us >= oldest_us) & (block.scheduled_at_us < now_us + _NEWEST_US)
            if unwanted:
                good &= ~np.isin(block.job_ids, list(unwanted))
            if faults:
                good &= _faultless(block, owner[block.places].tolist(), faults)
            if good.all():
                kept.append(block)
                continue
            for place in block.places[~good].tolist():
                messages[place] = _parse(wire[place])
            kept.append(block.chosen(good))
        singles = {
            place: self._single(message, int(owner[place]), faults, now_us, expiry_us, unwanted)
            for place, message in messages.items()
        }
        return Load(portions=portions, blocks=kept, singles=singles)

    def count(self, load: Load, done: Stored) -> Counts:
        """Return what the claimed portions of a stored load held."""
        counts = Counts(repeated=len(done.repeated))
        there = load.belong_to(done.claimed)
        there[list(done.refused)] = False
        new = there.copy()
        new[done.repeated] = False
        #: Of repetitions too: whoever stored them first may have ended before it could tell.
        jobs: set[int] = set()
        for block in load.blocks:
            counts.stored += int(new[block.places].sum())
            flags = there[block.places]
            jobs.update((block if flags.all() else block.chosen(flags)).job_ids.tolist())
        faults = dict(done.refused)
        for place, single in load.singles.items():
            if single.packed is not None and there[place]:
                counts.stored += int(new[place])
                jobs.add(single.packed.job_id)
            elif not new[place]:
                continue
            elif single.fault:
                faults[place] = single.fault
            else:
                if single.expired:
                    counts.expired[load.worker_id(place)] += 1
                counts.deleted += single is _DELETED
        for place, fault in faults.items():
            counts.asides[load.worker_id(place), fault] += 1
        for job_id in jobs:
            job = self._ownership.job(job_id)
            counts.tests.add(job.test_id)
            if job.one_shot:
                counts.one_shots.add(job_id)
        return counts

    def _expiry_us(self, now_us: int) -> int:
        """Return the beginning of the oldest day that is kept; keepers remove whole days."""
        if not self._retention_days:
            return int(np.iinfo(np.int64).min)
        return (now_us // DAY_US - self._retention_days) * DAY_US

    def _single(
        self,
        result: probe_pb2.Result | None,
        position: int,
        faults: Mapping[tuple[int, int, str], str],
        now_us: int,
        expiry_us: int,
        unwanted: Set[int],
    ) -> Single:
        if result is None:
            return Single(packed=None, fault=_NO_RESULT)
        fault = faults.get((position, result.job_id, kind_name(result)), "")
        if result.job_id in unwanted:
            return _DELETED  # whoever brings it: a successor on the same host may have the old spool
        if not fault and result.scheduled_at_us < self._ownership.job(result.job_id).expired_us(expiry_us):
            return _EXPIRED
        if not fault and result.scheduled_at_us < self._ownership.job(result.job_id).oldest_us:
            fault = f"scheduled_at lies more than {OLDEST_DAYS} days before the job was made"
        if not fault and result.scheduled_at_us >= now_us + _NEWEST_US:
            fault = "scheduled_at lies more than a day ahead"
        if fault:
            return Single(packed=None, fault=fault)
        try:
            return Single(packed=pack(result))
        except UnstorableError as error:
            return Single(packed=None, fault=str(error))
        except Exception as error:  # noqa: BLE001  one result that nobody foresaw must not stop all the others
            _log.exception("a result of job %s cannot be packed", result.job_id)
            return Single(packed=None, fault=f"it cannot be packed: {error!r}")

    def _faults(
        self, portions: Sequence[Portion], claims: Iterable[tuple[int, int, str]]
    ) -> dict[tuple[int, int, str], str]:
        """Return why results of such a portion, job and kind do not belong to the portion's worker."""
        found = {}
        for claim in claims:
            position, job_id, kind = claim
            fault = self._ownership.fault(portions[position].worker_id, job_id, kind)
            if fault is not None:
                found[claim] = fault
        return found


def _parse(text: bytes) -> probe_pb2.Result | None:
    try:
        return probe_pb2.Result.FromString(text)
    except DecodeError:
        return None


def _faultless(block: Block, positions: Sequence[int], faults: Mapping[tuple[int, int, str], str]) -> Flags:
    return np.array(
        [
            (position, job_id, block.kind) not in faults
            for position, job_id in zip(positions, block.job_ids.tolist(), strict=True)
        ],
        dtype=np.bool_,
    )
