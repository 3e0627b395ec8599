"""The jobs of all tests, as planning makes them, and which stretch of time each has results of."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from bench.pages.definitions import SLOW_S
from bench.swarm.world import copy_jobs
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.planning.jobs import plan
from controller.store.queries import plans

#: Places among the patterns of a kind: those before do well.
FLAKY, BROKEN, SLOWER, UNMEASURED = 12, 13, 14, 15
#: So many patterns of a kind go back for as long as results are kept, the others some days.
LONG = 4
#: Of a thousand lines, so many are like one of these.
_SHARES = {BROKEN: 3, SLOWER: 3, UNMEASURED: 2, FLAKY: 12}
#: Every line has results of three hours at least.
_LEAST_DAYS = 0.125
#: Job, the job whose results it has at its own instants, and the stretch in which it has any.
_TABLE = """
    CREATE UNLOGGED TABLE bench_lines (
        job_id bigint PRIMARY KEY, kind text NOT NULL, pattern bigint NOT NULL, place integer NOT NULL,
        interval_us bigint NOT NULL, phase_us bigint NOT NULL, shift interval NOT NULL,
        since timestamptz NOT NULL, until timestamptz NOT NULL
    )
"""
_JOBS = """
    SELECT j.id, j.kind, j.test_id, j.interval_us, j.anchor_us, j.paused, j.starts_at, j.ends_at,
        CASE WHEN w.gateway_id IS NULL THEN w.disconnected_at END
    FROM jobs j JOIN workers w ON w.id = j.worker_id WHERE j.id > %s AND NOT j.one_shot ORDER BY j.id
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A job and what is stored of it."""

    job_id: int
    kind: str
    #: The job whose results are copied for it; itself where they are made.
    pattern: int
    #: Place of that among the patterns of its kind and interval.
    place: int
    interval_us: int
    phase_us: int
    #: When its results end although it goes on; None where they do not.
    until: dt.datetime | None
    #: Its worker is connected and yet brings nothing.
    overdue: bool = False
    #: Nothing of it was due yet.
    blank: bool = False

    @property
    def per_day(self) -> int:
        """Results of a day."""
        return 86_400_000_000 // self.interval_us


def plan_tests(
    engine: Engine, connection: psycopg.Connection[Any], tests: Collection[int], *, now: dt.datetime
) -> None:
    """Make the jobs of these tests."""
    with Session(engine) as session:
        found = plans.read_tests(session, ids=tests)
        workers = plans.read_workers(session)
    known = {str(worker.id): worker for worker in workers}
    jobs = []
    for test in found:
        named = test.selection.get("workers")
        # Whom a test names is looked for by name: to ask each worker whether a test means it would take minutes.
        asked = workers if named is None else [known[worker] for worker in named]
        jobs += plan([test], asked, now=now).jobs
    copy_jobs(connection, jobs)


def pattern_lines(connection: psycopg.Connection[Any]) -> list[Line]:
    """Return the lines of the tests that were planned first, each its own pattern."""
    places: dict[int, int] = {}
    lines = []
    for job_id, kind, test_id, interval_us, anchor_us, *_ in connection.execute(
        _JOBS.encode(), (0,)
    ).fetchall():
        place = places[test_id] = places.get(test_id, -1) + 1
        lines.append(
            Line(
                job_id=job_id,
                kind=kind,
                pattern=job_id,
                place=place,
                interval_us=interval_us,
                phase_us=anchor_us % interval_us,
                until=None,
            )
        )
    return lines


def other_lines(
    connection: psycopg.Connection[Any], patterns: Sequence[Line], *, now: dt.datetime
) -> list[Line]:
    """Return all lines but the patterns: most do well, some do not, some have ended."""
    by_place = {(line.kind, line.interval_us, line.place): line.job_id for line in patterns}
    after = max(line.job_id for line in patterns)
    lines = []
    for job_id, kind, _, interval_us, anchor_us, paused, starts_at, ends_at, lost_at in connection.execute(
        _JOBS.encode(), (after,)
    ).fetchall():
        every_us = interval_us or SLOW_S * 1_000_000  # by cron, every five minutes
        number = job_id * 2_654_435_761 // 256 % 1000
        overdue = number == 500 and job_id % 3 == 0 and lost_at is None and not paused
        until = min((at for at in (lost_at, ends_at) if at is not None), default=None)
        if overdue:
            until = now - dt.timedelta(hours=2)
        elif paused:
            until = now - dt.timedelta(hours=30)
        place = _place(number)
        lines.append(
            Line(
                job_id=job_id,
                kind=kind,
                pattern=by_place[kind, every_us, place],
                place=place,
                interval_us=every_us,
                phase_us=anchor_us % every_us,
                until=until,
                overdue=overdue,
                blank=starts_at is not None and starts_at > now,
            )
        )
    return lines


def _place(number: int) -> int:
    for place, share in _SHARES.items():
        if number < share:
            return place
        number -= share
    return number % FLAKY


def note(
    connection: psycopg.Connection[Any],
    patterns: Sequence[Line],
    others: Sequence[Line],
    *,
    rows: int,
    first_day: dt.datetime,
    recent: dt.datetime,
    today: dt.datetime,
    end: dt.datetime,
) -> None:
    """Write down which results there are, `rows` of the others in all, and since when each job was planned."""
    phases = {line.job_id: line.phase_us for line in patterns}
    since = beginnings(others, rows=rows, today=today, end=end)
    assert min(since.values()) >= recent, (
        "the patterns do not go back so far: more tests would have so many results"
    )
    connection.execute(_TABLE)
    with connection.cursor() as cursor, cursor.copy("COPY bench_lines FROM STDIN") as copy:
        for line in (*patterns, *others):
            begin = since.get(line.job_id, first_day if line.place < LONG else recent)
            shift = dt.timedelta(microseconds=line.phase_us - phases[line.pattern])
            own = (line.job_id, line.kind, line.pattern, line.place, line.interval_us, line.phase_us, shift)
            copy.write_row((*own, end if line.blank else begin, line.until or "infinity"))
    connection.execute("ANALYZE bench_lines")
    connection.execute(
        "UPDATE jobs j SET created_at = l.since, updated_at = l.since FROM bench_lines l WHERE l.job_id = j.id"
    )
    note_versions(connection)
    connection.execute(
        "INSERT INTO overdue_jobs (job_id, due_at, noticed_at) SELECT job_id, until, until + interval '10 minutes' "
        "FROM bench_lines WHERE job_id = ANY(%s)",
        ([line.job_id for line in others if line.overdue],),
    )
    connection.execute("UPDATE workers SET jobs_revision = 1, jobs_applied = 1")


def note_versions(connection: psycopg.Connection[Any]) -> None:
    """Note the first versions of jobs that have none yet."""
    connection.execute(
        "INSERT INTO job_versions (job_id, version, valid_from, interval_us, anchor_us, cron, zone, windows, starts_at, ends_at, paused) "
        "SELECT id, version, created_at, interval_us, anchor_us, cron, zone, windows, starts_at, ends_at, paused FROM jobs ON CONFLICT DO NOTHING"
    )


def beginnings(
    lines: Sequence[Line], *, rows: int, today: dt.datetime, end: dt.datetime
) -> dict[int, dt.datetime]:
    """Return since when each line has results, so that all together have so many: a midnight, or a full hour of today."""
    per_day = sum(line.per_day for line in lines if not line.blank)
    days = max(rows / per_day, _LEAST_DAYS) if per_day else 0.0
    ago = days - (end - today) / dt.timedelta(days=1)
    if ago < 0:
        hour = (end - days * dt.timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
        return {line.job_id: max(today, hour) for line in lines}
    whole = math.floor(ago)
    longer = (ago - whole) * len(lines)
    return {
        line.job_id: today - dt.timedelta(days=whole + (number * 7919 % len(lines) < longer))
        for number, line in enumerate(lines)
    }
