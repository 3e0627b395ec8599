"""Rolls results up: from a frontier onwards, and again wherever a late result has marked its bucket.

A bucket is rolled up once it is closed (`rollups.GRACE_S`), but never while a gateway's transaction is open that
began before it was closed: what comes later has marked its bucket (`controller.gateway.late`), so no result can come
behind the frontier unseen. Each step computes whole buckets from their source and writes them over what was there;
it can be cut short anywhere and done again. Transactions are short: some jobs at a time, at most a day.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.errors import DatabaseUnavailableError
from controller.store import partitions, results, rollups
from controller.store.rollups import (
    LAYERS,
    Layer,
    Source,
    computing,
    frontiers,
    marks,
    passed_over,
)
from controller.store.rollups.computing import Stretch
from controller.store.rollups.frontiers import GRACE, LONGEST_STEP

_log = logging.getLogger(__name__)

#: Jobs whose buckets are computed in one transaction, and marks that are worked off in one; fewer when that takes longer
#: than a statement may.
_TOGETHER = 1000
_LESS = 4
_GATEWAY = "streamswarm-gateway"


@dataclass(kw_only=True)
class Rolled:
    """What was done."""

    #: Steps of the frontiers that were completed.
    steps: int = 0
    #: Marks of late results that were worked off.
    marks: int = 0


class _Advanced(Enum):
    """How far a step has come."""

    COMPLETED = "completed"
    #: There are more jobs.
    SOME = "some"
    #: There are more, and the next goes apart from others.
    ONE_APART = "one apart"


@dataclass(kw_only=True)
class _Portion:
    """How much is done in one transaction."""

    size: int

    def less(self, error: OperationalError) -> bool:
        """Take less from now on, after a statement that took too long; any other error is raised again.

        False when it cannot be less.
        """
        if not computing.timed_out(error):
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
    last = marks.last(engine, kind)
    while count := _work_off(engine, kind, portion, last):
        done.marks += count
    done.marks += marks.recompute_apart(engine, kind, last)
    passed_over.try_again(engine, kind)
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
            advanced = _advance(engine, kind, of, start, end, portion.size)
            if advanced is _Advanced.COMPLETED:
                return True
            if advanced is _Advanced.ONE_APART:
                _advance_alone(engine, kind, of, start, end)
        except OperationalError as error:
            if not portion.less(error):
                _advance_alone(engine, kind, of, start, end)


def _advance_alone(engine: Engine, kind: str, of: Layer, start: dt.datetime, end: dt.datetime) -> None:
    """Compute the step for the next job apart from others, without what takes too long even so."""
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        jobs = _present(connection, kind, of, start, end, mine.step_job, 1)
        wanted = computing.fast(connection, jobs) if of.fast_only else jobs
        if mine.step_until != end or not jobs:
            return  # another process has gone on, or nothing is left
        begin = _whole_from(connection, kind, of, start)
        stretch = Stretch(job_id=jobs[0], start=begin, end=end)
        before = passed_over.notes(connection, kind, of, stretch)
    lost = computing.compute_halving(engine, kind, of, stretch) if wanted and begin < end else []
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        if mine.step_until == end and mine.step_job < stretch.job_id:
            frontiers.move(connection, kind, of, done=start, until=end, job=stretch.job_id)
            passed_over.note(connection, kind, of, lost, instead_of=before)


def _advance(
    engine: Engine, kind: str, of: Layer, start: dt.datetime, end: dt.datetime, together: int
) -> _Advanced:
    """Compute the step for the next jobs, up to one that goes apart from others."""
    with engine.begin() as connection:
        mine = frontiers.locked(connection, kind)[of.name]
        if mine.step_until != end:
            return _Advanced.COMPLETED  # by another process
        present = _present(connection, kind, of, start, end, mine.step_job, together)
        apart = passed_over.jobs(connection, kind)
        jobs = list(takewhile(lambda job: job not in apart, present))
        wanted = computing.fast(connection, jobs) if of.fast_only else jobs
        begin = _whole_from(connection, kind, of, start)
        stretches = [Stretch(job_id=job, start=begin, end=end) for job in wanted if begin < end]
        for source in rollups.sources(kind):
            computing.compute(connection, source, of, stretches)
        if len(jobs) == len(present) < together:
            frontiers.move(connection, kind, of, done=end, until=None, job=0)
            return _Advanced.COMPLETED
        if jobs:
            frontiers.move(connection, kind, of, done=start, until=end, job=jobs[-1])
    return _Advanced.SOME if len(jobs) == len(present) else _Advanced.ONE_APART


def _whole_from(connection: Connection, kind: str, of: Layer, start: dt.datetime) -> dt.datetime:
    """Return from where on, not before `start`, the source of a layer's buckets is whole: a frontier may have gone back."""
    gone_before = None if of.source is not None else computing.results_gone_before(connection, kind)
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


def _work_off(engine: Engine, kind: str, portion: _Portion, last: int) -> int:
    """Work off the next marks up to the last one; return how many."""
    while True:
        try:
            return marks.recompute(engine, kind, portion.size, last)
        except OperationalError as error:
            if not portion.less(error):
                return marks.recompute_next(engine, kind, last)
