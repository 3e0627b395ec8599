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
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, LAYERS, Layer, Source, statements

_log = logging.getLogger(__name__)

#: Jobs whose buckets are computed in one transaction, and marks that are worked off in one; fewer when that takes longer
#: than a statement may.
_TOGETHER = 1000
_LESS = 4
_TIMED_OUT = "57014"
#: A job's stretches of several hours are read whole; a day at a time.
_LONGEST_STEP = dt.timedelta(days=1)
_GRACE = dt.timedelta(seconds=rollups.GRACE_S)
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

    def less(self, error: OperationalError) -> None:
        """Take less from now on, after a statement that took too long; any other error is raised again."""
        if getattr(error.orig, "pgcode", None) != _TIMED_OUT or self.size == 1:
            raise error
        self.size = max(1, self.size // _LESS)
        _log.warning("rolling up took too long; %s at a time now", self.size)


def roll_up(engine: Engine, kind: str, *, together: int = _TOGETHER) -> Rolled:
    """Roll up everything of a kind that could be when this was called.

    `together` is how many jobs, or marks, are taken into one transaction. It becomes less by itself where the
    engine's statements would take longer than they may: a day of a thousand busy jobs is many rows.
    """
    done = Rolled()
    portion = _Portion(size=together)
    horizon = horizon_of(engine)
    with engine.begin() as connection:
        _begin(connection, kind, horizon)
        _go_back(connection, kind, horizon)
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


def _begin(connection: Connection, kind: str, horizon: dt.datetime) -> None:
    """Make the frontiers of a kind that has none yet, before its oldest result."""
    known = set(
        connection.execute(
            text("SELECT layer FROM rollup_frontiers WHERE kind = :kind"), {"kind": kind}
        ).scalars()
    )
    missing = [of for of in LAYERS if of.name not in known]
    if not missing:
        return
    first = _oldest(connection, kind) or horizon - _GRACE
    for of in missing:
        connection.execute(
            text(
                "INSERT INTO rollup_frontiers (kind, layer, done_until) VALUES (:kind, :layer, :until) "
                "ON CONFLICT DO NOTHING"
            ),
            {"kind": kind, "layer": of.name, "until": rollups.floor(first, of.width)},
        )


def _go_back(connection: Connection, kind: str, horizon: dt.datetime) -> None:
    """Let frontiers that lie ahead of the time go back by a day: the database's clock had jumped, and was set back.

    What comes now lies behind them and yet in open buckets, so it marks nothing.
    """
    frontiers = _frontiers(connection, kind)
    if max(frontiers[of.name].reached for of in LAYERS) <= horizon:
        return
    _log.warning("the database's clock was set back: a day of %s is rolled up again", kind)
    for of in LAYERS:
        back = rollups.floor(horizon - _LONGEST_STEP, of.width)
        _update(connection, kind, of, done=min(frontiers[of.name].done_until, back), until=None, job=0)


def _oldest(connection: Connection, kind: str) -> dt.datetime | None:
    """Return the beginning of the first day that has results."""
    for name in partitions.attached(connection, results.table_name(kind)):
        if connection.execute(text(f"SELECT EXISTS (SELECT FROM {name})")).scalar_one():  # noqa: S608
            return dt.datetime.combine(partitions.day_of(name), dt.time(), dt.UTC)
    return None


@dataclass(frozen=True, kw_only=True)
class _Frontier:
    done_until: dt.datetime
    #: None between steps.
    step_until: dt.datetime | None
    step_job: int

    @property
    def reached(self) -> dt.datetime:
        """What lies behind may have been computed; what lies beyond will be."""
        return self.step_until or self.done_until


def _frontiers(connection: Connection, kind: str) -> dict[str, _Frontier]:
    """Lock and return the frontiers of a kind, so that only one process rolls it up at a time."""
    rows = connection.execute(
        text(
            "SELECT layer, done_until, step_until, step_job FROM rollup_frontiers WHERE kind = :kind "
            "ORDER BY layer FOR UPDATE"
        ),
        {"kind": kind},
    )
    return {
        row.layer: _Frontier(done_until=row.done_until, step_until=row.step_until, step_job=row.step_job)
        for row in rows
    }


def _step(engine: Engine, kind: str, of: Layer, horizon: dt.datetime, portion: _Portion) -> bool:
    """Bring a layer's frontier forward by one step of a day at the most; False when it cannot go any further."""
    with engine.begin() as connection:
        frontiers = _frontiers(connection, kind)
        mine = frontiers[of.name]
        start = mine.done_until
        limit = horizon - _GRACE if of.source is None else frontiers[of.source].done_until
        day_end = rollups.floor(start, _LONGEST_STEP) + _LONGEST_STEP
        end = mine.step_until or min(rollups.floor(limit, of.width), day_end)
        if end <= start:
            return False
        _update(connection, kind, of, done=start, until=end, job=mine.step_job)
        for source in rollups.sources(kind):
            partitions.ensure_months(connection, rollups.table_name(source, of), [start])
    while True:
        try:
            if _advance(engine, kind, of, start, end, portion.size):
                return True
        except OperationalError as error:
            portion.less(error)


def _advance(
    engine: Engine, kind: str, of: Layer, start: dt.datetime, end: dt.datetime, together: int
) -> bool:
    """Compute the step for the next jobs; whether it is completed."""
    with engine.begin() as connection:
        mine = _frontiers(connection, kind)[of.name]
        if mine.step_until != end:
            return True  # another process has completed it
        jobs = _present(connection, kind, of, start, end, mine.step_job, together)
        wanted = _fast(connection, jobs) if of.fast_only else jobs
        stretches = [Stretch(job_id=job, start=start, end=end) for job in wanted]
        for source in rollups.sources(kind):
            compute(connection, source, of, stretches)
        completed = len(jobs) < together
        if completed:
            _update(connection, kind, of, done=end, until=None, job=0)
        else:
            _update(connection, kind, of, done=start, until=end, job=jobs[-1])
    return completed


def _update(
    connection: Connection, kind: str, of: Layer, *, done: dt.datetime, until: dt.datetime | None, job: int
) -> None:
    connection.execute(
        text(
            "UPDATE rollup_frontiers SET done_until = :done, step_until = :until, step_job = :job "
            "WHERE kind = :kind AND layer = :layer"
        ),
        {"kind": kind, "layer": of.name, "done": done, "until": until, "job": job},
    )


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
        start = rollups.floor(start, _LONGEST_STEP)
        end = start + _LONGEST_STEP
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
        return connection.execute(
            text("SELECT coalesce(max(id), 0) FROM dirty_buckets WHERE kind = :kind"), {"kind": kind}
        ).scalar_one()


def _work_off(engine: Engine, kind: str, portion: _Portion, last: int) -> int:
    """Work off the next marks up to the last one; return how many."""
    while True:
        try:
            return _recompute(engine, kind, portion.size, last)
        except OperationalError as error:
            portion.less(error)


def _recompute(engine: Engine, kind: str, together: int, last: int) -> int:
    """Compute the buckets of some marks again and remove the marks, all in one transaction; return how many."""
    with engine.begin() as connection:
        frontiers = _frontiers(connection, kind)
        marks = connection.execute(
            text(
                "DELETE FROM dirty_buckets WHERE id IN ("
                "  SELECT id FROM dirty_buckets WHERE kind = :kind AND id <= :last ORDER BY id LIMIT :most"
                ") RETURNING job_id, bucket"
            ),
            {"kind": kind, "last": last, "most": together},
        ).all()
        gone_before = connection.execute(
            text("SELECT gone_before FROM expiries WHERE kind = :kind AND layer = 'raw'"), {"kind": kind}
        ).scalar_one_or_none()
        # Results that have expired are no source any more: what was computed from all of them stands.
        marked = {
            (mark.job_id, mark.bucket) for mark in marks if gone_before is None or mark.bucket >= gone_before
        }
        fast = set(_fast(connection, sorted({job for job, _ in marked})))
        for of in (FIVE_MINUTES, HOUR, DAY):
            stretches = {
                Stretch(job_id=job, start=start, end=start + of.width)
                for job, bucket in marked
                if (start := rollups.floor(bucket, of.width)) < frontiers[of.name].reached
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
