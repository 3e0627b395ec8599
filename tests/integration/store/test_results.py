"""Reading results back: what was stored, what is missing, and nothing that was not measured."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, text, update
from sqlalchemy.orm import Session

from controller.store import partitions, results
from controller.store.entities import Destination, Job, JobVersion, Test, Worker
from controller.store.queries import charts, pages, report_figures
from controller.store.queries import results as queries
from controller.store.queries import runs as queries_of_runs
from streamswarm.v1 import probe_pb2
from streamswarm.zones import to_microseconds

DAY_S = 86_400
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
OK, FAILED, ERROR = probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED, probe_pb2.STATUS_ERROR


class Book:
    """Writes one test's jobs and their results."""

    def __init__(self, engine: Engine, name: str = "t") -> None:
        self._engine = engine
        with Session(engine) as session, session.begin():
            self.worker = Worker(name=f"berlin {name}", host_name=f"berlin-{name}", enrolled_at=func.now())
            self.destination = Destination(name=f"target {name}", address="192.0.2.1")
            self.test = Test(name=name, kind="ping", spec={}, interval_s=10)
            session.add_all([self.worker, self.destination, self.test])
            session.flush()
            self.test_id = self.test.id
            self.worker_id: uuid.UUID = self.worker.id
            self.destination_id = self.destination.id

    def job(self, kind: str = "ping", *, one_shot: bool = False, retired: bool = False) -> int:
        """Add a job and return its id."""
        with Session(self._engine) as session, session.begin():
            row = Job(
                test_id=self.test_id,
                worker_id=self.worker_id,
                destination_id=None if kind == "system" else self.destination_id,
                kind=kind,
                target="192.0.2.1",
                spec={},
                interval_us=0 if one_shot else 10_000_000,
                anchor_us=0,
                one_shot=one_shot,
                created_at=ago(90 * DAY_S),
                retired_at=NOW if retired else None,
            )
            session.add(row)
            session.flush()
            session.add(
                JobVersion(
                    job_id=row.id,
                    version=1,
                    valid_from=row.created_at,
                    valid_until=row.retired_at,
                    interval_us=row.interval_us,
                    anchor_us=to_microseconds(row.created_at),
                )
            )
            return row.id

    def result(
        self, job: int, at: dt.datetime, *, kind: str = "ping", status: int = OK, **values: Any
    ) -> None:
        """Add a result."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(results.table(kind)).values(
                    job_id=job,
                    scheduled_at=at,
                    started_at=at,
                    duration_ms=1.5,
                    job_version=1,
                    status=status,
                    **{"failure_source": 0, **values},
                )
            )


@pytest.fixture
def book(engine: Engine) -> Book:
    """A test from one worker to one destination."""
    return Book(engine)


def ago(seconds: float) -> dt.datetime:
    """Return the instant so many seconds before now."""
    return NOW - dt.timedelta(seconds=seconds)


def test_the_latest_result_of_a_line(engine: Engine, book: Book) -> None:
    """The newest run counts, a run-now's too; a line without results has none; metrics keep their names."""
    scheduled, shot = book.job(), book.job(one_shot=True, retired=True)
    book.result(scheduled, ago(20), rtt_avg_ms=1.0)
    book.result(scheduled, ago(10), status=FAILED, failure_source=2, error="no reply", loss_pct=100.0)
    book.result(shot, ago(5), rtt_avg_ms=3.0, packets_sent=3, kernel_timestamps=True)
    empty = book.job("system")
    with engine.connect() as connection:
        lines = queries.lines(connection, test_ids=[book.test_id])
        found = queries.latest(connection, lines)
    assert sorted((line.kind, line.live, line.interval_s) for line in lines) == [
        ("ping", True, 10.0),
        ("system", True, 10.0),
    ]
    by_kind = {item.line.kind: item for item in found}
    assert by_kind["system"].result is None
    assert by_kind["system"].line.job_ids == (empty,)
    assert by_kind["ping"].line.job_ids == (scheduled, shot)
    newest = by_kind["ping"].result
    assert newest is not None
    assert (newest.job_id, newest.status, newest.metrics["rtt_avg_ms"]) == (shot, "ok", 3.0)
    assert newest.metrics["kernel_timestamps"] is True
    assert newest.metrics["loss_pct"] is None


