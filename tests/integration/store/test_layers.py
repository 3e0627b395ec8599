"""Figures from roll-ups equal those from the results, whatever is rolled up and however a range lies."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from controller.store import partitions, results, rollups
from controller.store.entities import Job, Test, Worker
from controller.store.queries import charts, figures, layers
from controller.store.queries.results import Line, Plan, series
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, LAYERS, Source, rolling
from streamswarm.v1 import probe_pb2

PING = Source(kind="ping", child=None)
START = rollups.floor(dt.datetime.now(dt.UTC), DAY.width) - 3 * DAY.width
METRICS = ["rtt_avg_ms", "loss_pct"]
WIDTHS = [dt.timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 120, 360, 1440, 2880)]


@pytest.fixture
def jobs(engine: Engine) -> tuple[int, int]:
    """A fast and a slow job with some days of runs, gaps among them; the fast one was slow at first."""
    chance = random.Random(11)
    found = []
    with Session(engine) as session, session.begin():
        worker = Worker(name="berlin", host_name="berlin")
        session.add(worker)
        session.flush()
        for interval_s in (30, 120):
            test = Test(name=f"every {interval_s} s", kind="ping", spec={}, interval_s=interval_s)
            session.add(test)
            session.flush()
            job = Job(
                test_id=test.id,
                worker_id=worker.id,
                kind="ping",
                spec={},
                interval_us=interval_s * 1_000_000,
                anchor_us=0,
                target="192.0.2.1",
            )
            session.add(job)
            session.flush()
            found.append(job.id)
    with engine.begin() as connection:
        for day in range(4):
            partitions.ensure_partitions(connection, "ping", [(START + day * DAY.width).date()])
        for job, step in zip(found, (30, 120), strict=True):
            rows = []
            for second in range(0, 2 * 86_400 + 40_000, step):
                if 30_000 < second < 40_000 or chance.random() < 0.02:
                    continue
                good = not 50_000 < second < 54_100
                at = START + dt.timedelta(seconds=second)
                rows.append(
                    {
                        "job_id": job,
                        "scheduled_at": at,
                        "started_at": at,
                        "duration_ms": 1.0,
                        "job_version": 1,
                        "status": probe_pb2.STATUS_OK if good else chance.choice([2, 3, 4]),
                        "failure_source": 0,
                        "rtt_avg_ms": chance.lognormvariate(2, 0.5) if good else None,
                        "loss_pct": float(chance.choice([0, 33])),
                    }
                )
            connection.execute(insert(results.table("ping")), rows)
    return found[0], found[1]


def read(engine: Engine, jobs: Any, start: dt.datetime, end: dt.datetime, width: dt.timedelta) -> Any:
    """Read both metrics."""
    with engine.connect() as connection:
        return figures.buckets(
            connection, PING, METRICS, jobs, start=start, end=end, width=width, percentiles=True
        )


def same(found: Any, plain: Any) -> None:
    """Fail unless counts, minima and maxima are equal, means but for rounding, percentiles within their error."""
    assert [bucket.start for bucket in found] == [bucket.start for bucket in plain]
    for ours, theirs in zip(found, plain, strict=True):
        assert (ours.ok, ours.failed, ours.error, ours.missed) == (
            theirs.ok,
            theirs.failed,
            theirs.error,
            theirs.missed,
        )
        for metric in METRICS:
            mine, other = ours.figures[metric], theirs.figures[metric]
            assert (mine.count, mine.min, mine.max) == (other.count, other.min, other.max)
            assert mine.mean == (None if other.mean is None else pytest.approx(other.mean, rel=1e-12))
            assert mine.percentiles == pytest.approx(other.percentiles, rel=0.0101)


def test_figures_are_the_same_from_every_layer(engine: Engine, jobs: tuple[int, int]) -> None:
    """Ranges and widths of all sorts, before and after rolling up; the first are computed from results alone."""
    chance = random.Random(3)
    ranges = [(START, START + 3 * DAY.width), (START + HOUR.width, START + 5 * HOUR.width)]
    for _ in range(6):
        first = START + dt.timedelta(seconds=chance.randrange(150_000))
        ranges.append((first, first + dt.timedelta(seconds=chance.randrange(1, 100_000))))
    asked = [
        (wanted, start, end, width)
        for start, end in ranges
        for width in WIDTHS
        for wanted in ([jobs[0]], [jobs[1]], list(jobs))
    ]
    plain = [read(engine, *question) for question in asked]
    rolling.roll_up(engine, "ping")
    for question, answer in zip(asked, plain, strict=True):
        same(read(engine, *question), answer)


def test_a_bucket_of_failures_has_no_latency(engine: Engine, jobs: tuple[int, int]) -> None:
    """Where runs failed there is a point that says so and no value; where there was no run there is no point."""
    rolling.roll_up(engine, "ping")
    found = {bucket.start: bucket for bucket in read(engine, [jobs[1]], START, START + DAY.width, HOUR.width)}
    failed = found[START + 14 * HOUR.width]
    assert failed.ok == 0
    assert failed.failed + failed.error + failed.missed > 20
    assert failed.figures["rtt_avg_ms"] == figures.Figures(count=0, mean=None, min=None, max=None)
    assert START + 9 * HOUR.width not in found


def test_the_layer_of_fast_jobs_serves_only_where_it_is_whole(engine: Engine, jobs: tuple[int, int]) -> None:
    """A job whose narrowest roll-ups lack what its hours have is read from its results."""
    rolling.roll_up(engine, "ping")
    question = (list(jobs), START, START + DAY.width, dt.timedelta(minutes=15))
    before = read(engine, *question)
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM rollup_ping_5m WHERE bucket < :until"), {"until": START + 3 * HOUR.width}
        )
    same(read(engine, *question), before)


def test_what_has_expired_is_read_from_what_is_left(engine: Engine, jobs: tuple[int, int]) -> None:
    """With the results gone, hours and days answer; a range that begins amidst a bucket gets all of it."""
    rolling.roll_up(engine, "ping")
    question = ([jobs[1]], START, START + DAY.width, HOUR.width)
    before = read(engine, *question)
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM result_ping WHERE scheduled_at < :until"), {"until": START + DAY.width}
        )
        connection.execute(
            text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('ping', 'raw', :until)"),
            {"until": START + DAY.width},
        )
    same(read(engine, *question), before)
    inside = read(engine, [jobs[1]], START + dt.timedelta(minutes=7), START + DAY.width, HOUR.width)
    same(inside, before)
    with engine.connect() as connection:
        shown = series(
            connection,
            "ping",
            "rtt_avg_ms",
            [jobs[1]],
            start=START,
            end=START + 6 * HOUR.width,
        )
        assert layers.narrowest(connection, "ping", START) == HOUR.width
        assert layers.narrowest(connection, "ping", START + DAY.width) is None
    assert shown.bucket_s == 3600
    assert [point.value for point in shown.points] == [
        bucket.figures["rtt_avg_ms"].mean for bucket in before[:6]
    ]
    assert all(point.p50 and point.p95 and point.p50 < point.p95 for point in shown.points)


@pytest.mark.parametrize("seed", range(20))
def test_a_range_is_covered_once(seed: int) -> None:
    """Pieces follow each other without gap or overlap, whole buckets of a layer, none beyond its frontier."""
    chance = random.Random(seed)
    start = START + dt.timedelta(seconds=chance.randrange(10**6))
    end = start + dt.timedelta(seconds=chance.randrange(1, 10**6))
    done = {of.name: rollups.floor(end - chance.random() * (end - start), of.width) for of in LAYERS}
    standing = layers.Standing(done_until=done, gone_before={})
    chosen = [of for of in LAYERS if chance.random() < 0.7]
    pieces = layers.cover(start, end, chosen, standing)
    assert [piece.start for piece in pieces] == [start, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == end
    for piece in pieces:
        if piece.layer is not None:
            assert piece.start == rollups.floor(piece.start, piece.layer.width)
            assert piece.end == rollups.floor(piece.end, piece.layer.width) <= done[piece.layer.name]


def test_wide_buckets_come_from_wide_layers(engine: Engine, jobs: tuple[int, int]) -> None:
    """A day's bucket of a rolled-up range reads one row of the widest layer."""
    rolling.roll_up(engine, "ping")
    with engine.connect() as connection:
        done = dict(
            connection.execute(
                text("SELECT layer, done_until FROM rollup_frontiers WHERE kind = 'ping'")
            ).all()
        )
    standing = layers.Standing(done_until=done, gone_before={})
    assert [
        (piece.layer, piece.end - piece.start)
        for piece in layers.cover(START, START + 3 * DAY.width, [HOUR, DAY], standing)
    ] == [(DAY, 3 * DAY.width)]
    assert layers.cover(START, START + HOUR.width, [FIVE_MINUTES], standing)[0].layer == FIVE_MINUTES


