"""What a report tells: figures equal plain SQL, the hash can be computed again, every run is accounted for."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.reports import END, HOUR

from controller.errors import StreamSwarmError
from controller.reports.document import compose
from controller.reports.gather import gather
from controller.reports.records import Report
from controller.settings import Settings
from controller.store.commands import tests as test_commands
from controller.store.commands.audit import SYSTEM
from controller.store.entities.upkeep import RAW, Expiry
from controller.store.queries.report_rows import columns_of, query_of
from controller.store.queries.versions import SETTLING
from streamswarm import contract


def read(
    engine: Engine, ground: Any, *test_ids: int, start: dt.datetime = HOUR, end: dt.datetime = END
) -> Report:
    """Gather a report on tests."""
    return gather(engine, ground.ask(*test_ids, start=start, end=end), lambda progress: None)


@pytest.fixture
def sql(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection with nothing of ours in between."""
    with psycopg.connect(settings.database_url, options="-c timezone=UTC") as connection:
        yield connection


def test_figures_equal_plain_sql(
    engine: Engine, ground: Any, lines: dict[str, Any], sql: psycopg.Connection[Any]
) -> None:
    """Counts, extremes, means and percentiles of lines, of all lines and of the time before; worst hour included."""
    (found,) = read(engine, ground, lines["test"]).tests
    query = (
        "SELECT count(rtt_avg_ms), min(rtt_avg_ms), avg(rtt_avg_ms), "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY rtt_avg_ms), "
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY rtt_avg_ms), max(rtt_avg_ms) "
        "FROM result_ping WHERE job_id = ANY(%s) AND scheduled_at >= %s AND scheduled_at < %s"
    )

    def figures(of: Any) -> tuple[Any, ...]:
        return (of.count, of.min, of.mean, of.median, of.p95, of.max)

    before = HOUR - dt.timedelta(hours=1)
    for line, job in zip(found.lines, lines["jobs"], strict=True):
        assert figures(line.statistics) == sql.execute(query, ([job], HOUR, END)).fetchone()
        assert figures(line.previous) == sql.execute(query, ([job], before, HOUR)).fetchone()
        counts = sql.execute(
            "SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2), "
            "count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4), count(*) "
            "FROM result_ping WHERE job_id = %s AND scheduled_at >= %s AND scheduled_at < %s",
            (job, HOUR, END),
        ).fetchone()
        account = line.account
        received = (account.ok, account.failed, account.error, account.missed, account.received)
        assert received == counts
        due = len(ground.due(job, HOUR, END))
        assert (account.expected, account.beyond, account.aside) == (due, 0, 0)
        assert account.undelivered == due - account.received > 0
        assert sum(period.runs for period in line.periods) == account.received
    assert figures(found.headline) == sql.execute(query, (lines["jobs"], HOUR, END)).fetchone()
    assert {trouble.source: trouble.count for trouble in found.troubles} == dict(
        sql.execute(
            "SELECT CASE failure_source WHEN 2 THEN 'network' WHEN 5 THEN 'vantage' ELSE 'schedule' END, count(*) "
            "FROM result_ping WHERE status <> 1 AND scheduled_at >= %s AND scheduled_at < %s GROUP BY 1",
            (HOUR, END),
        ).fetchall()
    )


def test_nothing_is_compared_with_a_time_that_has_partly_expired(
    engine: Engine, ground: Any, lines: dict[str, Any]
) -> None:
    """A minute of it gone is enough: the rest would be told as if it were the whole."""
    before = HOUR - dt.timedelta(hours=1)
    for minutes, compared in ((0, True), (1, False)):
        with Session(engine) as session, session.begin():
            session.merge(Expiry(kind="ping", layer=RAW, gone_before=before + dt.timedelta(minutes=minutes)))
        found = read(engine, ground, lines["test"])
        (test,) = found.tests
        assert [test.previous is not None, *(line.previous is not None for line in test.lines)] == [
            compared
        ] * 3
        assert ("before: expired" in compose(found)) is not compared


@pytest.mark.parametrize("before", [True, False])
def test_results_that_expire_while_they_are_read_are_not_taken_for_all(
    engine: Engine, ground: Any, lines: dict[str, Any], before: bool
) -> None:
    """The look at one instant does not see it: days are removed for it too."""

    def expire(progress: str) -> None:
        with Session(engine) as session, session.begin():
            gone = HOUR - dt.timedelta(minutes=1) if before else HOUR + dt.timedelta(minutes=1)
            session.merge(Expiry(kind="ping", layer=RAW, gone_before=gone))

    asked = ground.ask(lines["test"], start=HOUR, end=END)
    if before:
        assert gather(engine, asked, expire).tests[0].previous is None
        return
    with pytest.raises(StreamSwarmError, match="have expired since the report was asked for"):
        gather(engine, asked, expire)