def test_a_run_of_tomorrow_is_no_latest_result(engine: Engine, book: Book) -> None:
    """A clock that was wrong for a moment does not hide how things are until then, on any page."""
    job = book.job()
    tomorrow = NOW + dt.timedelta(hours=23)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [tomorrow.date()])
    book.result(job, tomorrow, status=FAILED)
    book.result(job, ago(10), rtt_avg_ms=2.0)
    with Session(engine) as session:
        [latest] = queries.latest(session, queries.lines(session, test_ids=[book.test_id]))
        newest = pages.newest_runs(session, "ping", book.test_id, limit=1)
        failures = pages.recent_failures(session, within=dt.timedelta(minutes=15), limit=5)
        bad = pages.bad_runs(session, within=dt.timedelta(minutes=15))
        trend = pages.trends(session, {"ping": [book.test_id]}, since=ago(900), slot_s=900.0)
    assert latest.result is not None
    assert latest.result.scheduled_at == ago(10)
    assert [run.scheduled_at for run in newest] == [ago(10)]
    assert failures == ()
    assert bad.count == 0
    assert [(point.slot, point.bad) for point in trend[book.test_id].points] == [(0, 0)]


def test_trends_of_many_jobs_are_of_some_of_them(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of one worker's alone, the same each time, and told; jobs that are over or paused do not count."""
    workers, places = 8, 5
    numbers = [book.job(one_shot=True, retired=True) for _ in range(workers * places)]
    over, paused = book.job(one_shot=True, retired=True), book.job(one_shot=True, retired=True)
    with engine.begin() as connection:
        connection.execute(update(Job).where(Job.id == over).values(retired_at=ago(3 * 3600)))
        connection.execute(update(Job).where(Job.id == paused).values(paused=True))
    # As planning makes them: for one destination after the other, each time for all workers.
    for place, number in enumerate(numbers):
        book.result(number, ago(60), rtt_avg_ms=float(place % workers))

    def read(most: int) -> pages.Trend:
        monkeypatch.setattr(pages, "_MOST_OF_TRENDS", most)
        with Session(engine) as session:
            return pages.trends(session, {"ping": [book.test_id]}, since=ago(900), slot_s=901.0)[book.test_id]

    whole, some, few = read(100), read(10), read(1)
    assert (whole.jobs, whole.among, some.jobs, some.among) == (40, 40, 10, 40)
    assert [point.value for point in whole.points] == [pytest.approx((workers - 1) / 2)]
    values = {point.value for point in some.points}
    assert values.isdisjoint(map(float, range(workers))), "of several workers"
    assert read(10) == some
    assert few.points[0].value in range(workers)


def test_small_tests_leave_their_part_of_trends_to_large_ones(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test has as many jobs as any other, or all that it has; one without runs says so too."""
    monkeypatch.setattr(pages, "_MOST_OF_TRENDS", 12)
    small = Book(engine, name="small")
    for of in (book, small):
        for _ in range(30 if of is book else 2):
            of.job(one_shot=True, retired=True)
    with Session(engine) as session:
        asked = {"ping": [book.test_id, small.test_id]}
        found = pages.trends(session, asked, since=ago(900), slot_s=901.0)
    assert (found[small.test_id].jobs, found[small.test_id].among) == (2, 2)
    assert (found[book.test_id].jobs, found[book.test_id].among) == (10, 30)
    assert found[book.test_id].points == ()


def test_the_latest_result_is_found_however_old_it_is(engine: Engine, book: Book) -> None:
    """A line that ran long ago has its run; one that ran just now is not looked for in old days, run-now jobs included."""
    old, shot = book.job(), book.job(one_shot=True, retired=True)
    new, old_shot = book.job("system"), book.job("system", one_shot=True, retired=True)
    with engine.begin() as connection:
        for kind in ("ping", "system"):
            partitions.ensure_partitions(
                connection, kind, [ago(days * DAY_S).date() for days in (30, 40, 50)]
            )
    book.result(old, ago(50 * DAY_S))
    book.result(shot, ago(40 * DAY_S))
    book.result(old_shot, ago(30 * DAY_S), kind="system")
    book.result(new, ago(10), kind="system")
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute", named=True)
    def explain(*, conn: Any, cursor: Any, statement: str, parameters: Any, **_: Any) -> None:
        if "LATERAL" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    with engine.connect() as connection:
        found = queries.latest(connection, queries.lines(connection, test_ids=[book.test_id]))
    event.remove(engine, "before_cursor_execute", explain)
    assert {item.line.kind: item.result and item.result.scheduled_at for item in found} == {
        "ping": ago(40 * DAY_S),
        "system": ago(10),
    }
    of_system = [plan for plan in plans if "result_system_" in plan]
    assert of_system
    assert not any(f"result_system_{ago(30 * DAY_S):%Y_%m_%d}" in plan for plan in of_system)
    assert any(f"result_ping_{ago(40 * DAY_S):%Y_%m_%d}" in plan for plan in plans)


def test_a_metric_that_shares_a_name_with_the_envelope(engine: Engine, book: Book) -> None:
    """The status code of an HTTP answer is read under its own name and does not mix with the run's status."""
    job = book.job("http")
    book.result(job, ago(10), kind="http", http_status=204)
    with engine.connect() as connection:
        record = queries.recent(connection, "http", [job])[0]
    assert (record.status, record.metrics["status"]) == ("ok", 204)


def test_retired_lines_come_only_when_asked_for(engine: Engine, book: Book) -> None:
    """A line whose job was retired is left out, unless retired ones are wanted."""
    book.job(retired=True)
    with engine.connect() as connection:
        assert queries.lines(connection, test_ids=[book.test_id]) == ()
        (line,) = queries.lines(connection, worker_id=book.worker_id, retired=True)
    assert not line.live


def test_recent_runs_page_by_page(engine: Engine, book: Book) -> None:
    """Newest first over several jobs, with error texts; `before` goes on where the page ended."""
    first, second = book.job(), book.job(one_shot=True)
    for number in range(4):
        book.result(first, ago(10 * number))
    book.result(second, ago(15), status=ERROR, failure_source=5, error="no permission")
    with engine.connect() as connection:
        page = queries.recent(connection, "ping", [first, second], limit=3)
        rest = queries.recent(connection, "ping", [first, second], limit=3, before=page[-1].scheduled_at)
    assert [record.scheduled_at for record in page] == [ago(0), ago(10), ago(15)]
    assert [record.scheduled_at for record in rest] == [ago(20), ago(30)]
    assert (page[2].status, page[2].failure_source, page[2].error) == ("error", "vantage", "no permission")


def test_counts_by_status(engine: Engine, book: Book) -> None:
    """Runs are counted by how they ended; the range includes its start and not its end."""
    job, idle = book.job(), book.job(one_shot=True)
    for number, status in enumerate([OK, OK, FAILED, ERROR, probe_pb2.STATUS_MISSED]):
        book.result(job, ago(10 * number), status=status)
    with engine.connect() as connection:
        found = queries.counts(connection, "ping", [job, idle], start=ago(40), end=ago(0))
    assert found[job] == queries.Counts(ok=1, failed=1, error=1, missed=1)
    assert found[job].total == 4
    assert found[idle].total == 0


def test_a_raw_series_shows_its_gaps(engine: Engine, book: Book) -> None:
    """Few runs come as they are; where runs are missing, and where nothing was measured, the value is None."""
    job = book.job()
    for seconds, value in ((70, 1.0), (60, 2.0), (30, 3.0), (20, None), (10, 5.0)):
        book.result(job, ago(seconds), rtt_avg_ms=value, status=OK if value else ERROR)
    with engine.connect() as connection:
        span = {"start": ago(95), "end": NOW}
        (plan,) = queries.read_plans(connection, queries.lines(connection), **span).values()
        series = queries.series(connection, "ping", "rtt_avg_ms", [job], **span, plan=plan)
    assert series.bucket_s is None
    assert [(point.at, point.value, point.count, point.gap) for point in series.points] == [
        (ago(90), None, 0, "missing"),
        (ago(70), 1.0, 1, None),
        (ago(60), 2.0, 1, None),
        (ago(50), None, 0, "missing"),
        (ago(30), 3.0, 1, None),
        (ago(20), None, 0, None),
        (ago(10), 5.0, 1, None),
    ]


def test_a_long_series_is_binned(engine: Engine, book: Book) -> None:
    """More runs than points come as buckets with mean, extremes and count; hours without runs stay empty."""
    job = book.job()
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source, rtt_avg_ms, packets_sent, kernel_timestamps) "
                "SELECT :job, at, at, 1, 1, 1, 0, extract(second FROM at), 3, extract(second FROM at) < 30 "
                "FROM generate_series(CAST(:start AS timestamptz), CAST(:end AS timestamptz), '10 s') at "
                "WHERE at < :gap_start OR at >= :gap_end"
            ),
            {
                "job": job,
                "start": ago(36_000).replace(second=0, minute=0),
                "end": ago(0).replace(second=0, minute=0) - dt.timedelta(seconds=1),
                "gap_start": ago(18_000).replace(second=0, minute=0),
                "gap_end": ago(14_400).replace(second=0, minute=0),
            },
        )
        start, end = (ago(age).replace(second=0, minute=0) for age in (36_000, 0))
        (plan,) = queries.read_plans(connection, queries.lines(connection), start=start, end=end).values()
        binned = queries.series(connection, "ping", "rtt_avg_ms", [job], start=start, end=end, plan=plan)
        share = queries.series(connection, "ping", "kernel_timestamps", [job], start=start, end=end)
        whole = queries.series(
            connection, "ping", "packets_sent", [job], start=start, end=end, plan=plan, points=12
        )
    assert binned.bucket_s == 120
    assert 1 < len(binned.points) <= 500
    first = binned.points[0]
    assert (first.value, first.min, first.max, first.count) == (25.0, 0.0, 50.0, 12)
    empty = [point for point in binned.points if point.count == 0]
    assert len(empty) == 30
    assert all(point.value is None and point.min is None and point.gap == "missing" for point in empty)
    assert share.points[0].value == 0.5
    assert whole.bucket_s == 3600
    assert {point.value for point in whole.points} == {3.0, None}
    steps = {later.at - earlier.at for earlier, later in zip(binned.points, binned.points[1:], strict=False)}
    assert steps == {dt.timedelta(seconds=120)}


