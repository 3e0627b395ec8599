"""Checks and packs what sessions have sent: whose jobs, when due, and into which rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError

from controller.gateway.alike import Block, Flags, pack_alike
from controller.gateway.authority import utc_now
from controller.gateway.database import BlockingConnection
from controller.gateway.loads import Load, Portion, Single, owners
from controller.gateway.ownership import Ownership
from controller.gateway.packing import UnstorableError, kind_name, pack
from controller.gateway.storing import Claimed
from streamswarm.v1 import probe_pb2

_log = logging.getLogger(__name__)

_DAY_US = 86_400_000_000
#: Due instants outside of this are no schedule's: a spool is emptied long before, and no run is due tomorrow.
_OLDEST_US, _NEWEST_US = 90 * _DAY_US, _DAY_US
_NO_RESULT = "it is no Result message"


@dataclass(kw_only=True)
class Counts:
    """What a stored load held."""

    stored: int = 0
    quarantined: int = 0
    #: Tests that got results, and one-shot jobs that have run.
    tests: set[int] = field(default_factory=set)
    one_shots: set[int] = field(default_factory=set)


class Preparation:
    """Makes loads; belongs to one thread."""

    def __init__(self) -> None:
        self._ownership = Ownership()

    def load(self, connection: BlockingConnection, portions: Sequence[Portion]) -> Load:
        """Check and pack; jobs that are not known, or do not fit, are looked up once more first."""
        self._ownership.trim()
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
        now_us = int(utc_now().timestamp() * 1_000_000)
        kept = []
        for block in blocks:
            good = _in_time(block, now_us)
            if faults:
                good &= _faultless(block, owner[block.places].tolist(), faults)
            if good.all():
                kept.append(block)
                continue
            for place in block.places[~good].tolist():
                messages[place] = _parse(wire[place])
            kept.append(block.chosen(good))
        singles = {
            place: _single(message, int(owner[place]), faults, now_us) for place, message in messages.items()
        }
        return Load(portions=portions, blocks=kept, singles=singles)

    def count(self, load: Load, claimed: Claimed) -> Counts:
        """Return what the claimed portions of a stored load held."""
        counts = Counts()
        jobs: set[int] = set()
        whole = len(claimed) == len(load.portions)
        for block in load.blocks:
            mine = block if whole else block.chosen(np.isin(load.owners[block.places], list(claimed)))
            counts.stored += len(mine)
            jobs.update(mine.job_ids.tolist())
        for place, single in load.singles.items():
            if int(load.owners[place]) not in claimed:
                continue
            if single.packed is None:
                counts.quarantined += 1
            else:
                counts.stored += 1
                jobs.add(single.packed.job_id)
        for job_id in jobs:
            job = self._ownership.job(job_id)
            counts.tests.add(job.test_id)
            if job.one_shot:
                counts.one_shots.add(job_id)
        return counts

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


def _in_time(block: Block, now_us: int) -> Flags:
    due_us = block.scheduled_at_us
    good: Flags = (due_us > now_us - _OLDEST_US) & (due_us < now_us + _NEWEST_US)
    return good


def _faultless(block: Block, positions: Sequence[int], faults: Mapping[tuple[int, int, str], str]) -> Flags:
    return np.array(
        [
            (position, job_id, block.kind) not in faults
            for position, job_id in zip(positions, block.job_ids.tolist(), strict=True)
        ],
        dtype=np.bool_,
    )


def _single(
    result: probe_pb2.Result | None, position: int, faults: Mapping[tuple[int, int, str], str], now_us: int
) -> Single:
    if result is None:
        return Single(packed=None, fault=_NO_RESULT)
    fault = faults.get((position, result.job_id, kind_name(result)), "")
    if not fault and not now_us - _OLDEST_US < result.scheduled_at_us < now_us + _NEWEST_US:
        fault = "scheduled_at lies more than 90 days back or a day ahead"
    if fault:
        return Single(packed=None, fault=fault)
    try:
        return Single(packed=pack(result))
    except UnstorableError as error:
        return Single(packed=None, fault=str(error))
    except Exception as error:  # noqa: BLE001  one result that nobody foresaw must not stop all the others
        _log.exception("a result of job %s cannot be packed", result.job_id)
        return Single(packed=None, fault=f"it cannot be packed: {error!r}")
