"""Rolls results up: from a frontier onwards, and again wherever a late result has marked its bucket.

A bucket is rolled up once it is closed (`rollups.GRACE_S`), but never while a gateway's transaction is open that
began before it was closed: what comes later has marked its bucket (`controller.gateway.late`), so no result can come
behind the frontier unseen. Each step computes whole buckets from their source and writes them over what was there;
it can be cut short anywhere and done again. Transactions are short: some jobs at a time, at most a day.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.errors import DatabaseUnavailableError
from controller.store import partitions, results, rollups
from controller.store.rollups import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    LAYERS,
    Layer,
    Source,
    crowded,
    frontiers,
    statements,
)
from controller.store.rollups.frontiers import GRACE, LONGEST_STEP

_log = logging.getLogger(__name__)

#: Jobs whose buckets are computed in one transaction, and marks that are worked off in one; fewer when that takes longer
#: than a statement may.
_TOGETHER = 1000
_LESS = 4
_TIMED_OUT = "57014"
_GATEWAY = "streamswarm-gateway"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What of one job is computed: whole buckets of a layer."""

    job_id: int
    start: dt.datetime
    end: dt.datetime


@dataclass(kw_only=True)
class Rolled:
    """What was done."""

    #: Steps of the frontiers that were completed.
    steps: int = 0
    #: Marks of late results that were worked off.
    marks: int = 0