def test_values_too_small_to_be_divided_are_drawn(engine: Engine, book: Book) -> None:
    """The least that a double holds, from one worker, takes the chart of no other away."""
    job = book.job()
    book.result(job, ago(50), rtt_avg_ms=5e-324, loss_pct=4.0)
    book.result(job, ago(40), rtt_avg_ms=0.0, loss_pct=1.0)
    span = {"start": ago(3600), "end": ago(-60)}
    with Session(engine) as session:
        [line] = queries.lines(session, test_ids=[book.test_id])
        plan = queries.read_plans(session, [line], **span)[line]
        (chart,) = charts.chart_lines(
            session, {line: plan}, ["rtt_avg_ms", "loss_pct"], **span, bucket=dt.timedelta(days=1)
        )
    means = {name: [mean for mean in band.mean if mean is not None] for name, band in chart.bands.items()}
    assert means["rtt_avg_ms"] in ([0.0], [0.0, 0.0])
    assert means["loss_pct"] in ([2.5], [4.0, 1.0])


def test_what_is_no_measurement_is_read_as_not_measured(engine: Engine, book: Book) -> None:
    """Stored by an earlier release: states, lists, trends, charts, series and reports take it for nothing."""
    job = book.job()
    for number, value in enumerate((3.0, 1.5e308, 1.5e308, -1.5e308, math.nan, math.inf)):
        book.result(job, ago(60 - 10 * number), rtt_avg_ms=value, loss_pct=0.0)
    start, end = ago(900), ago(-1)
    span = {"start": start, "end": end}
    with Session(engine) as session:
        [line] = queries.lines(session, test_ids=[book.test_id])
        [latest] = queries.latest(session, [line])
        newest = pages.newest_runs(session, "ping", book.test_id, limit=9)
        trend = pages.trends(session, {"ping": [book.test_id]}, since=start, slot_s=901.0)
        runs = queries_of_runs.find(session, book.test_id, "ping").items
        raw = queries.series(session, "ping", "rtt_avg_ms", [job], **span)
        binned = queries.series(session, "ping", "rtt_avg_ms", [job], **span, points=3)
        plan = queries.read_plans(session, [line], **span)[line]
        (chart,) = charts.chart_lines(session, {line: plan}, ["rtt_avg_ms"], **span, bucket=None)
        told = report_figures.statistics(session, "ping", ["rtt_avg_ms"], [job], **span)
        [period] = report_figures.periods(
            session, "ping", "rtt_avg_ms", None, [job], **span, width=dt.timedelta(days=1)
        )
    assert latest.result is not None
    assert latest.result.metrics["rtt_avg_ms"] is None
    assert [run.value for run in newest] == [None] * 5 + [3.0]
    assert [run.metrics["rtt_avg_ms"] for run in runs] == [None] * 5 + [3.0]
    assert [point.value for point in trend[book.test_id].points] == [3.0]
    assert [point.value for point in raw.points] == [3.0] + [None] * 5
    assert {point.p99 for point in binned.points if point.count} == {3.0}
    assert list(chart.bands["rtt_avg_ms"].mean) == [3.0] + [None] * 5
    one = told["rtt_avg_ms"]
    assert (one.count, one.min, one.mean, one.median, one.p95, one.max) == (1, *[3.0] * 5)
    assert (period.mean, period.min, period.max, period.median) == (3.0,) * 4


def test_buckets_are_never_narrower_than_the_interval() -> None:
    """A bucket holds at least one run, so that an empty one is a gap; and there are never too many."""
    day = dt.timedelta(days=1)
    assert queries.bucket_width(day, points=500, interval_s=2) == dt.timedelta(seconds=300)
    assert queries.bucket_width(day, points=500, interval_s=1000) == dt.timedelta(seconds=1800)
    assert queries.bucket_width(400 * day, points=100, interval_s=None) == dt.timedelta(days=5)
    for hours in (1, 7, 24, 24 * 30, 24 * 365):
        span = dt.timedelta(hours=hours)
        assert span / queries.bucket_width(span, points=500, interval_s=None) + 1 <= 500


@pytest.mark.parametrize("metric", ["rtt", "error", "job_id", "rtt_avg_ms; DROP TABLE jobs", "", "status"])
def test_unknown_metrics_are_refused(engine: Engine, metric: str) -> None:
    """Only metrics of the contract are read: no envelope columns, no SQL."""
    with engine.connect() as connection, pytest.raises(KeyError, match="is not a metric of `ping`"):
        queries.series(connection, "ping", metric, [1], start=ago(60), end=NOW)