def test_years_are_read_from_days_and_the_days_of_results_are_left_alone(
    engine: Engine, jobs: tuple[int, int]
) -> None:
    """Ten years of a job, all results kept: at most 500 points that add up, and only the newest day of results is opened."""
    job, today = jobs[0], rollups.floor(dt.datetime.now(dt.UTC), DAY.width)
    days = [today - number * DAY.width for number in range(4, 3650)]
    table = rollups.table(PING, DAY)
    row = {column.name: None if column.nullable else 0 for column in table.columns}
    row |= {"job_id": job, "runs_ok": 10, "rtt_avg_ms_n": 10, "rtt_avg_ms_sum": 50.0, "rtt_avg_ms_min": 4.0}
    with engine.begin() as connection:
        partitions.ensure_months(connection, table.name, days)
        partitions.ensure_partitions(connection, "ping", [day.date() for day in days[600:630]])
        connection.execute(insert(table), [row | {"bucket": day, "rtt_avg_ms_max": 6.0} for day in days])
    rolling.roll_up(engine, "ping")
    start, end = today - 3650 * DAY.width, dt.datetime.now(dt.UTC)
    plan = Plan(kind="ping", start=start, end=end, versions={}, unknown=())
    line = Line(
        test_id=1, kind="ping", worker_id=uuid.uuid4(), worker_name="", destination_id=None, destination_name="",
        target="", interval_s=30.0, live=True, job_ids=(job,),
    )  # fmt: skip
    with Session(engine) as session:
        shown = series(session, "ping", "rtt_avg_ms", [job], start=start, end=end, plan=plan)
        drawn = charts.bucket_for(session, {line: plan}, start=start, end=end)
        opened = session.execute(
            text(
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
                "WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'result_ping_2%'"
            )
        ).scalar_one()
    assert shown.bucket_s == 8 * 86_400
    assert drawn == 8 * DAY.width
    assert 450 <= len(shown.points) <= 500
    old = [point for point in shown.points if point.at < today - 12 * DAY.width]
    assert {point.value for point in old} == {5.0}
    assert sum(point.count for point in old) >= 10 * 3600
    assert opened <= 2