def cell(value: Any) -> Any:
    """Return a value as the rows that are hashed have it."""
    if isinstance(value, dt.datetime):
        return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def test_the_hash_can_be_computed_again(
    engine: Engine, ground: Any, lines: dict[str, Any], sql: psycopg.Connection[Any]
) -> None:
    """By the query that is printed, and by other code from the rows alone; each change of a row changes it."""
    (found,) = read(engine, ground, lines["test"]).tests
    printed = found.digest.query
    assert sql.execute(printed.encode()).fetchone() == (found.digest.rows, found.digest.sha256)
    names = columns_of("ping")
    rows = sql.execute(
        f"SELECT {', '.join(names)} FROM result_ping WHERE job_id = ANY(%s) AND scheduled_at >= %s "
        "AND scheduled_at < %s ORDER BY job_id, scheduled_at".encode(),
        (lines["jobs"], HOUR, END),
    ).fetchall()
    by_day: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        day = f"{row[1].astimezone(dt.UTC):%Y-%m-%d}"
        by_day.setdefault((row[0], day), []).append(
            json.dumps([cell(value) for value in row], ensure_ascii=False)
        )
    days = [
        f"{job} {day} {hashlib.sha256(chr(10).join(of_day).encode()).hexdigest()}"
        for (job, day), of_day in sorted(by_day.items())
    ]
    assert hashlib.sha256("\n".join(days).encode()).hexdigest() == found.digest.sha256
    assert found.digest.rows == len(rows)
    for change in (
        "UPDATE result_ping SET rtt_avg_ms = rtt_avg_ms + 1e-9 WHERE (job_id, scheduled_at) = (%s, %s)",
        "UPDATE result_ping SET error = coalesce(error, '') WHERE (job_id, scheduled_at) = (%s, %s)",
        "DELETE FROM result_ping WHERE (job_id, scheduled_at) = (%s, %s)",
    ):
        with sql.transaction(force_rollback=True):
            changed = sql.execute(change.encode(), rows[0][:2])
            assert changed.rowcount == 1
            again = sql.execute(printed.encode()).fetchone()
        assert again is not None
        assert again[1] != found.digest.sha256, change


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_kind_has_a_hash(kind: str, sql: psycopg.Connection[Any]) -> None:
    """Whatever the columns, the query runs; of no rows it gives the hash of nothing."""
    found = sql.execute(query_of(kind, [], start=HOUR, end=END).encode()).fetchone()
    assert found == (0, hashlib.sha256(b"").hexdigest())


def test_pauses_changes_and_runs_aside_are_accounted_for(engine: Engine, ground: Any) -> None:
    """What was due while the test was paused is not expected; "run now" is set aside; a stray run is beyond the plan."""
    worker, place = ground.worker("alpha"), ground.destination("Router", "192.0.2.1")
    test = ground.test("T", "ping", destinations=[place])
    job = ground.job(test, worker, place)
    quarter = dt.timedelta(minutes=15)
    ground.changed(test, HOUR + quarter, lambda session: test_commands.pause(session, test, actor=SYSTEM))
    ground.changed(
        test, HOUR + 2 * quarter, lambda session: test_commands.resume(session, test, actor=SYSTEM)
    )
    wanted = ground.due(job, HOUR, HOUR + quarter) + ground.due(job, HOUR + 2 * quarter, END)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 1.0} for at in wanted[:-3]])
    # Two within the pause, by the version that is paused.
    paused = ground.due(job, HOUR + quarter, HOUR + 2 * quarter)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 1.0} for at in paused[3:5]])
    once = ground.job(test, worker, place, one_shot=True, interval_us=0, anchor_us=1, retired_at=END)
    ground.runs(once, [{"at": HOUR + quarter * 1.5, "rtt_avg_ms": 999.0}])
    (found,) = read(engine, ground, test).tests
    account = found.account
    assert len(wanted) == 3 * 90
    assert (account.expected, account.undelivered, account.beyond, account.aside) == (270, 3, 2, 1)
    assert account.received == 270 - 3 + 2
    assert found.headline.max == 1.0
    assert [(stretch.start, stretch.paused) for stretch in found.stretches] == [
        (HOUR, False),
        (HOUR + quarter, True),
        (HOUR + 2 * quarter, False),
    ]


def test_a_line_is_drawn_by_what_was_due_at_the_time(engine: Engine, ground: Any) -> None:
    """An edit from 10 s to 10 min, and a pause: narrow periods, missing runs told from rests, whatever holds now."""
    worker, place = ground.worker("alpha"), ground.destination("Router", "192.0.2.1")
    test = ground.test("T", "ping", destinations=[place], created_at=HOUR - dt.timedelta(hours=3))
    job = ground.job(test, worker, place)
    minute = dt.timedelta(minutes=1)
    fast = ground.due(job, HOUR - 180 * minute, HOUR - 60 * minute)
    lost = (HOUR - 150 * minute, HOUR - 140 * minute)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 1.0} for at in fast if not lost[0] <= at < lost[1]])
    ground.changed(test, HOUR - 60 * minute, lambda session: test_commands.pause(session, test, actor=SYSTEM))

    def slower(session: Session) -> None:
        seen = test_commands.resume(session, test, actor=SYSTEM).version
        test_commands.update(session, test, {"interval_s": 600}, seen=seen, actor=SYSTEM)

    ground.changed(test, HOUR, slower)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 2.0} for at in ground.due(job, HOUR, END)])
    (found,) = read(engine, ground, test, start=HOUR - 180 * minute).tests
    assert found.width == dt.timedelta(seconds=120)
    (line,) = found.lines
    first, rest = line.gaps
    assert (first.reason, rest.reason) == ("missing", "rest")
    assert first.end_us - first.start_us == pytest.approx(600e6, abs=120e6)
    assert rest.end_us - rest.start_us >= 3500e6


def test_what_has_not_settled_is_not_counted(engine: Engine, ground: Any) -> None:
    """A report up to now ends a minute before it: what is due just now is neither expected nor received."""
    now = dt.datetime.now(dt.UTC)
    worker = ground.worker("alpha")
    test = ground.test("T", "system", created_at=now - dt.timedelta(minutes=10))
    job = ground.job(test, worker)
    ground.runs(
        job, [{"at": at, "cpu_busy_pct": 1.0} for at in ground.due(job, now - dt.timedelta(minutes=10), now)]
    )
    found = read(engine, ground, test, start=now - dt.timedelta(hours=1), end=now)
    assert found.read_at - found.end == SETTLING
    assert found.tests[0].account.undelivered == 0
    assert found.tests[0].account.expected < 60