@dataclass(kw_only=True)
class _Portion:
    """How much is done in one transaction."""

    size: int

    def less(self, error: OperationalError) -> bool:
        """Take less from now on, after a statement that took too long; any other error is raised again.

        False when it cannot be less.
        """
        if getattr(error.orig, "pgcode", None) != _TIMED_OUT:
            raise error
        if self.size == 1:
            return False
        self.size = max(1, self.size // _LESS)
        _log.warning("rolling up took too long; %s at a time now", self.size)
        return True


def roll_up(engine: Engine, kind: str, *, together: int = _TOGETHER) -> Rolled:
    """Roll up everything of a kind that could be when this was called.

    `together` is how many jobs, or marks, are taken into one transaction. It becomes less by itself where the
    engine's statements would take longer than they may: a day of a thousand busy jobs is many rows.
    """
    done = Rolled()
    portion = _Portion(size=together)
    horizon = horizon_of(engine)
    with engine.begin() as connection:
        frontiers.begin(connection, kind, horizon)
        frontiers.go_back(connection, kind, horizon)
    for of in LAYERS:
        while _step(engine, kind, of, horizon, portion):
            done.steps += 1
    # Those that come meanwhile are the next round's: a worker may bring late results faster than they are worked off.
    last = _last_mark(engine, kind)
    while count := _work_off(engine, kind, portion, last):
        done.marks += count
    return done


def horizon_of(engine: Engine) -> dt.datetime:
    """Return an instant before which no open transaction of a gateway began; its own now() when there is none.

    Raises DatabaseUnavailableError when the gateways' sessions are hidden from this role.
    """
    with engine.begin() as connection:
        horizon, hidden = connection.execute(
            text(
                # Name and database of a session are shown to everybody, the rest only to its own role and readers.
                "SELECT least(now(), min(xact_start)), "
                "count(*) FILTER (WHERE query = '<insufficient privilege>') "
                "FROM pg_stat_activity WHERE datname = current_database() AND application_name = :gateway"
            ),
            {"gateway": _GATEWAY},
        ).one()
    if hidden:
        raise DatabaseUnavailableError(
            "roll-ups must see when transactions of other roles began, and PostgreSQL hides them",
            mend="let all processes use one role, or GRANT pg_read_all_stats to the keeper's",
        )
    instant: dt.datetime = horizon
    return instant


def _step(engine: Engine, kind: str, of: Layer, horizon: dt.datetime, portion: _Portion) -> bool:
    """Bring a layer's frontier forward by one step of a day at the most; False when it cannot go any further."""
    with engine.begin() as connection:
        standing = frontiers.locked(connection, kind)
        mine = standing[of.name]
        start = mine.done_until
        limit = horizon - GRACE if of.source is None else standing[of.source].done_until
        day_end = rollups.floor(start, LONGEST_STEP) + LONGEST_STEP
        end = mine.step_until or min(rollups.floor(limit, of.width), day_end)
        if end <= start:
            return False
        frontiers.move(connection, kind, of, done=start, until=end, job=mine.step_job)
        for source in rollups.sources(kind):
            partitions.ensure_months(connection, rollups.table_name(source, of), [start])
    while True:
        try:
            if _advance(engine, kind, of, start, end, portion.size):
                return True
        except OperationalError as error:
            if not portion.less(error) and not _advance_past_crowd(engine, kind, of, start, end):
                raise


def _advance_past_crowd(engine: Engine, kind: str, of: Layer, start: dt.datetime, end: dt.datetime) -> bool:
    """Compute the step for the next job alone, bucket by bucket, without those that are crowded; False when none is."""
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        jobs = _present(connection, kind, of, start, end, mine.step_job, 1)
    if mine.step_until != end or not jobs:
        return True  # another process has gone on
    [job] = jobs
    buckets = [start + number * of.width for number in range((end - start) // of.width)]
    with engine.connect() as connection:
        passed_over = [bucket for bucket in buckets if crowded.is_crowded(connection, kind, of, job, bucket)]
        wanted = not of.fast_only or bool(_fast(connection, jobs))
    if not passed_over:
        return False
    for bucket in buckets:
        if wanted and bucket not in passed_over:
            with engine.begin() as connection:
                frontiers.locked(connection, kind)
                for source in rollups.sources(kind):
                    compute(
                        connection, source, of, [Stretch(job_id=job, start=bucket, end=bucket + of.width)]
                    )
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        if mine.step_until == end and mine.step_job < job:
            frontiers.move(connection, kind, of, done=start, until=end, job=job)
    crowded.tell(kind, of, job, passed_over)
    return True


def _advance(
    engine: Engine, kind: str, of: Layer, start: dt.datetime, end: dt.datetime, together: int
) -> bool:
    """Compute the step for the next jobs; whether it is completed."""
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        if mine.step_until != end:
            return True  # another process has completed it
        jobs = _present(connection, kind, of, start, end, mine.step_job, together)
        wanted = _fast(connection, jobs) if of.fast_only else jobs
        begin = _whole_from(connection, kind, of, start)
        stretches = [Stretch(job_id=job, start=begin, end=end) for job in wanted if begin < end]
        for source in rollups.sources(kind):
            compute(connection, source, of, stretches)
        completed = len(jobs) < together
        if completed:
            frontiers.move(connection, kind, of, done=end, until=None, job=0)
        else:
            frontiers.move(connection, kind, of, done=start, until=end, job=jobs[-1])
    return completed


def _results_gone_before(connection: Connection, kind: str) -> dt.datetime | None:
    gone_before: dt.datetime | None = connection.execute(
        text("SELECT gone_before FROM expiries WHERE kind = :kind AND layer = 'raw'"), {"kind": kind}
    ).scalar_one_or_none()
    return gone_before


def _whole_from(connection: Connection, kind: str, of: Layer, start: dt.datetime) -> dt.datetime:
    """Return from where on, not before `start`, the source of a layer's buckets is whole: a frontier may have gone back."""
    gone_before = None if of.source is not None else _results_gone_before(connection, kind)
    return start if gone_before is None else max(start, rollups.ceil(gone_before, of.width))


def _present(
    connection: Connection,
    kind: str,
    of: Layer,
    start: dt.datetime,
    end: dt.datetime,
    after: int,
    most: int,
) -> list[int]:
    """Return the next jobs that have anything on the day of the step, found by hops down the key."""
    if of.source is None:
        table, column = results.table_name(kind), "scheduled_at"
        # Of the whole day: the first entry of each job meets the condition.
        start = rollups.floor(start, LONGEST_STEP)
        end = start + LONGEST_STEP
    else:
        table = rollups.table_name(Source(kind=kind, child=None), rollups.layer(of.source))
        column = "bucket"
    condition = f"{column} >= :start AND {column} < :end"
    return list(
        connection.execute(
            text(
                "WITH RECURSIVE present AS ("  # noqa: S608
                f"  (SELECT job_id FROM {table} WHERE job_id > :after AND {condition} ORDER BY job_id LIMIT 1)"
                "  UNION ALL SELECT ("
                f"    SELECT t.job_id FROM {table} t WHERE t.job_id > present.job_id AND {condition} "
                "     ORDER BY t.job_id LIMIT 1"
                "  ) FROM present WHERE present.job_id IS NOT NULL"
                ") SELECT job_id FROM present WHERE job_id IS NOT NULL LIMIT :most"
            ),
            {"after": after, "start": start, "end": end, "most": most},
        ).scalars()
    )


def _fast(connection: Connection, jobs: Sequence[int]) -> list[int]:
    """Return those jobs that run more often than once a minute."""
    return list(
        connection.execute(
            text(
                "SELECT id FROM jobs WHERE id = ANY(:jobs) AND interval_us > 0 AND interval_us < :most ORDER BY id"
            ),
            {"jobs": list(jobs), "most": rollups.FAST_S * 1_000_000},
        ).scalars()
    )


def _last_mark(engine: Engine, kind: str) -> int:
    """Return the newest mark of a kind; 0 when there is none."""
    with engine.connect() as connection:
        last: int = connection.execute(
            text("SELECT coalesce(max(id), 0) FROM dirty_buckets WHERE kind = :kind"), {"kind": kind}
        ).scalar_one()
    return last


def _work_off(engine: Engine, kind: str, portion: _Portion, last: int) -> int:
    """Work off the next marks up to the last one; return how many."""
    while True:
        try:
            return _recompute(engine, kind, portion.size, last)
        except OperationalError as error:
            if not portion.less(error) and not _forget_crowd(engine, kind):
                raise


def _forget_crowd(engine: Engine, kind: str) -> bool:
    """Remove the marks in the next one's hour where that, or its day, is crowded; False when neither is."""
    with engine.begin() as connection:
        frontiers.locked(connection, kind)
        mark = connection.execute(
            text("SELECT job_id, bucket FROM dirty_buckets WHERE kind = :kind ORDER BY id LIMIT 1"),
            {"kind": kind},
        ).one_or_none()
        if mark is None:
            return True  # another process has worked it off
        hour = rollups.floor(mark.bucket, HOUR.width)
        for of in (HOUR, DAY):
            bucket = rollups.floor(mark.bucket, of.width)
            if crowded.is_crowded(connection, kind, of, mark.job_id, bucket):
                connection.execute(
                    text(
                        "DELETE FROM dirty_buckets WHERE kind = :kind AND job_id = :job "
                        "AND bucket >= :start AND bucket < :end"
                    ),
                    {"kind": kind, "job": mark.job_id, "start": hour, "end": hour + HOUR.width},
                )
                crowded.tell(kind, of, mark.job_id, [bucket])
                return True
    return False


def _recompute(engine: Engine, kind: str, together: int, last: int) -> int:
    """Compute the buckets of some marks again and remove the marks, all in one transaction; return how many."""
    with engine.begin() as connection:
        standing = frontiers.locked(connection, kind)
        marks = connection.execute(
            text(
                "DELETE FROM dirty_buckets WHERE id IN ("
                "  SELECT id FROM dirty_buckets WHERE kind = :kind AND id <= :last ORDER BY id LIMIT :most"
                ") RETURNING job_id, bucket"
            ),
            {"kind": kind, "last": last, "most": together},
        ).all()
        gone_before = _results_gone_before(connection, kind)
        # Results that have expired are no source any more: what was computed from all of them stands.
        marked = {
            (mark.job_id, mark.bucket) for mark in marks if gone_before is None or mark.bucket >= gone_before
        }
        fast = set(_fast(connection, sorted({job for job, _ in marked})))
        for of in (FIVE_MINUTES, HOUR, DAY):
            stretches = {
                Stretch(job_id=job, start=start, end=start + of.width)
                for job, bucket in marked
                if (start := rollups.floor(bucket, of.width)) < standing[of.name].reached
                and (gone_before is None or of.source is not None or start >= gone_before)
                and (job in fast or not of.fast_only)
            }
            for source in rollups.sources(kind):
                partitions.ensure_months(
                    connection, rollups.table_name(source, of), {stretch.start for stretch in stretches}
                )
                compute(connection, source, of, sorted(stretches, key=lambda item: (item.job_id, item.start)))
    return len(marks)


def compute(connection: Connection, source: Source, of: Layer, stretches: Iterable[Stretch]) -> None:
    """Compute whole buckets of these stretches from their source and write them over what was there."""
    wanted = list(stretches)
    if not wanted:
        return
    # Figures and sketches are joined by their keys. PostgreSQL takes both for a single row and would make the sketches
    # anew for each bucket of the figures: over a minute for a thousand jobs' hour that is half a second otherwise.
    # What is walked down the key is a nested loop all the same, at a price that would have every statement compiled.
    connection.execute(text("SET LOCAL enable_nestloop = off; SET LOCAL jit = off"))
    connection.execute(
        text(statements.statement(source, of)),
        {
            "jobs": [stretch.job_id for stretch in wanted],
            "starts": [stretch.start for stretch in wanted],
            "ends": [stretch.end for stretch in wanted],
            "first": min(stretch.start for stretch in wanted),
            "last": max(stretch.end for stretch in wanted),
            "width": of.width,
        },
    )
